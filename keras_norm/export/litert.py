"""Model → LiteRT (`.tflite`) file with built-in operations only."""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import keras

from keras_norm.export import quantize as quantization
from keras_norm.export import representative, signature
from keras_norm.export.equalize import equalize
from keras_norm.export.placing import placed
from keras_norm.export.precision import in_float32
from keras_norm.export.saved_model import ENDPOINT, write_saved_model
from keras_norm.export.scopes import described, layers_in
from keras_norm.ops import half, rows, without_residuals

Shape = tuple[int | None, ...]

IN_FLOAT: Mapping[str, Callable] = {"root": keras.ops.sqrt, **rows.FORMS}
"""What answers for ops while a model is traced: no gradients, and no pass that can be spared."""

IN_HALF: Mapping[str, Callable] = {**IN_FLOAT, **half.FORMS}
"""The same for GPUs."""

_REDIRECTING = threading.Lock()
"""A second thread would take the first one's file for the process's standard error."""


def export_litert(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    quantize: str | None = None,
    representative_data: Any = None,
    input_shape: Shape | Mapping[str, Shape] | None = None,
    target: str = "any",
) -> Path:
    """Writes `model` as a LiteRT (`.tflite`) file.

    The file uses LiteRT's built-in operations alone, so it runs where the TensorFlow ("Flex")
    kernels are not installed: phones, microcontrollers, delegates. It has one signature,
    `serving_default`, with the model's inputs and outputs by name, in float32 whatever the model's
    policy and however the file computes. The file appears at `path` when it is complete.

    Quantized modes, with what becomes of a kernel and of activations:

    | `quantize` | kernels | activations |
    |---|---|---|
    | `None` | float32 | float32 |
    | `"float16"` | float16 | float32 |
    | `"dynamic"` | int8 from 1,024 numbers on | float32, rounded to int8 before products |
    | `"int8"` | int8 | int8, but for norms (see `target`) |
    | `"int16x8"` | int8 | int16, which few processors are fast at |

    A layer norm over up to 4,096 features takes the mean out as one float32 number, in fewer passes
    than the live layer: where the mean is 1000 deviations, it errs by up to 2e-4 of its largest
    output.

    Before int8 and int16x8, a convolution or dense layer in front of a group or instance norm is
    divided by what spread the data have in each group, and so is the norm's ε: the same function,
    with no group lost to rounding beside a louder one.

    Args:
        model: A Functional or Sequential `keras.Model`, run in inference mode.
        path: The file to write; it must end in `.tflite`. Missing parents are created.
        quantize: A mode of the table.
        representative_data: For `"int8"` and `"int16x8"`, inputs as the file will see them, from
            which the ranges of all numbers are taken: an array, a list with one array per input, a
            dict by input name, or a finite iterable of batches of those (such as a generator or a
            `tf.data.Dataset` of inputs alone; TensorFlow's own form, a generator of lists, is one).
            Some hundred samples do.
        input_shape: The shape of the input with its batch size, or a dict from the name of an
            input to its shape. `None` entries stay free. Defaults to the model's own input shapes
            with a batch size of 1: delegates want static shapes.
        target: What will run the file. `"any"`: CPUs above all; in int8, norms that do not fold
            away stay in float32 between integer products, which is more exact and leaves the graph
            whole. `"gpu"`: runtimes that compute in float16, as GPUs of phones do. Norms of this
            package then square and add up scaled numbers alone, which stay finite, and read their
            input more often for it; in float32 both targets compute the same, but that an epsilon
            below 3.7e-9 is raised to that, with a warning. Cosine layers and local response
            normalization are the same for both. `"int8-only"`: hardware without float arithmetic;
            all but the conversion of inputs and outputs is int8. That conversion stays in the
            file, so that all modes are called alike.

    Returns:
        `path` as a `pathlib.Path`.

    Raises:
        ValueError: If `path` does not end in `.tflite`, if `input_shape` does not fit the model,
            if the model's inputs are not known, if Keras does not run on TensorFlow, if a mode, a
            target or the representative data are not as said above, or if an operation is not
            built into LiteRT, or not for the target; the message names the operation and its layer.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_norm.export import export_litert
    >>> inputs = keras.Input((8, 8, 3), name="image")
    >>> model = keras.Model(inputs, keras.layers.Conv2D(4, 3, name="features")(inputs))
    >>> export_litert(model, "features.tflite", input_shape=(4, 8, 8, 3)).name
    'features.tflite'
    >>> images = np.random.default_rng(0).normal(size=(16, 8, 8, 3))
    >>> export_litert(model, "small.tflite", quantize="int8", representative_data=images).name
    'small.tflite'
    """
    path = Path(path)
    if path.suffix != ".tflite" or path.is_dir():
        raise ValueError(
            "`path` must be a file that ends in `.tflite`. "
            f"Received: path={str(path)!r}. Pass for example "
            f"{str(path.with_suffix('.tflite') if path.name else 'model.tflite')!r}"
            + (", once the folder of that name is moved away." if path.is_dir() else ".")
        )
    quantization.check(quantize, target, representative_data is not None)
    shapes = _shapes(model, input_shape)
    model = in_float32(model)
    batches = []
    if representative_data is not None:
        batches = representative.batches(model, representative_data, shapes)
        model = equalize(model, batches)
    content = _converted(model, shapes, quantize, target, batches)
    with placed(path) as new:
        new.write_bytes(content)
    return path


