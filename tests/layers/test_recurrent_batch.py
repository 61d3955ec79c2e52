"""Batch norm cells: statistics of each step, padding, noise, and who may train them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_norm import BatchNormalization, BatchNormLSTMCell
from keras_norm.catalog import catalog
from tests.backends import run_on
from tests.conformance.support import assert_close, data, oracle, randomize, weights_of

ROW = catalog["batch-lstm"]
SHAPE = (4, 5, 6)
LENGTHS = np.array([5, 3, 2, 4])
MASK = np.arange(5) < LENGTHS[:, None]


def recurrent(cell, shape=SHAPE, **kwargs):
    layer = keras.layers.RNN(cell, return_sequences=True, **kwargs)
    layer.build(shape)
    return randomize(layer)


def moving(layer):
    return {name: value for name, value in weights_of(layer).items() if "_moving_" in name}


@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unrolled"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_statistics_after_many_batches_equal_their_replay(unroll, jit_compile):
    settings = {"units": 4, "max_steps": 5, "momentum": 0.9}
    layer = recurrent(BatchNormLSTMCell(**settings), unroll=unroll)
    train = tf.function(lambda x: layer(x, training=True), jit_compile=jit_compile)
    weights = weights_of(layer)
    for seed in range(30):
        x = data(SHAPE, seed)
        train(tf.constant(x))
        _, state, _ = oracle(ROW, x, weights, settings, True)
        weights = {**weights, **state}
    for name, value in moving(layer).items():
        assert_close(value, weights[name], 1e-5, 1.0)


def test_steps_beyond_the_last_use_its_statistics_and_leave_them():
    layer = recurrent(BatchNormLSTMCell(4, max_steps=2, momentum=0.0))
    x = data(SHAPE)
    layer(x[:, :2], training=True)
    short = moving(layer)
    layer(x, training=True)
    for name, value in moving(layer).items():
        assert_close(value, short[name], 2e-6, 1.0)
    weights = weights_of(layer)
    longer = recurrent(BatchNormLSTMCell(4, max_steps=5))
    rows = [0, 1, 1, 1, 1]
    values = {n: v[rows] if "_moving_" in n else v for n, v in weights.items()}
    longer.set_weights([values[w.name] for w in longer.weights])
    np.testing.assert_array_equal(layer(x), longer(x))


def test_a_sequence_that_goes_on_counts_on():
    layer = recurrent(BatchNormLSTMCell(4, max_steps=5, momentum=0.0), return_state=True)
    x = data(SHAPE)
    _, *states = layer(x[:, :2], training=True)
    np.testing.assert_array_equal(states[2], [[0.0, 2.0]] * 4)
    before = moving(layer)
    layer(x[:, 2:], initial_state=states, training=True)
    for name, value in moving(layer).items():
        np.testing.assert_array_equal(value[:2], before[name][:2])
        assert (value[2:] != before[name][2:]).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_counts_beyond_what_it_can_hold(policy):
    """bfloat16 has no 257, float16 no 2049."""
    cell = BatchNormLSTMCell(2, max_steps=4000, dtype=policy)
    cell.build((None, 3))
    number = tf.zeros((1, 2), cell.compute_dtype)
    for _ in range(2):
        for count in (1, 2, 255, 256, 257, 2047, 2048, 2049, 3999, 4000, 4000):
            before = min(count, 4000) - 1
            digits = tf.constant([[before // 256, before % 256]], cell.compute_dtype)
            *_, number = cell(tf.ones((1, 3)), [tf.zeros((1, 2))] * 2 + [digits])[1]
            assert number.dtype == cell.compute_dtype
            assert (np.array(number, "float32") @ [256, 1]).tolist() == [count]
    _, (_, _, number) = cell(tf.ones((1, 3)), [tf.zeros((1, 2))] * 2 + [number])
    assert (np.array(number, "float32") @ [256, 1]).tolist() == [4000]


@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unrolled"])
def test_padding_does_not_count_where_it_is_known(unroll):
    """One batch, padded by two steps more or less, and with samples that are padding only."""
    x = data(SHAPE) * MASK[..., None]
    longer = np.concatenate([x, np.zeros((4, 2, 6), "float32")], axis=1)
    longer = np.concatenate([longer, np.zeros((2, 7, 6), "float32")])
    mask = (longer != 0).any(-1)
    results = []
    for inputs, valid in ((x, MASK), (longer, mask)):
        layer = recurrent(BatchNormLSTMCell(4, max_steps=9, mask_value=0.0), unroll=unroll)
        y = layer(inputs, mask=valid, training=True).numpy()
        results.append((y[:4, :5], moving(layer)))
    assert_close(results[1][0], results[0][0], 2e-5)
    for name, value in results[0][1].items():
        assert_close(results[1][1][name], value, 2e-6, 1.0)
    unaware = recurrent(BatchNormLSTMCell(4, max_steps=9), unroll=unroll)
    unaware(longer, mask=mask, training=True)
    name = "kernel_moving_mean"
    assert np.abs(moving(unaware)[name][0] - results[0][1][name][0]).max() > 1e-3


def test_masking_and_zeroed_outputs_make_padding_known():
    inputs = keras.Input((5, 6))
    x = keras.layers.Masking(-7.0)(inputs)
    for _ in range(2):
        cell = BatchNormLSTMCell(6, max_steps=5, mask_value=0.0, momentum=0.0)
        x = keras.layers.RNN(cell, return_sequences=True, zero_output_for_mask=True)(x)
    model = randomize(keras.Model(inputs, x))
    padded = data((4, 5, 6))
    padded[:, 3:] = -7.0
    before = [moving(layer) for layer in model.layers[-2:]]
    model(padded, training=True)
    for layer, old in zip(model.layers[-2:], before, strict=True):
        for name, value in moving(layer).items():
            assert (value[:3] != old[name][:3]).all()
            np.testing.assert_array_equal(value[3:], old[name][3:])


def test_steps_that_are_not_finite_do_not_enter():
    layer = recurrent(BatchNormLSTMCell(4, max_steps=5, momentum=0.5))
    before = moving(layer)
    x = data(SHAPE)
    x[0, 2, 0] = np.nan
    layer(x, training=True)
    for name, value in moving(layer).items():
        assert (value[:2] != before[name][:2]).all()
        np.testing.assert_array_equal(value[2:], before[name][2:])


def test_each_sequence_moves_the_moments_once_also_in_a_stack():
    """Keras calls cells of a stack once more, and the first step of a loop twice."""
    cells = [BatchNormLSTMCell(6, max_steps=5, momentum=0.5) for _ in range(2)]
    stack = keras.layers.RNN(cells, return_sequences=True)
    stack.build(SHAPE)
    randomize(stack)
    one, two = (recurrent(BatchNormLSTMCell(6, max_steps=5, momentum=0.5)) for _ in cells)
    for layer, cell in zip((one, two), cells, strict=True):
        layer.cell.set_weights(cell.get_weights())
    x = data(SHAPE)
    stack(x, training=True)
    two(one(x, training=True), training=True)
    for layer, cell in zip((one, two), cells, strict=True):
        for name, value in moving(layer).items():
            assert_close(moving(cell)[name], value, 2e-5, 1.0)


def test_a_cell_on_its_own_moves_nothing():
    cell = BatchNormLSTMCell(4, max_steps=5)
    layer = recurrent(cell)
    before, x = moving(cell), data(SHAPE)
    y, _ = cell(x[:, 0], cell.get_initial_state(4), training=True)
    assert_close(layer(x, training=True)[:, 0], y, 2e-6)
    layer.set_weights([{**weights_of(layer), **before}[w.name] for w in layer.weights])
    cell(x[:, 0], cell.get_initial_state(4), training=True)
    layer(x)
    for name, value in moving(cell).items():
        np.testing.assert_array_equal(value, before[name])


def test_noise_is_on_the_first_state_and_in_training_alone():
    """Sequences that begin alike have no variance without it."""
    x = np.zeros(SHAPE, "float32")
    for noise in (0.0, 0.3):
        cell = BatchNormLSTMCell(4, max_steps=5, initial_noise=noise, momentum=0.0, seed=1)
        layer = recurrent(cell)
        y = layer(x, training=True)
        assert (np.ptp(y, axis=0).max() > 0.01) == bool(noise)
        variance = weights_of(cell)["recurrent_moving_variance"][0]
        assert (variance > 1e-4).all() == bool(noise)
        np.testing.assert_array_equal(cell.get_initial_state(3)[0], np.zeros((3, 4)))
        np.testing.assert_array_equal(layer(x)[:1], layer(x)[1:2])


def test_inputs_normalized_over_whole_sequences():
    """The authors' form for sequences of many lengths; `BatchNormalization` knows the mask."""
    inputs = keras.Input((5, 6))
    x = keras.layers.Dense(16, use_bias=False)(keras.layers.Masking(0.0)(inputs))
    x = BatchNormalization(epsilon=1e-5, center=False)(x)
    layer = keras.layers.RNN(BatchNormLSTMCell(4, max_steps=5, sequence_wise_inputs=True))
    model = randomize(keras.Model(inputs, layer(x)))
    padded = data(SHAPE) * MASK[..., None]
    y = model(padded, training=True).numpy()

    kernel, gamma = (w.numpy().astype("float64") for w in model.weights[:2])
    term = padded.astype("float64") @ kernel
    mean, variance = term[MASK].mean(0), term[MASK].var(0)
    term = gamma * (term - mean) / np.sqrt(variance + 1e-5)
    settings = {"units": 4, "max_steps": 5, "sequence_wise_inputs": True}
    expected, _, _ = oracle(ROW, term, weights_of(layer), settings, True, MASK)
    assert_close(y, expected[:, -1], 2e-5)
    assert [w.name for w in layer.weights if w.name.startswith("kernel")] == []


