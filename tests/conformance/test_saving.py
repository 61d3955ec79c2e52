"""Files load in a process that only imports the package, and say the same to the last bit."""

import fcntl
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_norm.catalog import catalog
from tests.conformance.support import data, inputs_of, named, randomize, sample, several

LOADER = """
import json, sys
import numpy as np
import keras
import keras_norm
folder = sys.argv[1]
results = {}
for name in json.load(open(f"{folder}/names.json")):
    x = list(np.load(f"{folder}/{name}.npz").values())
    x = x if len(x) > 1 else x[0]
    for suffix in ("keras", "h5"):
        model = keras.saving.load_model(f"{folder}/{name}.{suffix}")
        results[f"{name}.{suffix}"] = np.asarray(model(x))
        results[f"{name}.{suffix}.trained"] = np.asarray(model(x, training=True))
    twin = keras.models.model_from_json(open(f"{folder}/{name}.json").read())
    twin.load_weights(f"{folder}/{name}.weights.h5")
    results[f"{name}.weights"] = np.asarray(twin(x))
np.savez(f"{folder}/results.npz", **results)
"""

SERVER = """
import json, sys
import numpy as np
import tensorflow as tf
folder, results = sys.argv[1], {}
for name in json.load(open(f"{folder}/names.json")):
    served = tf.saved_model.load(f"{folder}/{name}_saved_model")
    serve = served.signatures["serving_default"]
    x = dict(np.load(f"{folder}/{name}.npz"))
    for size in (1, len(x["x0"])):
        (y,) = serve(**{key: tf.constant(one[:size]) for key, one in x.items()}).values()
        results[f"{name}.{size}"] = y.numpy()
assert "keras_norm" not in sys.modules
np.savez(f"{folder}/served.npz", **results)
"""


def model_of(row):
    """The layer in a model, nested two deep and used twice."""
    inputs, shared = inputs_of(row), row.example()
    shared.name = "shared"
    others = inputs[1:] if several(row.input_shape) else []
    first = inputs[0] if others else inputs

    def nested(depth):
        again, layer = inputs_of(row), row.example() if depth == 0 else nested(depth - 1)
        return keras.Model(again, layer(again))

    other = keras.layers.Dense(6)(first)
    twice = [nested(1)(inputs), shared(inputs), shared([other, *others] if others else other)]
    return randomize(keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Add()(twice))))


def write_files(folder):
    """Every row's model in every format, and what this and two other processes compute from it."""
    expected = {}
    for row in catalog:
        keras.utils.clear_session(free_memory=False)
        model, x = model_of(row), data(row.input_shape)
        np.savez(folder / f"{row.name}.npz", **named(x))
        model.save(folder / f"{row.name}.keras")
        model.save(folder / f"{row.name}.h5")
        model.save_weights(folder / f"{row.name}.weights.h5")
        (folder / f"{row.name}.json").write_text(model.to_json())
        model.export(folder / f"{row.name}_saved_model", verbose=False)
        served = tf.saved_model.load(str(folder / f"{row.name}_saved_model"))
        tensors = {name: tf.constant(one) for name, one in named(x).items()}
        (y,) = served.signatures["serving_default"](**tensors).values()
        expected[f"{row.name}.served"] = y.numpy()
        expected[row.name] = np.asarray(model(x))
        expected[f"{row.name}.1"] = np.asarray(model(sample(x, 1)))
        expected[f"{row.name}.trained"] = np.asarray(model(x, training=True))
    np.savez(folder / "expected.npz", **expected)
    (folder / "names.json").write_text(json.dumps([row.name for row in catalog]))
    for script in (LOADER, SERVER):
        subprocess.run([sys.executable, "-c", script, str(folder)], check=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The answers: of this process, of the one that loads, and of the one that serves.

    One worker writes the files for all; another that comes meanwhile waits.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    folder = folder / "files"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "served.npz").exists():  # it is written last
            write_files(folder)
    return [np.load(folder / f"{name}.npz") for name in ("expected", "results", "served")]


def test_whole_models_and_weights_in_a_second_process(row, files):
    expected, results, _ = files
    for suffix in ("keras", "h5", "weights"):
        np.testing.assert_array_equal(results[f"{row.name}.{suffix}"], expected[row.name])
    for suffix in ("keras", "h5"):
        trained = results[f"{row.name}.{suffix}.trained"]
        np.testing.assert_array_equal(trained, expected[f"{row.name}.trained"])


def test_saved_model_without_the_package(row, files):
    expected, _, served = files
    whole, one = expected[row.name], expected[f"{row.name}.1"]
    again = served[f"{row.name}.{len(whole)}"]
    np.testing.assert_array_equal(again, expected[f"{row.name}.served"])
    # A graph rounds otherwise than eager operations do.
    size = np.abs(whole).max()
    np.testing.assert_allclose(again, whole, rtol=0, atol=1e-6 * size)
    np.testing.assert_allclose(served[f"{row.name}.1"], one, rtol=0, atol=1e-6 * size)


def test_weights_are_counted_once_where_a_layer_is_shared(row):
    model = model_of(row)
    layer = model.get_layer("shared")
    expected = {id(w) for inner in model._flatten_layers() for w in inner.weights}
    assert len(model.weights) == len(expected)
    assert len([w for w in model.weights if w.path.startswith("shared/")]) == len(layer.weights)


def test_registered_under_the_package_name(row):
    assert keras.saving.get_registered_name(row.layer) == f"keras_norm>{row.name}"
    assert keras.saving.get_registered_object(f"keras_norm>{row.name}") is row.layer
