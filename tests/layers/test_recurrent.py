"""Cells in `keras.layers.RNN`: masks, state, dropout, layouts; layer norm cells."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_norm
from keras_norm import LayerNormGRUCell, LayerNormLSTMCell, LayerNormSimpleRNNCell
from keras_norm.catalog import catalog
from tests.conformance.support import (
    MODES,
    arguments,
    assert_close,
    compiled,
    data,
    oracle,
    randomize,
    weights_of,
)

CELLS = catalog.of_kind("recurrent")
SHAPE = (4, 5, 6)
LENGTHS = np.array([5, 3, 1, 4])
MASK = np.arange(5) < LENGTHS[:, None]

every_cell = pytest.mark.parametrize("row", CELLS, ids=lambda row: row.name)


def recurrent(row, shape=SHAPE, cell=None, **kwargs):
    layer = keras.layers.RNN(cell or row.build(), **kwargs)
    layer.build(shape)
    return randomize(layer)


@every_cell
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unrolled"])
def test_loops_and_masks_say_what_the_paper_says(row, unroll, mode):
    x = data(SHAPE)
    for training in (False, True):
        layer = recurrent(row, return_sequences=True, unroll=unroll)
        initial, weights = layer.get_weights(), weights_of(layer)
        run = compiled(lambda x, m, t=training, f=layer: f(x, mask=m, training=t), mode)
        for mask in (None, MASK, MASK[:, ::-1]):
            layer.set_weights(initial)
            y = run(tf.constant(x), None if mask is None else tf.constant(mask))
            expected, state, _ = oracle(row, x, weights, arguments(row), training, mask)
            assert_close(y, expected, row.tolerance)
            for name, value in state.items() if training else ():
                assert_close(weights_of(layer)[name], value, 2e-6, 1.0)


@every_cell
def test_padded_equals_unpadded_in_both_directions(row):
    """Padding at the end, which the backward direction meets first."""
    layer = keras.layers.Bidirectional(keras.layers.RNN(row.build(), return_sequences=True))
    layer.build(SHAPE)
    randomize(layer)
    x = data(SHAPE)
    x[~MASK] = 99.0
    y = layer(x, mask=MASK).numpy()
    for sample, length in enumerate(LENGTHS):
        alone = layer(x[sample : sample + 1, :length]).numpy()
        assert_close(y[sample : sample + 1, :length], alone, 2e-6)


@every_cell
def test_bidirectional_reverses_a_copy(row):
    layer = keras.layers.Bidirectional(keras.layers.RNN(row.build(dropout=0.25)))
    backward = layer.backward_layer
    assert backward.go_backwards and backward.cell is not layer.forward_layer.cell
    config = layer.forward_layer.cell.get_config()
    assert {**backward.cell.get_config(), "name": None} == {**config, "name": None}


@every_cell
def test_halves_of_a_stateful_sequence_equal_the_whole(row):
    whole = recurrent(row, return_sequences=True)
    halves = keras.layers.RNN(row.build(), return_sequences=True, stateful=True)
    halves.build(SHAPE)
    halves.cell.set_weights(whole.cell.get_weights())
    x = data(SHAPE)
    expected = whole(x).numpy()
    for _ in range(2):
        parts = [halves(x[:, :2]), halves(x[:, 2:])]
        assert_close(np.concatenate(parts, axis=1), expected, 2e-6)
        halves.reset_state()


@every_cell
def test_returned_states_go_in_again(row):
    layer = recurrent(row, return_state=True)
    x = data(SHAPE)
    expected, *_ = layer(x)
    _, *states = layer(x[:, :3])
    y, *states = layer(x[:, 3:], initial_state=states)
    assert_close(y, expected.numpy(), 2e-6)
    np.testing.assert_array_equal(states[0], y)


@every_cell
@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unrolled"])
def test_one_dropout_mask_serves_a_whole_sequence(row, unroll):
    """Dropping inputs is dropping them before; dropping units for all samples, rows of a kernel."""
    cell = row.build(dropout=0.5, recurrent_dropout=0.5)
    layer = recurrent(row, cell=cell, return_sequences=True, unroll=unroll)
    generator = np.random.default_rng(0)
    inputs = 2.0 * generator.integers(0, 2, (4, 6)).astype("float32")
    units = np.array([[2.0, 0.0, 2.0, 2.0]], "float32") * np.ones((4, 1), "float32")
    drawn = []

    def draw(mask):
        def dropout(ones):
            np.testing.assert_array_equal(ones, np.ones(mask.shape))
            drawn.append(mask)
            return tf.constant(mask)

        return dropout

    cell._input_dropout, cell._state_dropout = draw(inputs), draw(units)
    x, weights = data(SHAPE), weights_of(layer)
    y = layer(x, training=True)
    assert len(drawn) == 2
    weights["recurrent_kernel"] = units[0][:, None] * weights["recurrent_kernel"]
    expected, _, _ = oracle(row, x * inputs[:, None], weights, arguments(row), True)
    assert_close(y, expected, row.tolerance)


@every_cell
@pytest.mark.parametrize("which", ["dropout", "recurrent_dropout"])
def test_masks_are_drawn_anew_for_each_batch_and_not_in_inference(row, which):
    plain = recurrent(row, return_sequences=True)
    layer = recurrent(row, cell=row.build(**{which: 0.5}, seed=1), return_sequences=True)
    x = data(SHAPE)
    call = tf.function(lambda x: layer(x, training=True))
    first, second = call(x).numpy(), call(x).numpy()
    again = recurrent(row, cell=row.build(**{which: 0.5}, seed=1), return_sequences=True)
    assert np.abs(first - second).max() > 1e-3
    assert_close(again(x, training=True), first, row.tolerance)
    np.testing.assert_array_equal(plain(x), recurrent(row, return_sequences=True)(x))

    inference = recurrent(row, cell=row.build(**{which: 0.5}), return_sequences=True)
    np.testing.assert_array_equal(inference(x), plain(x))
    traced = tf.function(lambda x: inference(x, training=False))
    graph = traced.get_concrete_function(tf.TensorSpec(SHAPE)).graph
    assert not [op for op in graph.get_operations() if "Random" in op.type or "Assign" in op.type]


@every_cell
def test_cells_in_a_stack(row):
    cells = [row.build(dropout=0.25), row.build(recurrent_dropout=0.25)]
    layer = keras.layers.RNN(cells, return_sequences=True)
    layer.build(SHAPE)
    randomize(layer)
    x = data(SHAPE)
    first, second = (recurrent(row, return_sequences=True) for _ in cells)
    second = recurrent(row, (*SHAPE[:2], 4), return_sequences=True)
    for one, cell in zip((first, second), cells, strict=True):
        one.cell.set_weights(cell.get_weights())
    assert_close(layer(x), second(first(x)).numpy(), 2e-6)
    assert np.isfinite(layer(x, training=True)).all()


@every_cell
def test_arguments_stand_where_those_of_kerass_cell_stand(row):
    twin = {"SimpleRNN": keras.layers.SimpleRNNCell, "LSTM": keras.layers.LSTMCell}
    (kind,) = [k for k in ("SimpleRNN", "LSTM", "GRU") if k in row.name]
    theirs = inspect.signature(twin.get(kind, keras.layers.GRUCell)).parameters
    ours = [
        p
        for p in inspect.signature(row.layer).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    wanted = [theirs[n] for n in theirs if n not in ("kwargs", "reset_after")]
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in wanted]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LayerNormSimpleRNNCell, keras.layers.SimpleRNNCell),
        (LayerNormLSTMCell, keras.layers.LSTMCell),
        (LayerNormGRUCell, keras.layers.GRUCell),
    ],
)
def test_kernels_and_biases_of_kerass_cells_fit(ours, theirs):
    cells = ours(4), theirs(4)
    for cell in cells:
        cell.build((None, 6))
    first = [(w.name, tuple(w.shape)) for w in cells[0].weights[:3]]
    assert first == [(w.name, tuple(w.shape)) for w in cells[1].weights]
    np.testing.assert_array_equal(cells[0].weights[2], cells[1].weights[2])  # forget bias 1


@pytest.mark.parametrize("use_bias", [True, False])
@every_cell
def test_bias_can_be_left_out(row, use_bias):
    layer = recurrent(row, cell=row.build(use_bias=use_bias), return_sequences=True)
    assert ("bias" in weights_of(layer)) == use_bias
    expected, _, _ = oracle(row, data(SHAPE), weights_of(layer), arguments(row), False)
    assert_close(layer(data(SHAPE)), expected, 2e-6)


def test_forget_bias_can_start_at_zero():
    cell = LayerNormLSTMCell(3, unit_forget_bias=False)
    cell.build((None, 2))
    np.testing.assert_array_equal(cell.bias, np.zeros(12))


def addons_lstm(x, weights, epsilon=1e-3):
    """TensorFlow Addons's equations, for all samples at once, from its list of nine weights."""
    kernel, recurrent_kernel, bias, *norms = weights

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    def norm(a, place):
        centred = a - a.mean(1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(1, keepdims=True) + epsilon)
        return centred / spread * norms[2 * place] + norms[2 * place + 1]

    h = c = np.zeros((len(x), len(recurrent_kernel)))
    for step in np.moveaxis(x, 1, 0):
        z = norm(step @ kernel, 0) + norm(h @ recurrent_kernel, 1) + bias
        i, f, new, o = np.split(z, 4, axis=1)
        c = norm(sigmoid(f) * c + sigmoid(i) * np.tanh(new), 2)
        h = sigmoid(o) * np.tanh(c)
    return h, c


