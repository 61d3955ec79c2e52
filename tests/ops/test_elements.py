"""Sums over neighbours, and the maximum with a gradient for ties."""

import numpy as np
import pytest
import tensorflow as tf

from keras_norm.ops import larger, window_sum
from tests.conformance.support import assert_close, data


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("radius", [0, 1, 2, 9])
def test_window_sum_adds_the_neighbours_that_there_are(axis, radius):
    x = data((2, 5, 4, 6), dtype="float64")
    moved = np.moveaxis(x, axis, 0)
    expected = np.stack(
        [moved[max(0, i - radius) : i + radius + 1].sum(0) for i in range(len(moved))]
    )
    y = window_sum(tf.constant(x), axis, radius)
    assert y.dtype == "float64"
    assert_close(y, np.moveaxis(expected, 0, axis), 1e-14)


def test_window_sum_with_one_known_size():
    x = data((2, 5, 4, 6))
    spec = tf.TensorSpec((None, None, None, 6))
    traced = tf.function(lambda x: window_sum(x, 3, 2)).get_concrete_function(spec)
    assert traced.output_shapes.as_list() == [None, None, None, 6]
    assert_close(traced(tf.constant(x)), window_sum(tf.constant(x), 3, 2), 1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_larger_gives_the_gradient_of_a_tie_to_the_first(compiled):
    @tf.function(jit_compile=compiled)
    def slopes(first, second):
        with tf.GradientTape() as tape:
            tape.watch([first, second])
            total = tf.reduce_sum(larger(first, second))
        return tape.gradient(total, [first, second])

    first, second = slopes(tf.constant([1.0, 2.0, 3.0]), tf.constant([2.0, 2.0, 2.0]))
    np.testing.assert_array_equal(first, [0.0, 1.0, 1.0])
    np.testing.assert_array_equal(second, [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(larger(np.float32("nan"), np.float32(1)), np.nan)
