"""What is peculiar to EvoNorms, the thresholded linear unit and dynamic tanh."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_norm
from tests.backends import run_on
from tests.conformance.support import MODES, assert_close, backward, data

SHAPE = (4, 3, 5, 6)


def test_evonorm_b0_keeps_a_variance_and_no_mean():
    layer = keras_norm.EvoNormB0(momentum=0.75)
    x = data(SHAPE)
    layer(x, training=True)
    assert [w.name for w in layer.weights] == ["gamma", "beta", "v", "moving_variance"]
    expected = 0.75 + 0.25 * x.astype("float64").var((0, 1, 2))
    assert_close(layer.moving_variance, expected, 1e-6)
    with pytest.raises(ValueError, match=r"Unrecognized keyword.*moving_mean_initializer"):
        keras_norm.EvoNormB0(moving_mean_initializer="zeros")


def test_evonorm_b0_without_momentum_averages_the_batches_variances():
    layer = keras_norm.EvoNormB0(momentum=None)
    batches = [data(SHAPE, 1), data(SHAPE, 2) + 5.0, data((1, *SHAPE[1:]), 3)]
    for _ in range(2):
        for x in batches:
            layer(x, training=True)
        variances = [x.astype("float64").var((0, 1, 2)) for x in batches]
        expected = np.average(variances, axis=0, weights=[4, 4, 1])
        assert_close(layer.moving_variance, expected, 1e-6)
        layer.reset_moving_moments()
        np.testing.assert_array_equal(layer.moving_variance, np.ones(6))


def test_evonorm_b0_with_a_steep_v_tends_to_a_step():
    """x / max(deviation, v · x) is nearly 0 below 0, and nearly 1/v above."""
    x = data(SHAPE) * 100.0
    layer = keras_norm.EvoNormB0(v_initializer=keras.initializers.Constant(1e4))
    y = layer(x, training=True).numpy()
    above = x > 1.0
    assert_close(y[above], np.full(above.sum(), 1e-4), 0.2)
    deviation = np.sqrt(x.var((0, 1, 2)) + 1e-3)
    assert_close(y[x < 0], (x / deviation)[x < 0], 1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_evonorm_b0_at_ties_takes_the_gradient_of_the_batch(mode):
    """With one sample and v = 0 both sides of the maximum are equal everywhere."""
    shape = (1, *SHAPE[1:])
    x, dy = data(shape), data(shape, 3)
    layer = keras_norm.EvoNormB0(v_initializer="zeros")
    layer.build(shape)
    y, dx, dweights = backward(layer, mode, True)(x, dy)
    assert_close(y, x / np.sqrt(x.astype("float64").var((0, 1, 2)) + 1e-3), 2e-6)
    np.testing.assert_array_equal(dweights["v"], np.zeros(6))
    assert np.isfinite(dx).all() and np.abs(dx).max() > 0


def test_evonorm_b0_of_flat_images_is_beta_with_a_finite_gradient():
    layer = keras_norm.EvoNormB0(beta_initializer="ones")
    layer.build(SHAPE)
    zeros, dy = np.zeros(SHAPE, "float32"), data(SHAPE, 3)
    y, dx, dweights = backward(layer, "graph", True)(zeros, dy)
    np.testing.assert_array_equal(y, np.ones(SHAPE))
    assert_close(dx, dy / np.sqrt(1e-3), 1e-6)
    np.testing.assert_array_equal(dweights["v"], np.zeros(6))


def test_evonorm_b0_in_inference_still_sees_the_instance():
    layer = keras_norm.EvoNormB0(moving_variance_initializer=keras.initializers.Constant(1e-6))
    x = data(SHAPE)
    y = layer(x, training=False).numpy()
    own = x + np.sqrt(x.astype("float64").var((1, 2), keepdims=True) + 1e-3)
    assert_close(y, x / np.maximum(np.sqrt(1e-6 + 1e-3), own), 2e-6)


def test_evonorm_b0_needs_positions():
    with pytest.raises(ValueError, match=r"must have rank 3 or higher.*Add axes of space or time"):
        keras_norm.EvoNormB0()(data((4, 6)))


def test_evonorm_s0_is_group_norm_where_the_gate_is_constant():
    """At v = 0 the gate is 1/2; input without a mean has nothing to subtract."""
    x = data(SHAPE, dtype="float64")
    grouped = x.reshape(4, 15, 3, 2)
    x = (grouped - grouped.mean((1, 3), keepdims=True)).reshape(SHAPE).astype("float32")
    layer = keras_norm.EvoNormS0(groups=3, v_initializer="zeros")
    expected = keras_norm.GroupNormalization(groups=3, epsilon=1e-5)(x).numpy() / 2
    assert_close(layer(x), expected, 2e-6)


def test_evonorm_s0_with_a_steep_gate_is_a_relu_over_the_deviation():
    x = data(SHAPE)
    layer = keras_norm.EvoNormS0(groups=-1, v_initializer=keras.initializers.Constant(1e6))
    variance = x.astype("float64").var((1, 2), keepdims=True)
    assert_close(layer(x), np.maximum(x, 0) / np.sqrt(variance + 1e-5), 2e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["EvoNormB0", "EvoNormS0"])
def test_evonorm_of_huge_inputs_is_finite(name, mode):
    """v · x must neither overflow nor meet an infinity that turns it into NaN."""
    layer = getattr(keras_norm, name)(**({"groups": 2} if name == "EvoNormS0" else {}))
    layer.build(SHAPE)
    for size in (1e17, -1e17):
        x = (data(SHAPE) * size).astype("float32")
        y, dx, dweights = backward(layer, mode, True)(x, data(SHAPE, 3))
        for tensor in (y, dx, *dweights.values()):
            assert np.isfinite(tensor).all()


def test_evonorm_s0_groups_are_checked_and_kept():
    for value in (0, -2, 2.0, "2", True, None):
        with pytest.raises(ValueError) as error:
            keras_norm.EvoNormS0(groups=value)
        assert f"`groups` must be a positive integer or -1. Received: groups={value!r}" in str(
            error.value
        )
    with pytest.raises(ValueError, match=r"`groups` must divide.*groups=32 \(30 channels on axis"):
        keras_norm.EvoNormS0()(data((2, 4, 30)))
    layer = keras_norm.EvoNormS0(groups=-1)
    layer(data(SHAPE))
    assert layer.get_config()["groups"] == -1


def test_threshold_of_zero_is_relu():
    x = data(SHAPE)
    np.testing.assert_array_equal(keras_norm.ThresholdedLinearUnit()(x), np.maximum(x, 0))


def test_threshold_per_channel_or_per_position():
    """The second is what TensorFlow Addons's layer has."""
    x = data(SHAPE)
    for axis, shape in ((-1, (6,)), (1, (3,)), ([1, 2, 3], (3, 5, 6)), ([-1, 1], (3, 6))):
        layer = keras_norm.ThresholdedLinearUnit(axis, tau_initializer="random_normal")
        y = layer(x).numpy()
        assert layer.tau.shape == shape
        tau = layer.tau.numpy().reshape([n if n in shape else 1 for n in SHAPE[1:]])
        np.testing.assert_array_equal(y, np.maximum(x, tau))


