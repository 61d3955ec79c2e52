"""Names, shapes and dtypes of weights, and the keys of configs, are a promise; so are old files.

`python -m tests.conformance.golden` writes what is missing. Nothing that exists is overwritten: a
change of a promise is made by hand, with a line in the CHANGELOG.
"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tests.conformance.golden import FILES, LAYOUTS, kept, layout_of


def test_layout_of_weights_and_config(row):
    path = LAYOUTS / f"{row.name}.json"
    assert path.exists(), "run `python -m tests.conformance.golden`"
    assert layout_of(row) == json.loads(path.read_text())


@pytest.mark.parametrize("folder", kept(), ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_files_of_past_releases(folder):
    stored = np.load(folder / "data.npz")
    size = np.abs(stored["y"]).max()
    model = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_allclose(model(stored["x"]), stored["y"], rtol=0, atol=1e-6 * size)
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    model.load_weights(folder / "model.weights.h5")
    np.testing.assert_allclose(model(stored["x"]), stored["y"], rtol=0, atol=1e-6 * size)

    served = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    (actual,) = served(tf.constant(stored["x"])).values()
    np.testing.assert_allclose(actual, stored["y"], rtol=0, atol=1e-6 * size)

    run = Interpreter(str(folder / "model.tflite")).get_signature_runner("serving_default")
    (name,) = run.get_input_details()
    for x, y in zip(stored["x"], stored["y"], strict=True):
        (actual,) = run(**{name: x[None]}).values()
        np.testing.assert_allclose(actual[0], y, rtol=0, atol=1e-5 * size)


def test_every_row_has_files_of_a_release(row):
    assert row.name in {folder.name for folder in kept()}


def test_golden_files_are_small():
    size = sum(path.stat().st_size for path in FILES.rglob("*") if path.is_file())
    assert size < 2 * 1024 * 1024 * len({folder.parent for folder in kept()})
