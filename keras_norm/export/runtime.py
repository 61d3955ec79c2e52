"""Runs one saved file in a process of its own, with what that kind of file needs and no more.

`python runtime.py FORMAT FILE ANSWER [INPUTS]` reads arrays from INPUTS and writes the file's
outputs to ANSWER; without INPUTS it writes the shapes that the file's inputs must have (`-1` for a
free size; only formats that have sizes of their own). It is run by its path, not as a module of the
package, so that only `.keras` and `.h5` files meet this package and Keras.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

Named = dict[str, np.ndarray]


def write_named(path: str, named: Named, runtime: str = "") -> None:
    """Writes arrays by name, and the name of the runtime that made them.

    Names are stored beside the arrays, not as keys: `numpy.savez` has parameters of its own.

    Args:
        path: The `.npz` file to write.
        named: Arrays by name.
        runtime: Name and version of the runtime.
    """
    arrays: dict[str, Any] = {f"array_{i}": array for i, array in enumerate(named.values())}
    np.savez(path, names=np.array(list(named), dtype=str), runtime=np.array(runtime), **arrays)


def read_named(path: str) -> tuple[Named, str]:
    """Reads what `write_named` wrote.

    Args:
        path: The `.npz` file.

    Returns:
        The arrays by name, and the runtime.
    """
    with np.load(path, allow_pickle=False) as stored:
        names = [str(name) for name in stored["names"]]
        named = {name: stored[f"array_{index}"] for index, name in enumerate(names)}
        return named, str(stored["runtime"])


def storable(array: Any) -> np.ndarray:
    """The array in a type that NumPy itself knows, so that `.npz` can hold it.

    Args:
        array: An array or tensor.

    Returns:
        A NumPy array; bfloat16 becomes float32, which holds every value of it.
    """
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def by_name(inputs: Named, names: list[str]) -> Named:
    """The inputs under the names that the file has for them.

    Args:
        inputs: Inputs under the model's names.
        names: The names in the file's signature.

    Returns:
        The inputs; a single one is renamed, as there is nothing to confuse it with.

    Raises:
        ValueError: If there are several inputs and their names differ.
    """
    if len(inputs) == len(names) == 1:
        return {names[0]: next(iter(inputs.values()))}
    if set(inputs) != set(names):
        raise ValueError(
            "The file must have inputs with the names of the model's. "
            f"Received: a file with inputs {sorted(names)} for a model with inputs "
            f"{sorted(inputs)}. Export the file from this model."
        )
    return inputs


def run_keras(path: str, inputs: Named | None) -> tuple[Named, str]:
    """Runs a `.keras` or `.h5` file."""
    assert inputs is not None
    import keras

    # Importing the package registers the layers that the file may name.
    from keras_norm.backend import abilities
    from keras_norm.export import samples, signature

    model = keras.saving.load_model(path, compile=False)
    # In the model's own types again: bfloat16 came as float32.
    arrays = samples.given(model, by_name(inputs, signature.input_names(model)))
    arguments = signature.packed(model, list(arrays.values()))
    outputs = signature.named_outputs(model, model(arguments, training=False))
    named = {name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()}
    return named, f"keras {keras.__version__} on {abilities.running()}"


def run_saved_model(path: str, inputs: Named | None) -> tuple[Named, str]:
    """Runs the signature `serving_default` of a SavedModel."""
    assert inputs is not None
    # TensorFlow imports Keras by itself where it can; the file must do without.
    sys.modules.update(dict.fromkeys(["keras", "keras_norm"]))  # type: ignore[arg-type]
    import tensorflow as tf

    # The signature does not keep the object alive that owns its variables.
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    arrays = by_name(inputs, list(specs))
    outputs = serve(**{k: tf.cast(tf.constant(v), specs[k].dtype) for k, v in arrays.items()})
    return {k: v.numpy() for k, v in outputs.items()}, f"tensorflow {tf.__version__}"


def run_litert(path: str, inputs: Named | None) -> tuple[Named, str]:
    """Runs the first signature of a `.tflite` file, or tells the shapes of its inputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    signatures = list(interpreter.get_signature_list())
    if not signatures:
        raise ValueError(
            "The file must have a signature. Received: a .tflite file without one. "
            "Export it with `keras_norm.export.export_litert`."
        )
    runner = interpreter.get_signature_runner(signatures[0])
    details = runner.get_input_details()
    shapes = {name: np.asarray(detail["shape_signature"]) for name, detail in details.items()}
    runtime = f"ai-edge-litert {version('ai-edge-litert')}"
    if inputs is None:
        return shapes, runtime
    # A file computes in float32 what the model takes in another type.
    arrays = {
        name: array.astype(details[name]["dtype"]) if array.dtype.kind == "f" else array
        for name, array in by_name(inputs, list(shapes)).items()
    }
    return run_in_batches(runner, arrays, shapes), runtime


