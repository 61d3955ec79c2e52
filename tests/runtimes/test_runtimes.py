"""Every row's exported files in runtimes that know nothing of Keras."""

import concurrent.futures
import contextlib
import multiprocessing
import subprocess
import sys

import keras
import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

import keras_norm
from keras_norm.catalog import catalog
from tests.conformance.support import data, inputs_of, named, randomize
from tests.runtimes import foreign

BOUND, SAME_KERNELS = 1e-5, 1e-6


@pytest.fixture(scope="module")
def apart():
    """Calls a function of `foreign` in a process of its own, one per function."""
    context = multiprocessing.get_context("spawn")
    pools = {}
    with contextlib.ExitStack() as stack:

        def call(function, *arguments):
            if function not in pools:
                pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=context)
                pools[function] = stack.enter_context(pool)
            return pools[function].submit(function, *arguments).result()

        yield call


def model_of(row):
    """The row's example before a product, with random weights."""
    inputs = inputs_of(row)
    outputs = keras.layers.Dense(3, name="y")(row.example()(inputs))
    return randomize(keras.Model(inputs, outputs))


def assert_close(outputs, expected, bound):
    (output,) = outputs
    assert output.shape == expected.shape and output.dtype == expected.dtype
    assert np.abs(expected).max() > 0.1, "a comparison of nothing with nothing"
    error = np.abs(output.astype("float64") - expected).max() / np.abs(expected).max()
    assert error <= bound, f"error {error:.2e}, bound {bound:.0e}"


def signature(folder):
    """The graph's tensors by the names of inputs and outputs, as a server reads them."""
    content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    found = content.meta_graphs[0].signature_def["serving_default"]
    parts = {"inputs": found.inputs, "outputs": found.outputs}
    return {part: {k: info.name for k, info in infos.items()} for part, infos in parts.items()}


def strangers(packages):
    """The packages that a server does without, as far as its process has imported them."""
    return {"tensorflow", "keras", "keras_norm"} & packages


def test_a_rows_files_in_other_runtimes(row, tmp_path, apart):
    model, x = model_of(row), data(row.input_shape)
    expected, inputs = np.asarray(model(x)), named(x)
    folder = keras_norm.export_saved_model(model, tmp_path / "model")
    outputs, packages = apart(foreign.tensorflow_c, folder, inputs, signature(folder))
    assert not strangers(packages)
    assert_close(outputs, expected, SAME_KERNELS)
    outputs, packages = apart(foreign.openvino, folder, inputs)
    assert not strangers(packages)
    assert_close(outputs, expected, BOUND)

    file = keras_norm.export_litert(model, tmp_path / "model.tflite")
    sample = {name: array[:1] for name, array in inputs.items()}
    outputs, _ = apart(foreign.openvino, file, sample)
    assert_close(outputs, expected[:1], BOUND)

    file = tmp_path / "model.onnx"
    model.export(file, format="onnx", verbose=False)
    outputs, packages = apart(foreign.onnxruntime, file, inputs)
    assert not strangers(packages)
    assert_close(outputs, expected, BOUND)


@pytest.mark.parametrize("name", ["GroupNormalization", "WeightNormalization"])
def test_tensorflows_own_command(name, tmp_path):
    """`saved_model_cli run` takes seconds to start, so two rows stand for all."""
    row = catalog[name]
    model, x = model_of(row), data(row.input_shape)
    np.save(tmp_path / "x.npy", x)
    folder = keras_norm.export_saved_model(model, tmp_path / "model")
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run"]
    command += ["--dir", folder, "--tag_set", "serve", "--signature_def", "serving_default"]
    command += ["--inputs", f"x0={tmp_path / 'x.npy'}", "--outdir", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    assert_close([np.load(tmp_path / "y.npy")], np.asarray(model(x)), SAME_KERNELS)
