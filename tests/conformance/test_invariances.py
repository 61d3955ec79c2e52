"""Each layer is invariant to exactly what its row says, in training mode."""

import numpy as np
import pytest

from keras_norm.catalog import INVARIANCES
from tests.conformance.support import built, data


def changed(x, invariance):
    """The input after one change, and which samples to compare."""
    generator = np.random.default_rng(9)
    factors = generator.uniform(0.5, 4.0, 64)
    if invariance == "weight scale":
        return x * factors[: x.shape[-1]]
    if invariance == "data scale":
        return x * factors[: len(x)].reshape(-1, *(1,) * (x.ndim - 1))
    if invariance == "shift":
        return x + 3.5
    other = data(x.shape, 77, "float64")
    other[0] = x[0]
    return other


@pytest.mark.parametrize("invariance", INVARIANCES)
def test_exactly_the_claimed_invariances_hold(norm, invariance):
    x = data(norm.input_shape, dtype="float64")
    before = built(norm, dtype="float64", epsilon=1e-12)(x, training=True).numpy()
    layer = built(norm, dtype="float64", epsilon=1e-12)
    after = layer(changed(x, invariance), training=True).numpy()
    kept = slice(0, 1) if invariance == "batch" else slice(None)
    difference = np.abs(after - before)[kept].max()
    if invariance in norm.invariances:
        assert difference < 1e-9
    else:
        assert difference > 1e-2, "the norm claims too little, or the change is too small"


def test_scaling_the_weights_before_a_norm_changes_nothing(norm):
    """One factor for a whole weight matrix, the re-scaling invariance that all norms share."""
    generator = np.random.default_rng(1)
    features = data(norm.input_shape, dtype="float64")
    weights = generator.normal(size=(norm.input_shape[-1],) * 2)
    layer = built(norm, dtype="float64", epsilon=1e-12, **norm.uncorrected)
    expected = layer(features @ weights, training=True).numpy()
    layer = built(norm, dtype="float64", epsilon=1e-12, **norm.uncorrected)
    scaled = layer(features @ (7.0 * weights), training=True).numpy()
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=1e-9)


def test_a_bias_before_a_norm_is_redundant_where_the_row_says_shift(norm):
    """A bias of one value for all channels is taken out exactly by norms invariant to shifts."""
    x = data(norm.input_shape, dtype="float64")
    layer = built(norm, dtype="float64")
    difference = np.abs(
        built(norm, dtype="float64")(x + 2.0, training=True) - layer(x, training=True)
    ).max()
    assert (difference < 1e-9) == ("shift" in norm.invariances)
