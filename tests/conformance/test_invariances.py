"""Each layer is invariant to exactly what its row says, in training mode."""

import numpy as np
import pytest

import keras_norm
from keras_norm.catalog import INVARIANCES
from keras_norm.report import invariance_table
from tests.conformance.support import built, data, tiny_epsilon
from tests.conformance.test_docs import README


def changed(x, invariance):
    """The input after one change, and which samples to compare."""
    generator = np.random.default_rng(9)
    factors = generator.uniform(0.5, 4.0, 64)
    if invariance == "rescaling":
        return 7.0 * x
    if invariance == "weight scale":
        return x * factors[: x.shape[-1]]
    if invariance == "data scale":
        return x * factors[: len(x)].reshape(-1, *(1,) * (x.ndim - 1))
    if invariance == "shift":
        return x + 3.5
    if invariance == "bias":
        return x + factors[: x.shape[-1]]
    other = data(x.shape, 77, "float64")
    other[0] = x[0]
    return other


@pytest.mark.parametrize("invariance", INVARIANCES)
def test_exactly_the_claimed_invariances_hold(norm, invariance):
    x = data(norm.input_shape, dtype="float64")
    before = built(norm, dtype="float64", **tiny_epsilon(norm))(x, training=True).numpy()
    layer = built(norm, dtype="float64", **tiny_epsilon(norm))
    after = layer(changed(x, invariance), training=True).numpy()
    kept = slice(0, 1) if invariance == "batch" else slice(None)
    difference = np.abs(after - before)[kept].max()
    if invariance in norm.invariances:
        assert difference < 1e-9 * max(1.0, np.abs(before).max())
    else:
        assert difference > 1e-3, "the row claims too little, or the change is too small"


def test_the_public_measurement_says_the_same(row):
    layer = built(row)
    before = layer.get_weights()
    measured = keras_norm.invariances(layer, row.input_shape)
    assert measured.holds == row.invariances, str(measured)
    assert all(effect > 1e-3 for name, effect in measured.items() if name not in measured.holds)
    for now, then in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_weights_scaled_before_a_norm():
    """What scaling the input stands for: a linear layer before it, its weights scaled."""
    features, generator = data((4, 3, 5, 6), dtype="float64"), np.random.default_rng(1)
    weights, factors = generator.normal(size=(6, 6)), generator.uniform(0.5, 4.0, 6)
    for name in ("batch", "layer", "rms", "group", "instance"):
        row = keras_norm.catalog[name]
        layer = built(row, (4, 3, 5, 6), dtype="float64", epsilon=1e-12)
        expected = layer(features @ weights, training=True).numpy()
        for change, scaled in (("rescaling", 7.0 * weights), ("weight scale", weights * factors)):
            actual = layer(features @ scaled, training=True).numpy()
            same = np.allclose(actual, expected, rtol=0, atol=1e-9)
            assert same == (change in row.invariances), (name, change)


def test_readme_shows_the_measured_table():
    """`python -c "import keras_norm.report as r; print(r.invariance_table())"` prints it."""
    assert invariance_table() in README.read_text()


def test_a_layer_that_is_not_built_needs_a_shape():
    with pytest.raises(ValueError, match="`input_shape` must be given for a layer that is not"):
        keras_norm.invariances(keras_norm.LayerNormalization())
    wide = keras_norm.invariances(keras_norm.LayerNormalization(), (2, 5000))
    measured = keras_norm.invariances(keras_norm.LayerNormalization(), (4, 5, 6))
    assert wide.holds == measured.holds
    assert "data scale" in measured.holds and "stays" in str(measured) and len(measured) == 6
