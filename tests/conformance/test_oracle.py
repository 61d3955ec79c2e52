"""Values, gradients and moving statistics against the papers in NumPy float64."""

import numpy as np
import pytest

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
    weights_of,
)

BOUNDS = {"float32": (2e-6, 1e-5), "float64": (1e-12, 1e-6)}
SMALL = {3: (2, 3, 6), 4: (2, 2, 3, 6)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", BOUNDS)
def test_values_and_state_over_several_steps(row, dtype, mode):
    layer = built(row, dtype=dtype)
    weights = weights_of(layer)
    train, infer = forward(layer, mode, True), forward(layer, mode, False)
    for seed in range(4):
        x = data(row.input_shape, seed, dtype)
        expected, state, _ = oracle(row, x, weights, arguments(row), True)
        assert_close(train(x), expected, BOUNDS[dtype][0])
        weights = {**weights, **state}
        for name, value in state.items():
            assert_close(weights_of(layer)[name], value, BOUNDS[dtype][0], 1.0)
        expected, _, _ = oracle(row, x, weights, arguments(row), False)
        assert_close(infer(x), expected, BOUNDS[dtype][0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", BOUNDS)
def test_gradients(row, dtype, training, mode):
    shape = SMALL[len(row.input_shape)]
    layer = built(row, shape, dtype=dtype)
    x, dy = data(shape, 2, dtype), data(shape, 3, dtype)
    dx, dweights = oracle_gradients(row, layer, x, dy, arguments(row), training)
    _, actual_dx, actual = backward(layer, mode, training)(x, dy)
    assert_close(actual_dx, dx, BOUNDS[dtype][1])
    assert actual.keys() == dweights.keys()
    for name, gradient in dweights.items():
        assert_close(actual[name], gradient, BOUNDS[dtype][1])


def test_moving_statistics_after_a_thousand_steps(row):
    layer, weights = built(row), None
    before = weights = weights_of(layer)
    train = forward(layer, "graph", True)
    shape = SMALL[len(row.input_shape)]
    for seed in range(1000):
        x = data(shape, seed)
        train(x)
        _, state, _ = oracle(row, x, weights, arguments(row), True)
        weights = {**weights, **state}
    for name, value in weights_of(layer).items():
        assert_close(value, weights[name], 1e-5)
        moved = not np.array_equal(value, before[name])
        assert moved == (
            row.training_differs and name in ("moving_mean", "moving_variance", "step")
        )
