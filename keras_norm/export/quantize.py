"""The converter's settings for smaller and faster numbers, and what stays in float."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_norm.catalog import catalog
from keras_norm.export.operations import CONVERSIONS
from keras_norm.export.saved_model import ENDPOINT
from keras_norm.export.scopes import LayerPath, described, layers_in

MODES = (None, "float16", "dynamic", "int8", "int16x8")
TARGETS = ("any", "gpu", "int8-only")
CALIBRATED = ("int8", "int16x8")
"""The modes whose activations are integers, for whose range data are needed."""

NORMS = (
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
    *(row.layer for row in catalog if row.kind in ("activations", "conditional") and not row.folds),
)
"""Norms that are more than a fixed factor and offset in inference."""

_PRODUCTS = {
    "BATCH_MATMUL",
    "CONV_2D",
    "CONV_3D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
}


def check(quantize: Any, target: Any, has_data: bool) -> None:
    """Refuses modes and targets that there are not, and those that do not go together.

    Args:
        quantize: One of `MODES`.
        target: One of `TARGETS`.
        has_data: Whether there are representative data.

    Raises:
        ValueError: If one of them is unknown or does not suit the others.
    """
    if not isinstance(quantize, (str, type(None))) or quantize not in MODES:
        raise ValueError(
            f"`quantize` must be one of {MODES}. Received: quantize={quantize!r}. "
            "Pass None for float32."
        )
    if not isinstance(target, str) or target not in TARGETS:
        raise ValueError(
            f"`target` must be one of {TARGETS}. Received: target={target!r}. "
            "Pass 'any' for a file that runs wherever LiteRT does."
        )
    if target == "int8-only" and quantize != "int8":
        raise ValueError(
            "`quantize` must be 'int8' for a target that computes in int8 alone. "
            f"Received: quantize={quantize!r}, target='int8-only'. "
            "Pass quantize='int8' and representative data."
        )
    if has_data != (quantize in CALIBRATED):
        raise ValueError(
            "`representative_data` must be given for quantize='int8' and 'int16x8', and for no "
            f"other mode. Received: quantize={quantize!r} and "
            f"{'some' if has_data else 'no'} data. "
            + ("Leave them out." if has_data else "Pass some hundred samples of typical inputs.")
        )


def converted(converter: Any, quantize: str | None) -> bytes:
    """The file for a mode without calibration; for the others the float32 file.

    Args:
        converter: A `tf.lite.TFLiteConverter` of the traced model.
        quantize: One of `MODES`.

    Returns:
        The content of the `.tflite` file.
    """
    import tensorflow as tf

    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize in ("float16", "dynamic"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def calibrated(
    converter: Any,
    model: keras.Model,
    quantize: str,
    target: str,
    batches: Sequence[Mapping[str, np.ndarray]],
) -> bytes:
    """The file for a mode with integer activations.

    Args:
        converter: A `tf.lite.TFLiteConverter` of the traced model.
        model: The model that was traced, to tell its norms by name.
        quantize: One of `CALIBRATED`.
        target: One of `TARGETS`.
        batches: Data to calibrate on, by input name.

    Returns:
        The content of the `.tflite` file.
    """
    import tensorflow as tf

    sets = tf.lite.OpsSet
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter(batches)
    if quantize == "int16x8":
        integers = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        # What has no int16 form stays in float.
        converter.target_spec.supported_ops = [integers, sets.TFLITE_BUILTINS]
        return converter.convert()
    converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS_INT8]
    if target == "int8-only" or not any(
        isinstance(layer, NORMS) for layer in model._flatten_layers()
    ):
        return converter.convert()
    return _with_float_norms(converter, model)


def check_loops(model: keras.Model, content: bytes) -> None:
    """Refuses a float32 file with loops: on them TensorFlow's calibration kills the process.

    Args:
        model: The model that was traced, to tell its layers by name.
        content: The file.

    Raises:
        ValueError: If there is a loop; the message names its layer.
    """
    loops = [one for one in _operations(model, content) if one.name == "WHILE"]
    if loops:
        raise ValueError(
            "`model` must have no loop to be quantized to integers. "
            f"Received: model={model.name!r} with {_listed(loops)}. "
            "Give recurrent layers `unroll=True`, or pass quantize='dynamic'."
        )


def _with_float_norms(converter: Any, model: keras.Model) -> bytes:
    """int8, but for norms that compute statistics.

    A CPU is both faster and more exact with them: XNNPACK has no int8 kernel for a part of their
    operations, so integers would cut the graph into several partitions.
    """
    from tensorflow import lite

    options = lite.experimental.QuantizationDebugOptions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses an interpreter that is about to move
        debugger = lite.experimental.QuantizationDebugger(
            converter=converter, debug_options=options
        )
    options.denylisted_nodes = [
        operation.output
        for operation in _operations(model, debugger.calibrated_model)
        if operation.name not in _PRODUCTS
        and any(isinstance(layer, NORMS) for path in operation.paths for _, layer in path)
    ]
    return debugger.get_nondebug_quantized_model()


def check_content(
    model: keras.Model,
    content: bytes,
    quantize: str,
    target: str,
    batch: Mapping[str, np.ndarray],
) -> None:
    """Refuses a quantized file that does not run, or that computes in float where it must not.

    The converter writes operations in int16 that no kernel computes.

    Args:
        model: The model that was traced, to tell its layers by name.
        content: The file.
        quantize: One of `CALIBRATED`.
        target: One of `TARGETS`.
        batch: Inputs, by name.

    Raises:
        ValueError: If there is such an operation; the message names it and its layer.
    """
    operations = list(_operations(model, content))
    offenders = [one for one in operations if one.in_float and one.name not in CONVERSIONS]
    if offenders and target == "int8-only":
        raise _refused(model, offenders, quantize, "target='any'")
    instead = "quantize='int8'" if quantize == "int16x8" else "quantize='dynamic'"
    # Sums with a constant that is 0 throughout, and so has no step: they would end the process.
    offenders = [one for one in operations if one.has_no_step and one.name in ("ADD", "SUB")]
    if offenders:
        raise _refused(model, offenders, quantize, instead)
    try:
        _interpreter(content).get_signature_runner(ENDPOINT)(**batch)
    except RuntimeError as error:
        node = re.search(r"Node number (\d+) \((\w+)\)", str(error))
        offenders = [] if node is None else operations[int(node[1]) :][:1]
        if [one.name for one in offenders] != [node and node[2]]:
            raise
        raise _refused(model, offenders, quantize, instead) from error


def _refused(
    model: keras.Model, offenders: list["_Operation"], quantize: str, instead: str
) -> ValueError:
    return ValueError(
        f"`model` must consist of operations that LiteRT computes in {quantize}. "
        f"Received: model={model.name!r} with {_listed(offenders)}. Replace these layers (for "
        f"Keras's own norms, `keras_norm.accelerate` does), or pass {instead}."
    )


def _listed(operations: list["_Operation"]) -> str:
    """Operations and their layers, each once."""
    return "; ".join(
        sorted({f"{one.name} in {described(next(iter(one.paths), []))}" for one in operations})
    )


class _Operation(NamedTuple):
    """An operation of a file: its kind, its output, and the layers that it comes from.

    The converter joins operations, so there may be several paths of layers.
    """

    name: str
    output: str
    in_float: bool
    has_no_step: bool
    paths: list[LayerPath]


def _operations(model: keras.Model, content: bytes) -> Iterator[_Operation]:
    interpreter = _interpreter(content)
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    known: dict[int, list[LayerPath]] = {}
    for details in interpreter._get_ops_details():
        inputs = [index for index in details["inputs"] if index in tensors]
        outputs = [index for index in details["outputs"] if index in tensors]
        name = tensors[outputs[0]]["name"]
        paths = [layers_in(model, part.split("/")[:-1]) for part in name.split(";")]
        # An output of the model is named after that: its layer is most likely that of its input.
        paths = [path for path in paths if path] or next(filter(None, map(known.get, inputs)), [])
        known.update(dict.fromkeys(outputs, paths))
        dtypes = [tensors[index]["dtype"] for index in inputs + outputs]
        steps = [tensors[index]["quantization"][0] for index in inputs if np.int16 in dtypes[:2]]
        yield _Operation(details["op_name"], name, np.float32 in dtypes, 0.0 in steps, paths)


def _interpreter(content: bytes) -> Any:
    """What runs a file, kernel by kernel, without delegates that join some of its operations."""
    from tensorflow import lite

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its successor is another package, which users may lack
        return lite.Interpreter(
            model_content=content,
            experimental_op_resolver_type=(
                lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
        )
