"""What standardized kernels are."""

import numpy as np
import pytest
from keras import layers

import keras_norm


def effective(**arguments):
    layer = keras_norm.WeightStandardization(layers.Conv2D(4, 3), **arguments)
    layer.build((None, 5, 5, 8))
    layer.layer.kernel.assign(np.random.default_rng(0).normal(3.0, 0.01, (3, 3, 8, 4)))
    ((_, kernel),) = layer.effective_weights()
    return layer, np.asarray(kernel, "float64").reshape(-1, 4)


def test_units_have_mean_zero_and_variance_one():
    _, kernel = effective()
    assert np.abs(kernel.mean(0)).max() < 1e-6
    np.testing.assert_allclose(kernel.var(0), 1.0, rtol=1e-5)


def test_scaled_kernels_keep_the_variance_of_what_comes_in():
    layer, kernel = effective(scaled=True)
    np.testing.assert_allclose((kernel**2).sum(0), 1.0, rtol=1e-5)
    x = np.random.default_rng(1).normal(size=(64, 8, 8, 8)).astype("float32")
    assert np.var(layer(x), axis=(0, 1, 2)) == pytest.approx(np.ones(4), rel=0.2)
    _, larger = effective(scaled=True, gamma=1.7)
    np.testing.assert_allclose(larger, 1.7 * kernel, rtol=1e-6)


def test_a_constant_added_to_the_input_changes_nothing():
    layer, _ = effective()
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 8)).astype("float32")
    np.testing.assert_allclose(layer(x + 5.0), layer(x), atol=1e-3)


def test_epsilon_is_the_floor_of_the_authors_code():
    """1e-5 on the root of a constant kernel, and no visible part of any other."""
    layer = keras_norm.WeightStandardization(layers.Dense(1))
    layer.build((None, 2))
    layer.layer.kernel.assign([[1e-5], [-1e-5]])
    ((_, kernel),) = layer.effective_weights()
    np.testing.assert_allclose(np.ravel(kernel), [2**-0.5, -(2**-0.5)], rtol=1e-5)


@pytest.mark.parametrize("name", ["gamma", "epsilon"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), "1", None])
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number above 0"):
        keras_norm.WeightStandardization(layers.Dense(3), **{name: value})
