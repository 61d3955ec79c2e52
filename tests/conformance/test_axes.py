"""`axis` has one meaning: the axes that gamma and beta span."""

import numpy as np
import pytest

from tests.conformance.support import (
    arguments,
    assert_close,
    backward,
    built,
    data,
    oracle,
    weights_of,
)


@pytest.mark.parametrize("training", [True, False])
def test_channels_first_is_channels_last_transposed(norm, training):
    x, dy = data(norm.input_shape), data(norm.input_shape, 3)
    last = backward(built(norm), "graph", training)(x, dy)
    first_shape = np.moveaxis(x, -1, 1).shape
    for axis in (1, 1 - x.ndim, [1]):
        layer = built(norm, first_shape, axis=axis)
        y, dx, dweights = backward(layer, "graph", training)(
            np.moveaxis(x, -1, 1), np.moveaxis(dy, -1, 1)
        )
        assert_close(np.moveaxis(y, 1, -1), last[0], norm.tolerance)
        assert_close(np.moveaxis(dx, 1, -1), last[1], 1e-5)
        for name, gradient in last[2].items():
            assert_close(dweights[name], gradient, 1e-5)


def test_a_middle_axis(norm):
    x = np.moveaxis(data((2, 3, 4, 6)), -1, 2)
    layer = built(norm, x.shape, axis=2)
    expected, _, _ = oracle(norm, x, weights_of(layer), arguments(norm, axis=2), True)
    assert_close(layer(x, training=True), expected, norm.tolerance)


def test_ways_to_write_the_same_axis(norm):
    x = data(norm.input_shape)
    expected = built(norm)(x, training=True).numpy()
    for axis in (x.ndim - 1, [-1], (x.ndim - 1,), np.int64(-1)):
        layer = built(norm, axis=axis)
        np.testing.assert_array_equal(layer(x, training=True), expected)
        assert layer.gamma is None or layer.gamma.shape == (6,)


def test_several_axes(norm):
    x = data((3, 2, 4, 5, 6))
    if norm.layer.single_axis:
        with pytest.raises(ValueError, match="`axis` must be one axis"):
            built(norm, x.shape, axis=[2, 4])
        return
    layer = built(norm, x.shape, axis=[4, 2])
    if layer.gamma is not None:
        assert layer.gamma.shape == (4, 6)
    for training in (True, False):
        weights = weights_of(layer)
        expected, state, _ = oracle(norm, x, weights, arguments(norm, axis=[2, 4]), training)
        assert_close(layer(x, training=training), expected, norm.tolerance)
        for name, value in state.items():
            assert_close(weights_of(layer)[name], value, norm.tolerance, 1.0)
