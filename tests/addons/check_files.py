"""Every file that the real TensorFlow Addons wrote loads, computes the same and trains on.

`make test-addons` writes the files and runs this; plain `make test` has the few that are kept.
"""

import functools
import importlib.util
import itertools
import os
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_norm
from tests.addons.keep import ARGUMENTS, KEPT

FOLDER = Path(os.environ["ADDONS_FILES"])
KINDS = (
    "batch",
    "built_in",
    "contributed",
    "group",
    "instance",
    "lstm",
    "masked",
    "mixed",
    "nested",
    "response",
    "shared",
    "simple_rnn",
    "spectral",
    "time_distributed",
    "weight",
    "weight_fresh",
)
FORMATS = "model.h5", "model.keras", "saved_model"
WEIGHTS = "old_weights.h5", "new.weights.h5", "checkpoint/weights"
UNSAVABLE = {("weight", "saved_model")}  # by Addons itself
# Of a model of one's own a file of keras-contrib, which wrote .h5 alone, has no names to go by.
NAMELESS = {("contributed", "new.weights.h5"), ("contributed", "checkpoint/weights")}
# Which have a layer's weights once, in whichever of its models comes first.
ONCE = {("shared", "model.keras"), ("shared", "new.weights.h5")}
HALF = {"mixed"}  # Addons counts in float16 what keras_norm counts in float32


@functools.cache
def recorded(kind):
    """The input, and the real Addons's outputs by name."""
    arrays = dict(np.load(FOLDER / kind / "data.npz"))
    return arrays.pop("x"), arrays


@functools.cache
def loaded(kind):
    return keras_norm.load_foreign(FOLDER / kind / "model.h5", verbose=False)


def check(kind, model):
    x, expected = recorded(kind)
    y = model(x)
    for name, right in expected.items():
        got = np.asarray(y[name] if isinstance(y, dict) else y, "float64")
        assert right.std() > 1e-2  # so that equality says something
        bound = 2e-3 if kind in HALF else 1e-5
        assert np.abs(got - right).max() <= bound * max(np.abs(right).max(), 1.0)


def test_all_files_are_there_and_addons_is_not():
    assert importlib.util.find_spec("tensorflow_addons") is None
    assert {path.name for path in FOLDER.iterdir()} == {*KINDS, ARGUMENTS}


def test_arguments_are_those_that_were_kept():
    assert (FOLDER / ARGUMENTS).read_text() == (KEPT / ARGUMENTS).read_text()


@pytest.mark.parametrize(
    ("kind", "name"),
    [pair for pair in itertools.product(KINDS, FORMATS) if pair not in UNSAVABLE | ONCE],
)
def test_whole_models(kind, name):
    lines = []
    model = keras_norm.load_foreign(FOLDER / kind / name, print_fn=lines.append)
    assert "layers became" in lines[0] or "layer became" in lines[0]
    check(kind, model)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_one_of_keras_3(kind, tmp_path):
    """It saves, loads, and trains."""
    model = loaded(kind)
    model.save(tmp_path / "new.keras")
    again = keras.saving.load_model(tmp_path / "new.keras")
    check(kind, again)
    x, expected = recorded(kind)
    target = {name: value + 0.5 for name, value in expected.items()}
    again.compile(keras.optimizers.Adam(1e-2), "mse")
    losses = again.fit(x, target if len(target) > 1 else target["y"], epochs=8, verbose=0)
    losses = losses.history["loss"]
    # Norms of few samples, and of a state that begins at 0, have steep slopes: it may rise again.
    assert np.isfinite(losses).all() and min(losses[1:]) < losses[0]


@pytest.mark.parametrize("name", ["model.h5", "saved_model"])
def test_layers_of_several_models_are_reported(name):
    lines = []
    keras_norm.load_foreign(FOLDER / "shared" / name, print_fn=lines.append)
    assert len([line for line in lines if "it stands in several models" in line]) == 2


def test_layers_of_several_models_are_refused_where_weights_are_missing():
    with pytest.raises(ValueError, match="without weights of \['Dense', 'GroupNormalization'\]"):
        keras_norm.load_foreign(FOLDER / "shared" / "model.keras")


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_alone(kind, name):
    if (kind, name) in NAMELESS | ONCE:
        with pytest.raises(ValueError, match="without"):
            keras_norm.load_foreign(FOLDER / kind / name, model=loaded(kind), verbose=False)
        return
    model = loaded(kind)
    for weight in model.weights:
        if "float" in weight.dtype:
            weight.assign(weight + 1.0)
    keras_norm.load_foreign(FOLDER / kind / name, model=model, verbose=False)
    check(kind, model)
