"""Model → LiteRT (`.tflite`) file with built-in operations only."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import keras

from keras_norm.export import signature
from keras_norm.export.placing import placed
from keras_norm.export.precision import in_float32
from keras_norm.export.saved_model import ENDPOINT, write_saved_model
from keras_norm.ops import half

Shape = tuple[int | None, ...]

WITHOUT_GRADIENT: Mapping[str, Callable] = {"root": keras.ops.sqrt}

FORMS: Mapping[str, Mapping[str, Callable]] = {
    "any": WITHOUT_GRADIENT,
    "gpu": {**WITHOUT_GRADIENT, **half.FORMS},
}
"""What answers for ops while a model is traced, by target."""


def export_litert(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    input_shape: Shape | Mapping[str, Shape] | None = None,
    target: str = "any",
) -> Path:
    """Writes `model` as a float32 LiteRT (`.tflite`) file, also where its policy is another.

    The file uses LiteRT's built-in operations alone, so it runs where the TensorFlow ("Flex")
    kernels are not installed: phones, microcontrollers, delegates. It has one signature,
    `serving_default`, with the model's inputs and outputs by name. The file appears at `path` when
    it is complete.

    Args:
        model: A Functional or Sequential `keras.Model`, run in inference mode.
        path: The file to write; it must end in `.tflite`. Missing parents are created.
        input_shape: The shape of the input with its batch size, or a dict from the name of an
            input to its shape. `None` entries stay free. Defaults to the model's own input shapes
            with a batch size of 1: delegates want static shapes.
        target: "any", or "gpu" for runtimes that compute in float16, as GPUs of phones do. Norms of
            this package then square and add up scaled numbers alone, which stay finite, and read
            their input more often for it. In float32 both targets compute the same, but that an
            epsilon below 3.7e-9 is raised to that, with a warning. Cosine layers and local response
            normalization are the same for both.

    Returns:
        `path` as a `pathlib.Path`.

    Raises:
        ValueError: If `path` does not end in `.tflite`, if `input_shape` does not fit the model,
            if `target` is unknown, if the model's inputs are not known, if Keras does not run on
            TensorFlow, or if an operation is not built into LiteRT; the message names the operation
            and its layer.

    Example:

    >>> import keras
    >>> from keras_norm.export import export_litert
    >>> inputs = keras.Input((8, 8, 3), name="image")
    >>> model = keras.Model(inputs, keras.layers.Conv2D(4, 3, name="features")(inputs))
    >>> export_litert(model, "features.tflite", input_shape=(4, 8, 8, 3)).name
    'features.tflite'
    """
    path = Path(path)
    if path.suffix != ".tflite" or path.is_dir():
        raise ValueError(
            "`path` must be a file that ends in `.tflite`. "
            f"Received: path={str(path)!r}. Pass for example "
            f"{str(path.with_suffix('.tflite'))!r}"
            + (", once the folder of that name is moved away." if path.is_dir() else ".")
        )
    if target not in FORMS:
        raise ValueError(
            f"`target` must be one of {', '.join(map(repr, FORMS))}. Received: target={target!r}. "
            "Pass 'any' for a file that runs everywhere in float32."
        )
    content = _converted(model, _shapes(model, input_shape), FORMS[target])
    with placed(path) as new:
        new.write_bytes(content)
    return path


def _shapes(model: keras.Model, input_shape: Any) -> list[Shape]:
    """One shape per input of the model, as the signature will have it."""
    tensors, names = signature.input_tensors(model), signature.input_names(model)
    asked = {} if input_shape is None else input_shape
    if not isinstance(asked, Mapping):
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


def _converted(model: keras.Model, shapes: list[Shape], forms: Mapping[str, Callable]) -> bytes:
    # Imported here: the package also runs where Keras has another backend than TensorFlow.
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        write_saved_model(in_float32(model), Path(folder), shapes, forms)
        try:
            with _standard_error_into(said):
                converter = tf.lite.TFLiteConverter.from_saved_model(
                    folder, signature_keys=[ENDPOINT]
                )
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
                return converter.convert()
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
            found.add(f"{operation} in {_layer_of(model, refusal.location)}")
    return sorted(found)


def _layer_of(model: keras.Model, location: Any) -> str:
    """The innermost layer in whose name scope the converter met an operation.

    A location is a stack of calls, innermost first, such as
    `functional_1/inner_1/whiten_1/Cholesky@__inference_serve_204`.
    """
    for call in location.call:
        owner, path = None, []
        for scope in call.name.split("@")[0].split("/")[:-1]:
            candidates = (owner or model)._flatten_layers(include_self=owner is None)
            layers = {layer.name: layer for layer in candidates}
            # Keras opens a layer's scope twice per call, so TensorFlow numbers the second one:
            # `dense_1` is the layer `dense`, and the layer `dense_1` shows as `dense_1_2`.
            for name in (re.sub(r"_\d+$", "", scope), scope):
                if name in layers:
                    owner = layers[name]
                    path.append(name)
                    break
        if owner is not None:
            return f"the layer '{'/'.join(path[1:] or path)}' ({type(owner).__name__})"
    return "an unknown layer"
