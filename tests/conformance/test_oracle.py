"""Values, gradients and moving statistics against the papers in NumPy float64."""

import numpy as np
import pytest

from keras_norm.catalog import catalog
from tests.conformance.support import (
    MODES,
    arguments,
    assert_close,
    backward,
    built,
    data,
    forward,
    oracle,
    oracle_gradients,
    output_data,
    small,
    weights_of,
)

BOUNDS = {"float32": 1e-5, "float64": 1e-6}  # of gradients


def bound_of(row, dtype):
    return row.tolerance if dtype == "float32" else 1e-12


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", BOUNDS)
def test_values_and_state_over_several_steps(row, dtype, mode):
    layer, bound = built(row, dtype=dtype), bound_of(row, dtype)
    weights = weights_of(layer)
    train, infer = forward(layer, mode, True), forward(layer, mode, False)
    for seed in range(4):
        x = data(row.input_shape, seed, dtype)
        expected, state, _ = oracle(row, x, weights, arguments(row), True)
        assert_close(train(x), expected, bound)
        weights = {**weights, **state}
        for name, value in state.items():
            assert_close(weights_of(layer)[name], value, bound, 1.0)
        expected, _, _ = oracle(row, x, weights, arguments(row), False)
        assert_close(infer(x), expected, bound)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", BOUNDS)
def test_gradients(row, dtype, training):
    shape = small(row.input_shape)
    layer = built(row, shape, dtype=dtype)
    initial = layer.get_weights()
    x, dy = data(shape, 2, dtype), output_data(layer, shape, 3, dtype)
    dx, dweights = oracle_gradients(row, layer, x, dy, arguments(row), training)
    for mode in MODES:
        layer.set_weights(initial)
        _, actual_dx, actual = backward(layer, mode, training)(x, dy)
        assert_close(actual_dx, dx, BOUNDS[dtype])
        assert actual.keys() == dweights.keys()
        for name, gradient in dweights.items():
            assert_close(actual[name], gradient, BOUNDS[dtype], gradient_size(dtype, dy, gradient))


def gradient_size(dtype, dy, gradient):
    """A gradient that is zero by mathematics is measured against what it sums."""
    return 1e-3 * np.abs(dy).sum() if np.abs(gradient).max() < 1e-6 else 0.0


@pytest.mark.parametrize(
    "row", [row for row in catalog if row.training_differs], ids=lambda row: row.name
)
def test_moving_statistics_after_a_thousand_steps(row):
    shape = small(row.input_shape)
    layer = built(row, shape)
    before = weights = weights_of(layer)
    train, moving = forward(layer, "graph", True), set()
    for seed in range(1000):
        x = data(shape, seed)
        train(x)
        _, state, _ = oracle(row, x, weights, arguments(row), True)
        weights, moving = {**weights, **state}, moving | set(state)
    for name, value in weights_of(layer).items():
        assert_close(value, weights[name], 1e-5)
        assert np.array_equal(value, before[name]) == (name not in moving)


FREEZABLE = [row for row in catalog if row.takes("freeze_statistics")]


@pytest.mark.parametrize("row", FREEZABLE, ids=lambda row: row.name)
def test_frozen_statistics_train_the_inference_output(row):
    """Moving statistics and steps stay; x and every trained weight get inference's gradients."""
    shape = small(row.input_shape)
    layer = built(row, shape, freeze_statistics=True)
    initial, x, dy = layer.get_weights(), data(shape, 2), output_data(layer, shape)
    expected = layer(x, training=False).numpy()
    dx, dweights = oracle_gradients(row, layer, x, dy, arguments(row), training=False)
    assert {weight.name for weight in layer.trainable_weights} == dweights.keys()
    np.testing.assert_array_equal(layer(x, training=True), expected)
    for mode in ("eager", "graph"):
        y, actual_dx, actual = backward(layer, mode, training=True)(x, dy)
        assert_close(y, expected, row.tolerance)
        assert_close(actual_dx, dx, BOUNDS["float32"])
        for name, gradient in dweights.items():
            size = gradient_size("float32", dy, gradient)
            assert_close(actual[name], gradient, BOUNDS["float32"], size)
        for now, then in zip(layer.get_weights(), initial, strict=True):
            np.testing.assert_array_equal(now, then)
