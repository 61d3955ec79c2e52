"""`target="gpu"` on the GPU accelerator in float16: how exact it is, from small data to large."""

import keras
import numpy as np
import pytest

from keras_norm.catalog import catalog
from keras_norm.export import litert
from tests.conformance.support import randomize

SHAPE = (1, 32, 32, 6)
LARGEST = 300.0
DEVIATIONS = (0.02, 1.0, 30.0, LARGEST)
LOGARITHMS = {"LocalResponseNormalization": 50.0}
"""Powers are taken by logarithms there, and those of float16 have an error of 0.004 at 10."""

NORMS = catalog.of_kind("activations")


def model_of(row):
    """The norm alone; moving variances fit the largest data."""
    inputs = keras.Input(SHAPE[1:], name="x0")
    model = randomize(keras.Model(inputs, row.build()(inputs)))
    for weight in model.weights:
        if weight.name == "moving_variance":
            weight.assign(weight * LARGEST**2)
    return model


def draw(shape, deviation):
    generator = np.random.default_rng(0)
    return (generator.normal(size=shape) * deviation).astype("float32")


@pytest.fixture(scope="module")
def results(batch):
    cases = {f"{d:g}": [draw(SHAPE, d)] for d in DEVIATIONS}
    for row in NORMS:
        batch.add(f"{row.name}-gpu", model_of(row), cases, target="gpu")
        with pytest.MonkeyPatch.context() as patch:  # the definition, residual and all
            patch.setattr(litert, "IN_FLOAT", {})
            batch.add(f"{row.name}-any", model_of(row), cases)
    for row, shape in ((catalog["group"], (512, 512, 6)), (catalog["layer"], (4, 8, 1280))):
        inputs = keras.Input(shape, name="x0")
        model = randomize(keras.Model(inputs, row.build()(inputs)))
        batch.add(f"{row.name}-large", model, {"large": [draw((1, *shape), 2000.0)]}, target="gpu")
    return batch.run()


@pytest.mark.parametrize("norm", NORMS, ids=lambda row: row.name)
def test_exact_for_any_deviation(norm, results):
    name = f"{norm.name}-gpu"
    assert results.taken(name, "half"), results.log[name, "half"]
    decibels = results.decibels(name, "half")
    assert min(decibels.values()) >= LOGARITHMS.get(norm.name, 55.0), decibels
    plain = results.decibels(f"{norm.name}-any", "half")
    assert decibels["0.02"] >= plain["0.02"] - 2.0, plain  # a rounding or two


@pytest.mark.parametrize("norm", NORMS, ids=lambda row: row.name)
def test_the_same_in_single_precision(norm, results):
    plain, safe = (results.outputs(f"{norm.name}-{t}", "single") for t in ("any", "gpu"))
    for case, expected in plain.items():
        np.testing.assert_allclose(safe[case], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["GroupNormalization", "LayerNormalization"])
def test_large_maps_many_channels_and_large_numbers(name, results):
    assert results.taken(f"{name}-large", "half")
    assert results.decibels(f"{name}-large", "half")["large"] >= 55.0


@pytest.mark.parametrize("name", ["GroupNormalization", "RMSNormalization"])
def test_the_plain_form_fails_there(name, results):
    assert results.decibels(f"{name}-any", "half")["300"] < 10.0
