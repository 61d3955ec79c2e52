"""`fit` works, what must move does, and the truth table of training and trainable holds."""

import keras
import numpy as np
import pytest

from tests.conformance.support import affine, built, data, inputs_of, several, weights_of


def small_model(row, optimizer, **compile_arguments):
    norm, inputs = row.example(**affine(row)), inputs_of(row)
    first, *others = inputs if several(row.input_shape) else [inputs]
    x = keras.layers.Dense(6, activation="tanh")(first)
    x = norm([x, *others] if others else x)
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(x)))
    model.compile(optimizer, "mse", **compile_arguments)
    return model, norm


def samples(row, number):
    """Inputs, and targets that depend on the first of them."""
    shape = row.input_shape
    if several(shape):
        x = data(tuple((number, *one[1:]) for one in shape))
        return x, x[0].reshape(number, -1)[:, :3].sum(-1, keepdims=True)
    x = data((number, *shape[1:]))
    return x, x.reshape(number, -1)[:, :3].sum(-1, keepdims=True)


def descent():
    """Adam is most of what there is to trace and to compile; it runs in one mode."""
    return keras.optimizers.SGD(0.2, global_clipnorm=1.0)


@pytest.mark.parametrize(
    ("how", "policy", "optimizer"),
    [
        ({"run_eagerly": True}, "float32", descent),
        ({"jit_compile": False}, "mixed_float16", lambda: keras.optimizers.Adam(0.03)),
        ({"jit_compile": True}, "float32", descent),
    ],
    ids=["eager", "graph, mixed_float16", "xla"],
)
def test_fit_lowers_the_loss_and_moves_what_must_move(row, how, policy, optimizer):
    keras.config.set_dtype_policy(policy)
    model, norm = small_model(row, optimizer(), **how)
    before = weights_of(norm)
    x, y = samples(row, 24)
    losses = model.fit(x, y, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]
    for weight in norm.weights:
        value = weight.numpy()
        assert np.isfinite(value).all()
        moves = weight.trainable or row.training_differs
        assert moves != np.array_equal(value, before[weight.name]), weight.name


def test_truth_table_of_training_and_trainable(row):
    x = data(row.input_shape)
    for training in (True, False, None):
        for trainable in (True, False):
            layer = built(row)
            layer.trainable = trainable
            before = weights_of(layer)
            y = layer(x, training=training).numpy()
            moved = any(not np.array_equal(v, before[k]) for k, v in weights_of(layer).items())
            assert moved == (bool(training) and trainable and row.training_differs)
            inference = built(row)(x, training=False).numpy()
            assert np.array_equal(y, inference) or moved
            if moved:
                assert not np.allclose(y, inference, atol=1e-3)


def test_frozen_inside_a_nested_model_means_inference(row):
    inputs, again = inputs_of(row), inputs_of(row)
    inner = keras.Model(inputs, built(row)(inputs))
    outer = keras.Model(again, inner(again))
    x = data(row.input_shape)
    expected = outer(x, training=False).numpy()
    outer.trainable = False
    before = outer.get_weights()
    np.testing.assert_array_equal(outer(x, training=True), expected)
    for now, then in zip(outer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_not_finite_batch_never_enters_the_weights(norm):
    layer = built(norm)
    before = weights_of(layer)
    squares = "moving_variance" in before  # those of 1e25 are no float32
    for poison in (np.nan, np.inf, *([1e25] if squares else [])):
        x = data(norm.input_shape)
        x.flat[3] = poison
        layer(x, training=True)
    for name, value in weights_of(layer).items():
        assert name == "step" or np.array_equal(value, before[name]), name


def test_a_nan_stays_within_its_sample(norm):
    """Unless the layer mixes samples, which its norm then does not deny."""
    layer, x = built(norm), data(norm.input_shape)
    clean = layer(x, training=True).numpy()
    x[0].flat[0] = np.nan
    poisoned = layer(x, training=True).numpy()
    assert np.isnan(poisoned[0]).any()
    alone = np.array_equal(poisoned[1:], clean[1:])
    assert alone == ("batch" in norm.invariances)


def test_a_call_that_fails_leaves_the_weights(norm):
    layer = built(norm)
    before = weights_of(layer)
    wrong = np.ones((norm.input_shape[0] + 3, *norm.input_shape[1:-1]), bool)
    with pytest.raises(ValueError, match="mask"):
        layer(data(norm.input_shape), training=True, mask=wrong)
    for name, value in weights_of(layer).items():
        np.testing.assert_array_equal(value, before[name])


def test_two_trainings_are_bitwise_equal(row):
    runs = []
    for _ in range(2):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(7)
        model, _ = small_model(row, "sgd", jit_compile=False)
        x, y = samples(row, 16)
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        runs.append(model.get_weights())
    for first, second in zip(*runs, strict=True):
        assert np.isfinite(first).all()
        np.testing.assert_array_equal(first, second)