def run_onnx(path: str, inputs: Named | None) -> tuple[Named, str]:
    """Runs an ONNX file, or tells the shapes of its inputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    # A free size has a name in place of a number.
    shapes = {
        entry.name: np.array([size if isinstance(size, int) else -1 for size in entry.shape])
        for entry in session.get_inputs()
    }
    runtime = f"onnxruntime {onnxruntime.__version__}"
    if inputs is None:
        return shapes, runtime

    def run(**batch: np.ndarray) -> Named:
        return dict(zip(names, session.run(names, batch), strict=True))

    return run_in_batches(run, by_name(inputs, list(shapes)), shapes), runtime


def run_openvino(path: str, inputs: Named | None) -> tuple[Named, str]:
    """Runs an OpenVINO IR (`.xml` with a `.bin` beside it), or tells the shapes of its inputs."""
    import openvino

    # By default it computes in bfloat16 where the processor has instructions for that.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", exact)
    # A tensor may have several names, in no order.
    shapes = {
        min(port.names): np.array(
            [s.get_length() if s.is_static else -1 for s in port.partial_shape]
        )
        for port in compiled.inputs
    }
    runtime = f"openvino {version('openvino')}"
    if inputs is None:
        return shapes, runtime

    def run(**batch: np.ndarray) -> Named:
        outputs = compiled(batch)
        return {min(port.names): outputs[port] for port in compiled.outputs}

    return run_in_batches(run, by_name(inputs, list(shapes)), shapes), runtime


def run_in_batches(runner: Callable[..., Named], inputs: Named, shapes: Named) -> Named:
    """Runs as many samples at a time as the file takes, and joins the outputs.

    Args:
        runner: Runs one batch.
        inputs: All samples.
        shapes: The file's shape per input, -1 for a free size.

    Returns:
        The outputs for all samples.

    Raises:
        ValueError: If the inputs do not have the file's fixed sizes.
    """
    for name, array in inputs.items():
        fixed = shapes[name][1:]
        if array.ndim != len(fixed) + 1 or np.any((fixed >= 0) & (fixed != array.shape[1:])):
            raise ValueError(
                f"`data` must have the sizes that the file was exported with. Received: {name!r} "
                f"of shape {array.shape} for a file of shape {tuple(map(int, shapes[name]))}. "
                "Pass data of that shape, or export the file again with this `input_shape`."
            )
    count = len(next(iter(inputs.values())))
    size = max(int(shape[0]) for shape in shapes.values())
    size = count if size < 0 else size
    parts = []
    for start in range(0, count, size):
        batch = {name: array[start : start + size] for name, array in inputs.items()}
        missing = size - len(next(iter(batch.values())))
        # The last batch is filled up with copies of its last sample, whose outputs are dropped.
        batch = {name: np.concatenate([a, *[a[-1:]] * missing]) for name, a in batch.items()}
        outputs = runner(**batch)
        parts.append({k: v[: size - missing] if missing else v for k, v in outputs.items()})
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


RUNNERS = {
    "keras": run_keras,
    "h5": run_keras,
    "saved_model": run_saved_model,
    "tflite": run_litert,
    "onnx": run_onnx,
    "openvino": run_openvino,
}


def main(format: str, path: str, answer: str, inputs: str | None = None) -> None:
    """Runs the file at `path` and writes the answer; see the top of this file."""
    outputs, runtime = RUNNERS[format](path, None if inputs is None else read_named(inputs)[0])
    write_named(answer, {name: storable(array) for name, array in outputs.items()}, runtime)


if __name__ == "__main__":
    main(*sys.argv[1:])