def test_starts_as_the_paper_says():
    cell = BatchNormLSTMCell(4, max_steps=2)
    cell.build((None, 6))
    weights = weights_of(cell)
    for term in ("kernel", "recurrent", "state"):
        np.testing.assert_array_equal(weights[f"{term}_gamma"], np.float32(0.1))
    assert cell.epsilon == 1e-5 and cell.momentum == 0.99
    assert not weights["state_beta"].any()
    assert "kernel_beta" not in weights and "recurrent_beta" not in weights
    np.testing.assert_array_equal(weights["bias"], [0.0] * 4 + [1.0] * 4 + [0.0] * 8)
    recurrent_kernel = weights["recurrent_kernel"]
    assert_close(recurrent_kernel @ recurrent_kernel.T, np.eye(4), 1e-5)


def test_replicas_stay_together():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = keras.layers.RNN(BatchNormLSTMCell(4, max_steps=5, momentum=0.0))
        layer.build(SHAPE)
        randomize(layer)
    x = data((8, 5, 6))
    alone = []
    for half in (x[:4], x[4:]):
        single = keras.layers.RNN(BatchNormLSTMCell(4, max_steps=5, momentum=0.0))
        single.build(SHAPE)
        single.set_weights([w.numpy() for w in layer.weights])
        single(half, training=True)
        alone.append(moving(single))

    def shard(context):
        index = context.replica_id_in_sync_group
        return tf.constant(x[4 * index : 4 * index + 4])

    halves = strategy.experimental_distribute_values_from_function(shard)
    tf.function(lambda x: strategy.run(lambda x: layer(x, training=True), (x,)))(halves)
    for weight in layer.weights:
        if weight.name in alone[0]:
            first, second = (v.numpy() for v in strategy.experimental_local_results(weight.value))
            np.testing.assert_array_equal(first, second)
            assert_close(first, (alone[0][weight.name] + alone[1][weight.name]) / 2, 2e-6, 1.0)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"max_steps": 0}, "`max_steps` must be an integer of at least 1"),
        ({"max_steps": 65537}, "`max_steps` must be at most 65536. Received: max_steps=65537"),
        ({"max_steps": 2.5}, "Received: max_steps=2.5"),
        ({"momentum": 1.5}, "`momentum` must be a finite number from 0 to 1"),
        ({"mask_value": float("nan")}, "`mask_value` must be a finite number"),
        ({"initial_noise": -1.0}, "`initial_noise` must be a finite number of at least 0"),
    ],
)
def test_wrong_arguments(wrong, text):
    with pytest.raises(ValueError) as error:
        ROW.build(**wrong)
    assert text in str(error.value)


def test_number_of_steps_must_be_given():
    with pytest.raises(TypeError, match="max_steps"):
        BatchNormLSTMCell(4)


def test_normalized_inputs_must_be_as_wide_as_the_gates():
    cell = BatchNormLSTMCell(4, max_steps=2, sequence_wise_inputs=True)
    with pytest.raises(ValueError, match=r"`sequence_wise_inputs` must be False .*\(None, 6\)"):
        cell.build((None, 6))


SCRIPT = """
import keras
import numpy as np
from keras_norm import BatchNormLSTMCell
x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")

def loop():
    return keras.layers.RNN(BatchNormLSTMCell(4, max_steps=5))

def refused(call):
    try:
        call()
    except ValueError as error:
        assert "`unroll` must be True where JAX trains this cell" in str(error), error
        return True

loop()(x)
assert refused(lambda: loop()(x, training=True))
model = keras.Sequential([keras.Input((5, 6)), loop(), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.predict(x, verbose=0)
assert refused(lambda: model.fit(x, x[:, 0, :1], verbose=0))
"""


def test_jax_refuses_to_lose_statistics():
    run_on("jax", SCRIPT)
