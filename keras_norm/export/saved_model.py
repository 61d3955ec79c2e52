"""Model → TensorFlow SavedModel."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras

from keras_norm import backend
from keras_norm.backend import abilities
from keras_norm.export import signature
from keras_norm.export.placing import Taken, placed
from keras_norm.export.versions import Version, base_folder, version_folder
from keras_norm.export.warmup import warmup_requests, write_requests

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


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    version: Version = None,
    name: str | None = None,
    warmup: Any = None,
) -> Path:
    """Writes `model` as a TensorFlow SavedModel folder for serving.

    The signature `serving_default` takes the model's inputs and returns its outputs by name; the
    batch size is free. The graph is that of inference: it assigns no variable, and it needs
    neither Keras nor this package to run. The folder appears in its place when it is complete.

    Without a version `path` is the SavedModel, and an older one there is replaced. With a version
    it is the folder that TensorFlow Serving knows as a model's base path: the SavedModel goes to
    `path/<version>`, the last part of `path` is the model's name, and no other version is touched.
    A server that watches the folder loads the new version by itself.

    Args:
        model: A Functional or Sequential `keras.Model`. Inputs are named after their
            `keras.Input`, outputs after their layer, or after their key where the model returns a
            dict; characters other than letters, digits and `_` become `_`.
        path: The folder to write, or the one that the model's versions lie in. Missing parents
            are created.
        version: A positive integer that is not there yet, or `"next"`: one more than the highest
            that is there, 1 for the first. Defaults to `None`, a SavedModel without versions.
        name: The model's name, a folder put between `path` and the version. Defaults to `None`,
            no such folder.
        warmup: Requests that TensorFlow Serving runs before the first real one, which is slow
            otherwise: an array, a list of arrays, or a dict by input name, of up to 1000 samples,
            or how many random ones to draw. Each sample is a request of its own, a batch of one.
            They go to `assets.extra/tf_serving_warmup_requests`. Needs `keras_norm[serving]`.
            Defaults to `None`, no such file.

    Returns:
        The path of the SavedModel.

    Raises:
        ImportError: If there is a `warmup` and `tensorflow-serving-api` is not installed.
        OSError: If the folder cannot be written; what was there before stays.
        ValueError: If the model's inputs are not known, if `path` holds anything but a SavedModel
            (without a version) or is a file or a SavedModel (with one), if the version exists,
            if `version`, `name` or `warmup` is not usable, or if Keras does not run on TensorFlow.

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
    >>> for _ in range(2):
    ...     export_saved_model(model, "models", name="features", version="next").as_posix()
    'models/features/1'
    'models/features/2'
    """
    base = base_folder(Path(path), version, name)
    shapes = [(None, *tensor.shape[1:]) for tensor in signature.input_tensors(model)]
    logged = None if warmup is None else warmup_requests(model, warmup)
    while True:
        target = base if version is None else version_folder(base, version)
        if version is None:
            _check_target(target)
        try:
            with placed(target, replace=version is None) as folder:
                write_saved_model(model, folder, shapes)
                if logged is not None:
                    with _system_errors():
                        write_requests(folder, base.resolve().name, ENDPOINT, logged)
            return target
        except Taken:
            continue  # Another writer was first: this is the next version, or an error.


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
        OSError: If the folder cannot be written.
        ValueError: If the model's inputs are not known, or if Keras does not run on TensorFlow.
    """
    if not abilities.writes_saved_models():
        raise ValueError(
            "The Keras backend must be 'tensorflow' to export a model for serving. "
            f"Received: backend={abilities.running()!r}. Save the model as `.keras` and "
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
        with _system_errors():
            archive.write_out(str(folder), verbose=False)


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """Raises errors of the file system as Python does: TensorFlow has exceptions of its own."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        _, _, cause = error.message.rpartition("}} ")  # what follows the node in the graph
        raise OSError(
            f"The SavedModel cannot be written: {cause}. "
            "What was there before is whole. Free some space, or choose another path."
        ) from error


def _check_target(path: Path) -> None:
    """Replacing deletes what was there, so that must be a SavedModel and nothing more."""
    held = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    others = sorted(held - _CONTENTS)
    # Folders of users have such names as `assets`, too: only the graph tells a SavedModel.
    no_model = held and "saved_model.pb" not in held
    if (path.exists() and not path.is_dir()) or others or no_model:
        raise ValueError(
            "`path` must be free, an empty folder, or a SavedModel to replace. "
            f"Received: path={str(path)!r}"
            + (f" (which holds {others or sorted(held)}). " if held else " (a file). ")
            + "Choose another path, or move away what is there"
            + (
                ", or add a version by version='next'."
                if any(name.isdecimal() for name in others)
                else "."
            )
        )
