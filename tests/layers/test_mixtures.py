"""What is peculiar to switchable normalization."""

import numpy as np
import pytest
import tensorflow as tf

import keras_norm
from tests.conformance.support import assert_close, built, data, forward, oracle, weights_of

SHAPE = (3, 4, 5, 6)
ROW = keras_norm.catalog["switchable"]
ONE_HOT = 60.0 * np.eye(3)


@pytest.mark.parametrize(
    ("index", "other"),
    [
        (0, keras_norm.InstanceNormalization(epsilon=1e-5)),
        (1, keras_norm.GroupNormalization(groups=1, epsilon=1e-5)),
        (2, keras_norm.BatchNormalization(epsilon=1e-5)),
    ],
    ids=["IN", "LN", "BN"],
)
def test_one_hot_weights_are_the_norm_itself(index, other):
    layer, x = keras_norm.SwitchableNormalization(), data(SHAPE)
    layer.build(SHAPE)
    layer.mean_logits.assign(ONE_HOT[index])
    layer.variance_logits.assign(ONE_HOT[index])
    assert_close(layer(x, training=True), other(x, training=True).numpy(), 2e-6)


def test_mean_and_variance_have_weights_of_their_own():
    layer, x = keras_norm.SwitchableNormalization(), data(SHAPE)
    layer.build(SHAPE)
    layer.mean_logits.assign(ONE_HOT[0])
    layer.variance_logits.assign(ONE_HOT[1])
    values = x.astype("float64")
    mean, variance = values.mean((1, 2), keepdims=True), values.var((1, 2, 3), keepdims=True)
    assert_close(layer(x, training=True), (values - mean) / np.sqrt(variance + 1e-5), 2e-6)


@pytest.mark.parametrize("training", [True, False])
def test_without_batch_statistics(training):
    layer, x = built(ROW, SHAPE, using_bn=False), data(SHAPE)
    assert [w.name for w in layer.weights] == ["gamma", "beta", "mean_logits", "variance_logits"]
    assert layer.mean_logits.shape == (2,)
    expected, state, _ = oracle(ROW, x, weights_of(layer), {"using_bn": False}, training)
    assert state == {}
    for mode in ("eager", "xla"):
        assert_close(forward(layer, mode, training)(x), expected, 2e-6)
    one = layer(x[:1], training=training).numpy()
    np.testing.assert_allclose(one, expected[:1], atol=1e-5)


def test_rank_two_mixes_layer_and_batch_norm():
    layer = built(ROW, (4, 6))
    assert layer.mean_logits.shape == (2,)
    with pytest.raises(ValueError, match=r"`using_bn` must be True for an input of rank 2"):
        built(ROW, (4, 6), using_bn=False)


def test_the_input_is_read_for_instance_moments_alone():
    """Means over the input's own size: of x, of x - s and of (x - s)², and no more."""
    layer = built(ROW, SHAPE)
    traced = tf.function(lambda x: layer(x, training=True))
    graph = traced.get_concrete_function(tf.TensorSpec(SHAPE)).graph
    reductions = [
        op
        for op in graph.get_operations()
        if op.type in ("Mean", "Sum") and op.inputs[0].shape.num_elements() == np.prod(SHAPE)
    ]
    assert len(reductions) == 3


def test_zero_gamma_starts_as_beta():
    layer = keras_norm.SwitchableNormalization(gamma_initializer="zeros")
    np.testing.assert_array_equal(layer(data(SHAPE), training=True), np.zeros(SHAPE))