def test_threshold_has_nothing_of_a_norm():
    for name in ("epsilon", "center", "scale", "gamma_initializer", "beta_constraint"):
        with pytest.raises(ValueError, match=rf"Unrecognized keyword.*{name}.*has no such term"):
            keras_norm.ThresholdedLinearUnit(**{name: None})
    layer = keras_norm.ThresholdedLinearUnit()
    layer.build(SHAPE)
    assert [w.name for w in layer.weights] == ["tau"]
    assert not {"epsilon", "center", "scale", "gamma_initializer"} & set(layer.get_config())


def test_threshold_regularizer_and_constraint_act():
    layer = keras_norm.ThresholdedLinearUnit(
        tau_initializer="ones", tau_regularizer=keras.regularizers.L2(0.5), tau_constraint="non_neg"
    )
    layer.build(SHAPE)
    assert float(sum(layer.losses)) == pytest.approx(3.0)
    assert isinstance(layer.tau.constraint, keras.constraints.NonNeg)


@pytest.mark.parametrize("mode", MODES)
def test_threshold_at_ties_passes_the_gradient_to_the_input(mode):
    """Zeros of padding meet thresholds that start at 0."""
    layer = keras_norm.ThresholdedLinearUnit()
    layer.build(SHAPE)
    dy = data(SHAPE, 3)
    _, dx, dweights = backward(layer, mode, True)(np.zeros(SHAPE, "float32"), dy)
    np.testing.assert_array_equal(dx, dy)
    np.testing.assert_array_equal(dweights["tau"], np.zeros(6))


