"""Model → TensorFlow SavedModel."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import keras

from keras_norm import backend
from keras_norm.export import signature
from keras_norm.export.placing import placed

ENDPOINT = "serving_default"
"""The signature's key, the one that model servers look for."""

_CONTENTS = {
    "assets",
    "assets.extra",
    "debug",
    "fingerprint.pb",
    "keras_metadata.pb",
    "saved_model.pb",
    "variables",
}


def export_saved_model(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Writes `model` as a TensorFlow SavedModel folder for serving.

    The signature `serving_default` takes the model's inputs and returns its outputs by name; the
    batch size is free. The graph is that of inference: it assigns no variable, and it needs
    neither Keras nor this package to run. The folder appears at `path` when it is complete; an
    older SavedModel there is replaced.

    Args:
        model: A Functional or Sequential `keras.Model`. Inputs are named after their
            `keras.Input`, outputs after their layer, or after their key where the model returns a
            dict; characters other than letters, digits and `_` become `_`.
        path: The folder to write. Missing parents are created.

    Returns:
        `path` as a `pathlib.Path`.

    Raises:
        ValueError: If the model's inputs are not known, if `path` holds anything but a SavedModel,
            or if Keras does not run on TensorFlow.

    Example:

    >>> import keras
    >>> import tensorflow as tf
    >>> from keras_norm.export import export_saved_model
    >>> inputs = keras.Input((8, 8, 3), name="image")
    >>> model = keras.Model(inputs, keras.layers.Conv2D(4, 3, name="features")(inputs))
    >>> path = export_saved_model(model, "features")
    >>> serve = tf.saved_model.load(path).signatures["serving_default"]
    >>> serve(image=tf.zeros((5, 8, 8, 3)))["features"].shape
    TensorShape([5, 6, 6, 4])
    """
    path = Path(path)
    _check_target(path)
    tensors = signature.input_tensors(model)
    with placed(path) as folder:
        write_saved_model(model, folder, [(None, *tensor.shape[1:]) for tensor in tensors])
    return path


def write_saved_model(
    model: keras.Model,
    folder: Path,
    shapes: list[tuple[int | None, ...]],
    forms: Mapping[str, Callable] = MappingProxyType({}),
) -> None:
    """Traces `model` for inputs of the given shapes and writes the SavedModel into `folder`.

    Args:
        model: A Functional or Sequential `keras.Model`.
        folder: Where to write, there and then.
        shapes: One shape per input of the model, with batch; `None` for a free size.
        forms: What answers for ops in place of their definitions, by name.

    Raises:
        ValueError: If the model's inputs are not known, or if Keras does not run on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "The Keras backend must be 'tensorflow' to export a model for serving. "
            f"Received: backend={keras.backend.backend()!r}. Save the model as `.keras` and "
            "export it from a process started with the environment variable "
            "KERAS_BACKEND=tensorflow."
        )
    names = signature.input_names(model)
    specs = {
        name: keras.InputSpec(shape=shape, dtype=tensor.dtype, name=name)
        for name, tensor, shape in zip(names, signature.input_tensors(model), shapes, strict=True)
    }

    def serve(inputs: Mapping) -> dict:
        arguments = signature.packed(model, [inputs[name] for name in names])
        return signature.named_outputs(model, model(arguments, training=False))

    # A function of its own per export: an earlier trace may hold training-time rewrites of ops.
    with backend.answered_by(forms):
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(ENDPOINT, serve, input_signature=[specs])
        archive.write_out(str(folder), verbose=False)


def _check_target(path: Path) -> None:
    """Replacing deletes what was there, so that must be a SavedModel and nothing more."""
    held = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if (path.exists() and not path.is_dir()) or not held <= _CONTENTS:
        raise ValueError(
            "`path` must be free, an empty folder, or a SavedModel to replace. "
            f"Received: path={str(path)!r}"
            + (f" (which holds {sorted(held - _CONTENTS)}). " if held else " (a file). ")
            + "Choose another path, or move away what is there."
        )
