"""Second-order gradients, and gradients of inference; first-order ones are in test_oracle."""

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.support import assert_close, built, compiled, data, differences

SMALL = {3: (2, 2, 6), 4: (2, 2, 2, 6)}


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("training", [True, False])
def test_second_order_gradients(row, training, mode):
    """d/dx of <dL/dx, v> against differences of dL/dx, which test_oracle has checked."""
    shape = SMALL[len(row.input_shape)]
    layer = built(row, shape, dtype="float64", **row.uncorrected)
    initial = layer.get_weights()
    x, dy, v = (tf.constant(data(shape, seed, "float64")) for seed in (1, 2, 3))

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(layer(x, training=training)) * dy)
        return tf.reduce_sum(tape.gradient(loss, x) * v)

    def curvature(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = slope(x)
        return tape.gradient(value, x)

    def slope_of_the_same_weights(value):
        layer.set_weights(initial)
        return float(slope(tf.constant(value)))

    expected = differences(slope_of_the_same_weights, x, 1e-5)
    layer.set_weights(initial)
    assert_close(compiled(curvature, mode)(x), expected, 1e-6)


def test_gradient_reaches_every_trainable_weight(row):
    layer = built(row)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(data(row.input_shape), training=True) - 0.3))
    gradients = tape.gradient(loss, [w.value for w in layer.trainable_weights])
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is not None and np.abs(gradient).max() > 0, weight.name