ON_JAX = """
import jax, numpy as np
import keras_norm
from keras_norm.ops import larger
layer = keras_norm.ThresholdedLinearUnit()
layer.build((1, 3))
x, tau = np.zeros((1, 3), "float32"), layer.tau.value
assert (jax.grad(lambda x: layer(x).sum())(x) == 1).all()
slope = jax.grad(lambda tau: layer.stateless_call([tau], [], x)[0].sum())(tau)
assert (slope == 0).all()
nan = np.float32("nan")
assert np.isnan(larger(nan, 1.0)) and np.isnan(larger(1.0, nan))
assert larger(2.0, 1.0) == larger(1.0, 2.0) == 2.0
"""


def test_ties_on_jax_are_those_of_tensorflow():
    run_on("jax", ON_JAX)


def test_threshold_lets_nan_and_infinity_be_seen():
    y = keras_norm.ThresholdedLinearUnit()(np.array([[np.nan, np.inf, -np.inf]], "float32"))
    np.testing.assert_array_equal(y, [[np.nan, np.inf, 0.0]])


def test_dynamic_tanh_starts_at_a_half_or_where_it_is_told():
    x = data((4, 5, 6))
    layer = keras_norm.DynamicTanh()
    assert_close(layer(x), np.tanh(0.5 * x.astype("float64")), 2e-6)
    assert layer.alpha.shape == () and float(layer.alpha) == 0.5
    for given in (0.8, keras.initializers.Constant(0.8), np.float32(0.8)):
        layer = keras_norm.DynamicTanh(alpha_initializer=given)
        layer.build(x.shape)
        assert float(layer.alpha) == pytest.approx(0.8)
        again = keras_norm.DynamicTanh.from_config(layer.get_config())
        assert again.alpha_initializer.value == pytest.approx(0.8)


def test_dynamic_tanh_alpha_is_regularized_and_constrained():
    layer = keras_norm.DynamicTanh(
        alpha_initializer=2.0,
        alpha_regularizer=keras.regularizers.L2(0.5),
        alpha_constraint="non_neg",
    )
    layer.build(SHAPE)
    assert float(sum(layer.losses)) == pytest.approx(2.0)
    assert isinstance(layer.alpha.constraint, keras.constraints.NonNeg)


def test_dynamic_tanh_refuses_what_is_no_start_and_has_no_epsilon():
    for value in (np.nan, np.inf, True, [0.5]):
        with pytest.raises((ValueError, TypeError)):
            keras_norm.DynamicTanh(alpha_initializer=value)
    with pytest.raises(ValueError, match=r"Unrecognized keyword.*epsilon"):
        keras_norm.DynamicTanh(epsilon=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_dynamic_tanh_saturates_without_a_gradient(mode):
    """alpha · x = 1e17 · alpha: gamma + beta, slopes of exactly 0, and no NaN from 0 · x."""
    layer = keras_norm.DynamicTanh(gamma_initializer="ones", beta_initializer="ones")
    layer.build(SHAPE)
    x = (np.sign(data(SHAPE)) * 1e17).astype("float32")
    y, dx, dweights = backward(layer, mode, True)(x, data(SHAPE, 3))
    np.testing.assert_array_equal(y, np.sign(x) + 1.0)
    np.testing.assert_array_equal(dx, np.zeros(SHAPE))
    assert dweights["alpha"] == 0


def test_arguments_after_those_named_are_given_by_name():
    """A position that a class does not pass on is not promised by its signature."""
    with pytest.raises(TypeError):
        keras_norm.DynamicTanh(-1, True, True, "zeros")
    with pytest.raises(TypeError):
        keras_norm.EvoNormB0(-1, 0.9, 1e-3, True, True, "zeros")


def test_a_network_of_each_learns():
    x = data((64, 6, 6, 3))
    y = (x[:, :3].mean((1, 2, 3)) > x[:, 3:].mean((1, 2, 3))).astype("float32")
    for layers in (
        lambda: [keras_norm.EvoNormB0()],
        lambda: [keras_norm.EvoNormS0(groups=4)],
        lambda: [keras_norm.InstanceNormalization(), keras_norm.ThresholdedLinearUnit()],
    ):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(8, 3), *layers()])
        model.add(keras.layers.Flatten())
        model.add(keras.layers.Dense(1))
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
        losses = model.fit(x, y, batch_size=16, epochs=12, verbose=0).history["loss"]
        assert losses[-1] < 0.7 * losses[0]
        assert np.isfinite(tf.reduce_sum(model(x, training=False)))
