"""Statistics in float32 or wider under every policy; results in the compute dtype."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.support import (
    MODES,
    arguments,
    assert_close,
    backward,
    built,
    data,
    forward,
    inputs_of,
    mapped,
    oracle,
    output_data,
    tiny_epsilon,
    weights_of,
)

# One unit in the last place of the compute dtype; float32 has the row's own bound.
POLICIES = {
    "float32": ("float32", None),
    "float64": ("float64", 1e-12),
    "mixed_float16": ("float16", 1e-3),
    "mixed_bfloat16": ("bfloat16", 8e-3),
}


def bound_of(row, policy):
    bound = POLICIES[policy][1] or row.tolerance
    return bound * max(4, row.tolerance / 2e-6) if rounds_products(row, policy) else bound


def rounds_products(row, policy):
    """Whether the layer has matrix products of its own: in the compute dtype, as Keras does."""
    return policy.startswith("mixed") and row.kind in ("weights", "recurrent")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
def test_values_weights_and_outputs(row, policy, training):
    compute, bound = POLICIES[policy][0], bound_of(row, policy)
    layer = built(row, dtype=policy)
    x = mapped(lambda one: tf.cast(one, compute), data(row.input_shape))
    exact = mapped(lambda one: tf.cast(one, "float64").numpy(), x)
    expected, state, _ = oracle(row, exact, weights_of(layer), arguments(row), training)
    y = layer(x, training=training)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype == compute
    assert_close(tf.cast(y, "float64"), expected, bound)
    for weight in layer.weights:
        if "int" not in weight.dtype:
            assert weight.dtype == ("float64" if policy == "float64" else "float32")
    for name, value in state.items():
        of_state = bound if rounds_products(row, policy) else 2e-6
        assert_close(weights_of(layer)[name], value, of_state, 1.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_half_precision_gradients(row, policy):
    compute, bound = POLICIES[policy][0], bound_of(row, policy)
    layer = built(row, dtype="float64")
    dy = tf.cast(output_data(layer, row.input_shape, 4), compute)
    x = mapped(lambda one: tf.cast(one, compute), data(row.input_shape))
    wide = mapped(lambda one: tf.cast(one, "float64"), x)
    _, dx, dweights = backward(layer, "eager", True)(wide, tf.cast(dy, "float64"))
    _, actual_dx, actual = backward(built(row, dtype=policy), "graph", True)(x, dy)
    narrow = mapped(lambda one: tf.cast(one, "float64").numpy(), actual_dx)
    assert_close(narrow, dx, 2 * bound + 1e-5)
    for name, gradient in dweights.items():
        assert_close(actual[name], gradient, 2 * bound + 1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_large_values_and_tiny_epsilon_stay_finite(norm, policy, mode):
    compute = POLICIES[policy][0]
    layer = norm.build(dtype=policy, **tiny_epsilon(norm))
    layer.build(norm.input_shape)
    settings = arguments(norm, **tiny_epsilon(norm))
    large = np.random.default_rng(0).uniform(5e4, 6e4, norm.input_shape).astype("float32")
    # 7.2e4 is no float16: the input must not be cast; an output of that size can only be.
    for x in (tf.cast(large, compute), tf.constant(large * 1.2)):
        exact = tf.cast(x, "float64").numpy()
        expected, _, _ = oracle(norm, exact, weights_of(layer), settings, True)
        y = forward(layer, mode, True)(x).astype("float32")
        assert np.isfinite(y[np.abs(expected) <= tf.as_dtype(compute).max]).all()
    assert all(np.isfinite(w.numpy()).all() for w in layer.weights)


def test_large_gamma_survives_autocast(norm):
    if not (norm.takes("center") and norm.takes("scale")):
        return
    layer = norm.build(dtype="mixed_float16", center=True, scale=True)
    layer.build(norm.input_shape)
    layer.gamma.assign(0 * layer.gamma + 1e5)
    layer.beta.assign(0 * layer.beta - 1e5)
    with keras.src.backend.AutocastScope("float16"):
        layer(np.ones(norm.input_shape, "float32"))
        assert np.isfinite(layer.gamma.value.numpy()).all()
    ones = layer(np.ones(norm.input_shape, "float32") * 1e-6, training=False)
    assert keras.backend.standardize_dtype(ones.dtype) == "float16"


def test_a_float64_policy_computes_in_float64_whatever_comes_in(row):
    layer, x = built(row, dtype="float64"), data(row.input_shape)
    expected, _, _ = oracle(row, x, weights_of(layer), arguments(row), True)
    assert_close(layer(x, training=True), expected, 1e-12)


def test_integers_are_cast(norm):
    layer = built(norm)
    x = np.random.default_rng(0).integers(-9, 9, norm.input_shape)
    for dtype in ("int32", "int64", "int8"):
        y = layer(x.astype(dtype))
        assert keras.backend.standardize_dtype(y.dtype) == "float32"
        np.testing.assert_array_equal(y, layer(x.astype("float32")))


def test_output_dtype_is_known_before_the_call(row):
    for policy, (compute, _) in POLICIES.items():
        symbolic = row.example(dtype=policy)(inputs_of(row))
        assert symbolic.dtype == compute
