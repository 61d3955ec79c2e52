"""What is peculiar to layer and RMS normalization."""

import keras
import numpy as np
import pytest

import keras_norm
from tests.conformance.support import assert_close, data, randomize
from tests.oracles.features import layer as layer_oracle
from tests.oracles.features import rms as rms_oracle

SHAPE = (3, 4, 5)


def test_masks_count_where_the_axes_span_positions():
    layer = keras_norm.LayerNormalization(axis=[1, 2])
    layer.build(SHAPE)
    randomize(layer)
    x, mask = data(SHAPE), np.random.default_rng(0).random((3, 4)) > 0.4
    weights = {w.name: w.numpy() for w in layer.weights}
    expected, _, _ = layer_oracle(x.astype("float64"), weights, {"axis": [1, 2]}, True, mask)
    assert_close(layer(x, mask=mask), expected, 2e-6)


def test_unsorted_axes_mean_the_sorted_ones():
    layer = keras_norm.LayerNormalization(axis=[-1, 1])
    layer.build(SHAPE)
    assert layer.gamma.shape == (4, 5) and layer.get_config()["axis"] == [-1, 1]


def test_rms_of_centred_data_is_layer_norm():
    x = data(SHAPE)
    x -= x.mean(-1, keepdims=True)
    expected = keras_norm.LayerNormalization(epsilon=1e-6)(x).numpy()
    assert_close(keras_norm.RMSNormalization()(x), expected, 2e-6)


def test_layer_norm_over_all_axes_is_group_norm_of_one_group():
    x = data((3, 4, 5, 6))
    ours = keras_norm.LayerNormalization(axis=[1, 2, 3], center=False, scale=False)(x)
    assert_close(ours, keras_norm.GroupNormalization(groups=1)(x).numpy(), 2e-6)


@pytest.mark.parametrize("initializer", ["ones", keras.initializers.Constant(1.5)])
def test_zero_centered_gamma(initializer):
    """The initializer names gamma; the weight holds gamma - 1."""
    layer = keras_norm.RMSNormalization(zero_centered_gamma=True, gamma_initializer=initializer)
    plain = keras_norm.RMSNormalization(gamma_initializer=initializer)
    x = data(SHAPE)
    assert_close(layer(x), plain(x).numpy(), 1e-6)
    np.testing.assert_allclose(layer.gamma, plain.gamma - 1.0, atol=1e-7)
    layer.gamma.assign(data((5,)))
    weights = {"scale": layer.gamma.numpy()}
    expected, _, _ = rms_oracle(x, weights, {"zero_centered_gamma": True}, False)
    assert_close(layer(x), expected, 2e-6)


def test_rms_scaling_is_refused_by_name():
    with pytest.raises(ValueError, match=r"Use `keras_norm\.RMSNormalization`"):
        keras_norm.LayerNormalization(rms_scaling=True)
    keras_norm.LayerNormalization(rms_scaling=False)  # as in Keras's configs
