"""Every row runs whole on LiteRT's GPU accelerator; norms between convolutions do, too."""

import keras
import pytest

from keras_norm.catalog import catalog
from tests.conformance.support import data, inputs_of, randomize, sample, several

NOT_ON_GPUS = {
    "CosineConv3D": "its tensors have five axes, and GPUs take four",
}
"""Rows that no GPU delegate can take, and why."""

RUNNERS = {"unroll": True}
"""A loop over time is no operation of GPUs: cells run unrolled."""

ROWS = [row for row in catalog if row.name not in NOT_ON_GPUS]
NORMS = catalog.of_kind("activations")
CHANNELS = 6
DECIBELS = {"half": 40.0, "single": 100.0}
"""Of four blocks, or of weights that are drawn at random, in either precision of the GPU."""


def example(row):
    """The row's layer, a cell unrolled."""
    if row.kind == "recurrent":
        return keras.layers.RNN(row.build(), return_sequences=True, **RUNNERS)
    return row.example()


def alone(row):
    inputs = inputs_of(row)
    return randomize(keras.Model(inputs, example(row)(inputs)))


def blocks(row):
    """4 × [convolution, norm, ReLU]."""
    x = inputs = keras.Input((16, 16, CHANNELS), name="x0")
    norms = []
    for _ in range(4):
        x = keras.layers.Conv2D(CHANNELS, 3, padding="same", kernel_initializer="he_normal")(x)
        norms.append(row.build())
        x = keras.layers.ReLU()(norms[-1](x))
    for seed, norm in enumerate(norms):
        randomize(norm, seed)
    return keras.Model(inputs, x)


def with_keras_norm():
    """A convolution and Keras's own group norm, whose tensors have five axes."""
    inputs = keras.Input((8, 8, CHANNELS), name="x0")
    x = keras.layers.Conv2D(CHANNELS, 3)(inputs)
    return keras.Model(inputs, keras.layers.GroupNormalization(3)(x))


@pytest.fixture(scope="module")
def results(batch):
    for row in catalog:
        given = sample(data(row.input_shape), 1)
        batch.add(row.name, alone(row), {"data": given if several(row.input_shape) else [given]})
    for row in NORMS:
        batch.add(f"{row.name}-blocks", blocks(row), {"data": [data((1, 16, 16, CHANNELS))]})
    batch.add("keras", with_keras_norm(), {"data": [data((1, 8, 8, CHANNELS))]})
    return batch.run()


@pytest.mark.parametrize("precision", DECIBELS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_alone(row, precision, results):
    assert results.taken(row.name, precision), results.log[row.name, precision]
    assert results.decibels(row.name, precision)["data"] >= DECIBELS[precision]


@pytest.mark.parametrize("precision", DECIBELS)
@pytest.mark.parametrize("norm", NORMS, ids=lambda row: row.name)
def test_between_convolutions(norm, precision, results):
    name = f"{norm.name}-blocks"
    assert results.taken(name, precision), results.log[name, precision]
    assert results.decibels(name, precision)["data"] >= DECIBELS[precision]


@pytest.mark.parametrize("name", NOT_ON_GPUS)
def test_the_others_are_refused(name, results):
    """So the proof can fail; and the day that they are taken, it says so."""
    assert not results.taken(name, "half")
    assert "Tensor dimensions must be less than 5" in results.log[name, "half"]


def test_a_part_of_a_file_is_not_enough(results):
    """Of a convolution and Keras's group norm, the accelerator takes the convolution."""
    assert not results.taken("keras", "half")
    assert "will run on the GPU, and the remaining" in results.log["keras", "half"]
