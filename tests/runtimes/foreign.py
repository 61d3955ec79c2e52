"""Exported files in other runtimes: each function runs in a process of its own, and imports one."""

import sys

import numpy as np

from tests.runtimes import c_api


def openvino(path, inputs):
    """Runs a SavedModel folder or a `.tflite` file in OpenVINO, in float32.

    Args:
        path: The folder or file.
        inputs: Arrays by the names of the model's inputs.

    Returns:
        The outputs in the file's order, and the packages that were imported.
    """
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", exact)
    # The .tflite file has "serving_default_x:0" for "x".
    feeds = {
        port: next(array for name, array in inputs.items() if any(name in n for n in port.names))
        for port in compiled.inputs
    }
    outputs = compiled(feeds)
    return [outputs[port] for port in compiled.outputs], imported()


def onnxruntime(path, inputs):
    """Runs an ONNX file in onnxruntime; see `openvino`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs), imported()


def tensorflow_c(path, inputs, names):
    """Runs a SavedModel through TensorFlow's C interface.

    Args:
        path: The folder.
        inputs: Arrays by the names of the model's inputs.
        names: From the names of inputs and outputs to those of the graph's tensors, by
            `"inputs"` and `"outputs"`.

    Returns:
        The outputs, and the packages that were imported.
    """
    feeds = {names["inputs"][name]: np.asarray(array) for name, array in inputs.items()}
    outputs = c_api.SavedModel(path).run(feeds, list(names["outputs"].values()))
    return outputs, imported()


def imported():
    """Names of the packages that this process has imported."""
    return {name.split(".")[0] for name in sys.modules}
