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
    stored = dict(np.load(folder / "data.npz"))
    expected = stored.pop("y")
    arrays, bound = list(stored.values()), 1e-6 * np.abs(expected).max()
    x = arrays if len(arrays) > 1 else arrays[0]
    model = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=bound)
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    model.load_weights(folder / "model.weights.h5")
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=bound)

    served = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    names = [tensor.name for tensor in model.inputs]
    (actual,) = served(**dict(zip(names, map(tf.constant, arrays), strict=True))).values()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)

    run = Interpreter(str(folder / "model.tflite")).get_signature_runner("serving_default")
    assert set(run.get_input_details()) == set(names)
    for place, y in enumerate(expected):
        one = {name: array[place : place + 1] for name, array in zip(names, arrays, strict=True)}
        (actual,) = run(**one).values()
        np.testing.assert_allclose(actual[0], y, rtol=0, atol=10 * bound)


def test_every_row_has_files_of_a_release(row):
    assert row.name in {folder.name for folder in kept()}


def test_golden_files_are_small():
    size = sum(path.stat().st_size for path in FILES.rglob("*") if path.is_file())
    assert size < 128 * 1024 * len(kept())
