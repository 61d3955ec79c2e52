"""Second-order gradients, and gradients of inference; first-order ones are in test_oracle."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.support import (
    MODES,
    assert_close,
    built,
    compiled,
    data,
    dense,
    mapped,
    output_data,
    small,
)

DIRECTIONS = 6  # random ones; a wrong second derivative shows in each


@pytest.mark.parametrize("training", [True, False])
def test_second_order_gradients(row, training):
    """d/dx of <dL/dx, v> against differences of dL/dx, which test_oracle has checked."""
    shape = small(row.input_shape)
    # Cells run step after step: what TensorFlow's loops do to gradients is theirs, and costly.
    row = replace(row, runner={"unroll": True})
    layer = built(row, shape, dtype="float64", **row.uncorrected)
    initial, dy = layer.get_weights(), output_data(layer, shape, 2, "float64")
    x, v, *directions = (
        mapped(tf.constant, data(shape, seed, "float64")) for seed in range(2 + DIRECTIONS)
    )

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(layer(x, training=training)) * dy)
        return inner(tape.gradient(loss, x), v)

    def curvature(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = slope(x)
        return tape.gradient(value, x, unconnected_gradients="zero")

    def slope_at(direction, step):
        layer.set_weights(initial)
        return slope(tf.nest.map_structure(lambda a, d: a + step * d, x, direction))

    expected = [(slope_at(d, 1e-5) - slope_at(d, -1e-5)) / 2e-5 for d in directions]
    for mode in MODES:
        layer.set_weights(initial)
        actual = compiled(curvature, mode)(x)
        size = max(np.sqrt(inner(actual, actual)), 1.0)
        assert_close([inner(actual, d) for d in directions], np.array(expected), 1e-6, size)


def inner(a, b):
    """The inner product of two inputs."""
    pairs = zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
    return sum(tf.reduce_sum(one * other) for one, other in pairs)


def test_gradient_reaches_every_trainable_weight(row):
    layer = built(row)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(data(row.input_shape), training=True) - 0.3))
    gradients = tape.gradient(loss, [w.value for w in layer.trainable_weights])
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is not None and np.abs(dense(gradient)).max() > 0, weight.name
