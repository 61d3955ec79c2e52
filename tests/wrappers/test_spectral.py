"""σ is right, moves when it may, and lets the gradient through."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_norm
from keras_norm.ops.weights import power_iteration


def built(layer, shape, kernel=None, **arguments):
    wrapper = keras_norm.SpectralNormalization(layer, **arguments)
    wrapper.build(shape)
    if kernel is not None:
        wrapper.layer.kernel.assign(kernel)
    return wrapper


def sigma_of(wrapper):
    """What the wrapper divides the kernel by."""
    ((kernel, effective),) = wrapper.effective_weights()
    return float(np.linalg.norm(kernel) / np.linalg.norm(effective))


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("layer", "shape", "matrix"),
    [
        (layers.Dense(7), (2, 9), lambda k: k),
        (layers.Conv2D(7, 3), (2, 5, 5, 4), lambda k: k.reshape(-1, 7)),
        (layers.Conv2DTranspose(7, 3), (2, 5, 5, 4), lambda k: np.moveaxis(k, 2, 3).reshape(-1, 7)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (2, 5, 5, 4), lambda k: k.reshape(9, 8)),
    ],
    ids=["Dense", "Conv2D", "Conv2DTranspose", "DepthwiseConv2D"],
)
def test_fifty_steps_find_the_largest_singular_value(layer, shape, matrix):
    wrapper = built(layer, shape)
    wrapper.layer.kernel.assign(random(wrapper.layer.kernel.shape))
    for _ in range(50):
        wrapper(np.ones(shape, "float32"), training=True)
    exact = np.linalg.svd(matrix(wrapper.layer.kernel.numpy()), compute_uv=False)[0]
    assert sigma_of(wrapper) == pytest.approx(exact, rel=1e-3)
    assert np.linalg.norm(wrapper.u) == pytest.approx(1.0, abs=1e-5)


def test_inference_before_any_training_is_normalized():
    wrapper = built(layers.Dense(32), (None, 64))
    ((_, effective),) = wrapper.effective_weights()
    assert np.linalg.svd(effective, compute_uv=False)[0] == pytest.approx(1.0, rel=0.02)


def test_a_u_orthogonal_to_the_leading_vector_recovers():
    """Plain power iteration stays where it is, for ever."""
    kernel = np.diag([3.0, 2.0, 1.0]).astype("float32")
    wrapper = built(layers.Dense(3), (None, 3), kernel)
    for start in np.eye(3, dtype="float32"):
        wrapper.u.assign(start)
        wrapper.v.assign(start)
        for _ in range(50):
            wrapper(np.ones((1, 3), "float32"), training=True)
        assert sigma_of(wrapper) == pytest.approx(3.0, rel=1e-5)


def test_the_nudge_costs_less_than_rounding_matters():
    for seed in range(5):
        matrix = random((20, 12), seed).astype("float64")
        u, v = power_iteration(tf.constant(matrix), tf.ones(12, "float64"), 200)
        exact = np.linalg.svd(matrix, compute_uv=False)[0]
        assert v.numpy() @ matrix @ u.numpy() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("bound", [None, 0.5, 50.0])
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_runs_through_sigma(bound, training):
    """As that of f(W / σ(W)) with u and v held constant."""
    wrapper, x = built(layers.Dense(5), (None, 6), norm_bound=bound), tf.constant(random((4, 6), 1))
    kernel = wrapper.layer.kernel
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(wrapper(x, training=training)))
    actual = tape.gradient(loss, kernel.value)
    weight = tf.Variable(kernel.numpy().astype("float64"))
    u, v = (tf.constant(w.numpy().astype("float64")) for w in (wrapper.u, wrapper.v))
    with tf.GradientTape() as tape:
        sigma = tf.einsum("i,ij,j->", v, weight, u)
        factor = 1 / sigma if bound is None else tf.minimum(bound / sigma, 1.0)
        loss = tf.reduce_sum(tf.sin(tf.cast(x, "float64") @ (weight * factor)))
    expected = tape.gradient(loss, weight)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    if bound is None:  # the gradient without σ's part is another
        constant = (
            tf.cast(x, "float64")[:, :, None]
            * tf.cos(tf.cast(x, "float64") @ (weight / sigma))[:, None, :]
        )
        assert np.abs(tf.reduce_sum(constant, 0) / sigma - expected).max() > 1e-2


def test_a_bound_only_shrinks():
    kernel = random((6, 5))
    exact = np.linalg.svd(kernel, compute_uv=False)[0]
    for bound in (0.5 * exact, 2.0 * exact):
        wrapper = built(layers.Dense(5), (None, 6), kernel, norm_bound=float(bound))
        for _ in range(50):
            wrapper(np.ones((1, 6), "float32"), training=True)
        ((_, effective),) = wrapper.effective_weights()
        largest = np.linalg.svd(effective, compute_uv=False)[0]
        assert largest == pytest.approx(min(exact, bound), rel=1e-3)


def test_two_calls_in_one_step_leave_the_stored_kernel():
    """A GAN's critic sees real and generated data; u moves twice, and the kernel does not."""
    wrapper, x = built(layers.Dense(5), (None, 6)), random((4, 6))
    before, u = wrapper.layer.kernel.numpy(), wrapper.u.numpy()

    @tf.function
    def step():
        return wrapper(x, training=True), wrapper(x, training=True)

    first, second = step()
    np.testing.assert_array_equal(wrapper.layer.kernel, before)
    assert not np.array_equal(wrapper.u, u)
    np.testing.assert_allclose(first, second, rtol=0, atol=0.02)
    for _ in range(200):
        first, second = step()
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)


def test_only_training_moves_u_and_v():
    wrapper, x = built(layers.Dense(5), (None, 6)), random((4, 6))
    before = wrapper.get_weights()

    def moved():
        pairs = zip(wrapper.weights, before, strict=True)
        return {w.name for w, value in pairs if not np.array_equal(w, value)}

    wrapper(x)
    wrapper(x, training=False)
    wrapper.trainable = False
    wrapper(x, training=True)
    assert moved() == set()
    wrapper.trainable = True
    wrapper(x, training=True)
    assert moved() == {"u", "v"}


def test_more_iterations_in_one_step_are_more_steps():
    kernel = random((6, 5), 3)
    once, thrice = (built(layers.Dense(5), (None, 6), kernel, power_iterations=n) for n in (1, 3))
    x = random((2, 6))
    for wrapper in (once, thrice):
        wrapper.u.assign(np.eye(5, dtype="float32")[0])
    for _ in range(3):
        once(x, training=True)
    thrice(x, training=True)
    np.testing.assert_allclose(once.u, thrice.u, atol=1e-6)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", None])
def test_bad_power_iterations(value):
    with pytest.raises(ValueError, match="`power_iterations` must be an integer of at least 1"):
        keras_norm.SpectralNormalization(layers.Dense(3), power_iterations=value)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), "1", True])
def test_bad_bounds(value):
    with pytest.raises(ValueError, match="`norm_bound` must be a finite number above 0"):
        keras_norm.SpectralNormalization(layers.Dense(3), norm_bound=value)


def test_cells_whose_state_cannot_change_within_a_loop(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"must not be a cell with this backend.*class LSTMCell"):
        keras_norm.SpectralNormalization(layers.LSTMCell(3))
    keras_norm.SpectralNormalization(layers.LSTM(3))
