"""Keras on PyTorch: every layer trains, saves and loads, and the verbs make right copies.

`make test-torch` runs this with the PyTorch of that environment and everything else of this one.
"""

import os
import subprocess

import pytest

from tests.backends import run_on
from tests.surgery.test_on_jax import SCRIPT as VERBS

PRELUDE = "import sys; sys.path.append({!r})\n"
ROWS = """
import keras
import numpy as np
from keras_norm.catalog import catalog
from tests.conformance.support import data, inputs_of

keras.utils.set_random_seed(0)
for row in catalog:
    inputs, x = inputs_of(row), data(row.input_shape)
    model = keras.Model(inputs, keras.layers.Dense(1)(row.example()(inputs)))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    y = np.random.default_rng(0).standard_normal(model.predict(x, verbose=0).shape)
    losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0], row.name
    model.save(sys.argv[1])
    again = keras.saving.load_model(sys.argv[1])
    pair = [one.predict(x, verbose=0) for one in (again, model)]
    np.testing.assert_allclose(*pair, 1e-5, 1e-5, err_msg=row.name)
"""


@pytest.mark.parametrize("script", [ROWS, VERBS], ids=["rows", "verbs"])
def test_on_pytorch(script, tmp_path):
    python = os.environ.get("TORCH_PYTHON", ".venv-torch/bin/python")
    where = "import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])"
    done = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True)
    path = str(tmp_path / "model.keras")
    run_on("torch", PRELUDE.format(done.stdout.strip()) + script, path)