def test_addons_layout_takes_weights_of_addons():
    row, x = catalog["layer-lstm"], data((3, 20, 6))
    layer = recurrent(row, x.shape, row.build(layout="addons"), return_state=True)
    weights = [w.astype("float64") for w in layer.get_weights()]
    expected_h, expected_c = addons_lstm(x.astype("float64"), weights)
    y, h, c = layer(x)
    assert_close(y, expected_h, 2e-6)
    assert_close(h, expected_h, 2e-6)
    assert_close(c, expected_c, 4e-6)


def test_layouts_differ_in_what_the_next_step_gets():
    row, x = catalog["layer-lstm"], data(SHAPE)
    paper, addons = (
        recurrent(row, cell=row.build(layout=layout), return_sequences=True)(x).numpy()
        for layout in ("paper", "addons")
    )
    np.testing.assert_array_equal(paper[:, 0], addons[:, 0])
    assert np.abs(paper[:, 1:] - addons[:, 1:]).max() > 0.01


@every_cell
def test_a_constant_prefix_is_finite(row):
    layer = recurrent(row)
    x = data((4, 12, 6))
    x[:, :6] = 0.0
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = layer(tensor, training=True)
    assert np.isfinite(y).all()
    for gradient in tape.gradient(y, [tensor, *(w.value for w in layer.trainable_weights)]):
        assert np.isfinite(gradient).all()


