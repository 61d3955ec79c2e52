"""Nearest pixels, with sizes known and unknown."""

import numpy as np
import pytest
import tensorflow as tf

from keras_norm.ops import resize_nearest

SIZES = [(6, 4, 3, 5), (3, 5, 6, 4), (4, 4, 4, 4), (7, 3, 2, 9), (1, 1, 3, 2), (5, 6, 1, 1)]


def expected_of(maps, height, width):
    y = np.empty((len(maps), height, width, maps.shape[-1]), maps.dtype)
    for i in range(height):
        for j in range(width):
            y[:, i, j] = maps[:, i * maps.shape[1] // height, j * maps.shape[2] // width]
    return y


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rule_whether_sizes_are_known_or_not(sizes):
    h, w, height, width = sizes
    maps = np.random.default_rng(0).normal(size=(2, h, w, 3)).astype("float32")
    expected = expected_of(maps, height, width)
    np.testing.assert_array_equal(resize_nearest(tf.constant(maps), height, width), expected)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])] * 2)
    def resized(maps, like):
        return resize_nearest(maps, tf.shape(like)[1], tf.shape(like)[2])

    np.testing.assert_array_equal(resized(maps, tf.zeros((1, height, width, 3))), expected)


def test_a_map_of_the_right_size_is_left_alone():
    maps = tf.ones((1, 3, 4, 2))
    assert resize_nearest(maps, 3, 4) is maps
