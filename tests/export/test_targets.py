"""Norms of activations leave no operation to slow kernels: XNNPACK takes the whole file."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_norm import export_litert
from tests.conformance.support import data, inputs_of, randomize
from tests.conformance.test_export import UNWANTED

CHANNELS = 6


def model_of(norm):
    """2 × [convolution, norm, ReLU]."""
    x = inputs = keras.Input((8, 8, CHANNELS), name="x0")
    for _ in range(2):
        x = keras.layers.Conv2D(CHANNELS, 3, padding="same")(x)
        x = keras.layers.ReLU()(norm.build()(x))
    return randomize(keras.Model(inputs, x))


def started(path):
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


def wholly_delegated(interpreter):
    """Whether one delegated part computes all outputs, from nothing that was computed before it."""
    operations = interpreter._get_ops_details()
    delegated = [operation for operation in operations if operation["op_name"] == "DELEGATE"]
    results = {t for one in operations if one not in delegated for t in one["outputs"].tolist()}
    asked = {detail["index"] for detail in interpreter.get_output_details()}
    if len(delegated) != 1:
        return False
    (part,) = delegated
    return asked <= set(part["outputs"].tolist()) and not results & set(part["inputs"].tolist())


@pytest.mark.parametrize("target", ["any", "gpu"])
def test_between_convolutions(norm, target, tmp_path):
    model = model_of(norm)
    interpreter = started(export_litert(model, tmp_path / "model.tflite", target=target))
    assert wholly_delegated(interpreter)
    assert not UNWANTED & {one["op_name"] for one in interpreter._get_ops_details()}
    assert max(len(one["shape"]) for one in interpreter.get_tensor_details()) <= 4
    x = data((1, 8, 8, CHANNELS))
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    actual = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = np.asarray(model(x))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_alone(norm, tmp_path):
    inputs = inputs_of(norm)
    model = randomize(keras.Model(inputs, norm.build()(inputs)))
    assert wholly_delegated(started(export_litert(model, tmp_path / "model.tflite")))


def test_a_file_can_fail_to_be_delegated_whole(tmp_path):
    inputs = keras.Input((4,))
    outputs = keras.layers.Lambda(lambda x: keras.ops.cumsum(x * 2.0, axis=1) + 1.0)(inputs)
    path = export_litert(keras.Model(inputs, outputs), tmp_path / "model.tflite")
    assert not wholly_delegated(started(path))