@every_cell
def test_batch_can_be_empty(row):
    for training in (False, True):
        layer = recurrent(row, return_sequences=True)
        before = weights_of(layer)
        assert layer(np.ones((0, 5, 6), "float32"), training=training).shape == (0, 5, 4)
        for name, value in weights_of(layer).items():
            np.testing.assert_array_equal(value, before[name])


@every_cell
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"units": 0}, "`units` must be an integer of at least 1. Received: units=0"),
        ({"units": 2.0}, "Received: units=2.0"),
        ({"dropout": 1.0}, "`dropout` must be below 1: nothing would be left. Received: dropout"),
        ({"recurrent_dropout": -0.1}, "`recurrent_dropout` must be a finite number from 0 to 1"),
        ({"epsilon": 0.0}, "`epsilon` must be a finite number above 0"),
        ({"seed": "a"}, "`seed` must be an integer of at least 0"),
    ],
)
def test_wrong_arguments(row, wrong, text):
    with pytest.raises(ValueError) as error:
        row.build(**wrong)
    assert text in str(error.value)


@every_cell
def test_features_must_be_known(row):
    with pytest.raises(ValueError, match="last axis of the input must be defined"):
        row.build().build((None, None))


def test_layout_must_be_known():
    with pytest.raises(ValueError, match=r"`layout` must be one of 'paper', 'addons'"):
        LayerNormLSTMCell(4, layout="keras")


@pytest.mark.parametrize("cell", [LayerNormSimpleRNNCell, LayerNormGRUCell])
def test_beta_is_the_bias_where_there_is_one_for_each_norm(cell):
    with pytest.raises(ValueError, match="Unrecognized keyword arguments"):
        cell(4, beta_initializer="zeros")


@pytest.mark.parametrize("short", ["layer-lstm", "batch-lstm"])
def test_loops_export_where_the_batch_is_fixed(short, tmp_path):
    """As one WHILE; unrolled, any batch size will do."""
    inputs = keras.Input((5, 6))
    masked = keras.layers.Masking(0.0)(inputs)
    layer = keras.layers.RNN(catalog[short].build(dropout=0.2))
    model = randomize(keras.Model(inputs, layer(masked)))
    x = data((6, 5, 6))
    x[:, 3:] = 0.0
    path = keras_norm.export_litert(model, tmp_path / "m.tflite", input_shape=(1, 5, 6))
    result = keras_norm.verify(model, path, data=x)
    assert result.passed, str(result)
    with pytest.raises(ValueError, match="unroll=True"):
        keras_norm.export_litert(model, tmp_path / "m.tflite", input_shape=(None, 5, 6))