def _shapes(model: keras.Model, input_shape: Any) -> list[Shape]:
    """One shape per input of the model, as the signature will have it."""
    tensors, names = signature.input_tensors(model), signature.input_names(model)
    asked = {} if input_shape is None else input_shape
    if isinstance(asked, Mapping):
        asked = {signature.identifier(str(name)): shape for name, shape in asked.items()}
    else:
        asked = {names[0]: asked} if len(names) == 1 else {None: asked}
    if not set(asked) <= set(names):
        raise ValueError(
            "`input_shape` must be a shape for a model with one input, else a dict from the names "
            f"of inputs to shapes. Received: input_shape={input_shape!r}. "
            f"The inputs are named {names}."
        )
    result = []
    for name, tensor in zip(names, tensors, strict=True):
        own = tuple(tensor.shape)
        shape = asked.get(name, (1 if own[0] is None else own[0], *own[1:]))
        _check_shape(name, shape, own)
        result.append(tuple(shape))
    return result


def _check_shape(name: str, shape: Any, own: Shape) -> None:
    fits = isinstance(shape, (tuple, list)) and len(shape) == len(own)
    fits = fits and all(
        size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)
        for size in shape
    )
    # The batch size is the caller's to choose; the model is fixed in its other known sizes.
    pairs = list(zip(shape, own, strict=True))[1:] if fits else []
    if not fits or any(known is not None and size != known for size, known in pairs):
        raise ValueError(
            "`input_shape` must hold the batch size and then sizes that the model takes, "
            f"as positive integers or `None`. Received: input_shape={shape!r} for the input "
            f"{name!r} of shape {own}. Pass for example {(1, *own[1:])}."
        )


def _converted(
    model: keras.Model,
    shapes: list[Shape],
    quantize: str | None,
    target: str,
    batches: list[representative.Batch],
) -> bytes:
    # Imported here: the package also runs where Keras has another backend than TensorFlow.
    import tensorflow as tf

    integers = quantize in quantization.CALIBRATED
    forms = IN_HALF if target == "gpu" and not integers else IN_FLOAT
    with tempfile.TemporaryDirectory() as folder:
        with without_residuals() if integers else contextlib.nullcontext():
            write_saved_model(model, Path(folder), shapes, forms)
        with _explained(model):
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[ENDPOINT])
            content = quantization.converted(converter, quantize)
        if quantize is not None and integers:
            quantization.check_loops(model, content)
            with _explained(model):
                content = quantization.calibrated(converter, model, quantize, target, batches)
            quantization.check_content(model, content, quantize, target, batches[0])
    return content


@contextlib.contextmanager
def _explained(model: keras.Model) -> Iterator[None]:
    """Keeps the converter quiet, and says which operations it refused, if it did."""
    with tempfile.TemporaryFile() as said:
        try:
            with _standard_error_into(said):
                yield
        except Exception as error:
            offenders = _offenders(model, error)
            if not offenders:
                said.seek(0)
                sys.stderr.write(said.read().decode(errors="replace"))
                raise
            fix = (
                "Replace these layers, or compute what they compute once and keep it as a constant "
                "weight (whitening by a fixed matrix, for example)."
            )
            if any("TensorList" in offender for offender in offenders):
                fix = (
                    "A loop over time needs a fixed batch size, as `input_shape=(1, ...)` gives, "
                    "or a layer with `unroll=True`."
                )
            raise ValueError(
                "`model` must consist of operations that are built into LiteRT. "
                f"Received: model={model.name!r} with {'; '.join(offenders)}. {fix}"
            ) from error


@contextlib.contextmanager
def _standard_error_into(file: IO[bytes]) -> Iterator[None]:
    """Sends file descriptor 2 to `file`: the converter chats from C++, past `sys.stderr`."""
    with _REDIRECTING:
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _offenders(model: keras.Model, error: Exception) -> list[str]:
    """Operations that the converter refused, each with the layer it comes from."""
    found = set()
    for refusal in getattr(error, "errors", []):
        if refusal.operator.name:
            operation = refusal.operator.name.removeprefix("tf.")
            found.add(f"{operation} in {_layer_at(model, refusal.location)}")
    return sorted(found)


def _layer_at(model: keras.Model, location: Any) -> str:
    """The innermost layer in whose name scope the converter met an operation.

    A location is a stack of calls, innermost first, such as
    `functional_1/inner_1/whiten_1/Cholesky@__inference_serve_204`.
    """
    paths = (layers_in(model, call.name.split("@")[0].split("/")[:-1]) for call in location.call)
    return described(next(filter(None, paths), []))
