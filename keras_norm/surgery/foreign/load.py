"""Models of Keras 2, TensorFlow Addons and keras-contrib as models of Keras 3."""

import contextlib
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_norm.surgery.copying import check_model
from keras_norm.surgery.foreign.graphs import ModelReader
from keras_norm.surgery.foreign.reading import (
    broken,
    existing,
    member,
    opened_h5,
    opened_zip,
    parsed,
    read_whole,
    text,
    unpacked,
)
from keras_norm.surgery.foreign.stores import fill, read_groups, read_tree
from keras_norm.surgery.foreign.weights import Views

_OLD = "1.", "2."  # what versions of Keras begin with that this is for


def load_foreign(path, model=None, verbose=True, print_fn=None):
    """Loads a model that Keras 2 saved, with norms of TensorFlow Addons or keras-contrib.

    TensorFlow Addons need not be there, and no class or module that the file names is imported.
    Norms become layers of keras_norm, everything else layers of Keras 3; names, weights, dtype
    policies, shared and nested layers and what is trainable stay. What cannot be carried over
    exactly, but leaves the outputs alone, is printed; what would change them raises. The model is
    not compiled.

    Args:
        path: An .h5 or .keras file or a SavedModel folder of Keras 2; or its weights alone, an .h5
            or .weights.h5 file or the prefix of a checkpoint, where `model` is given.
        model: A model of Keras 3 with the same layers, built, that takes the weights.
        verbose: Whether to print what became of the layers.
        print_fn: Function that takes each line, in place of `print`.

    Returns:
        The model.

    Raises:
        TypeError: If `model` is none.
        ValueError: If the file is missing, damaged or not by Keras 2, holds a class or function
            that is unknown, or code of its own, or does not fit `model`.

    Example:

    >>> model = load_foreign("saved_models/golden/addons/instance.h5")  # doctest: +ELLIPSIS
    sequential: 3 layers became layers of keras_norm
    ...
    """
    reader = ModelReader()
    if model is not None:
        check_model(model)
    model = _loaded(existing(path), model, reader)
    for line in reader.lines(model.name) if verbose else ():
        (print if print_fn is None else print_fn)(line)
    return model


def _loaded(path, model, reader):
    """The model of a file, or a model that took its weights."""
    with read_whole(path):
        if model is None:
            return _whole(path, reader)
        _weights(path, model, Views(reader))
        return model


def _whole(path, reader):
    """The model of a file or folder."""
    if path.is_dir():
        return _from_folder(path, reader)
    if zipfile.is_zipfile(path):
        return _from_keras(path, reader)
    with opened_h5(path) as file:
        if "model_config" not in file.attrs:
            raise broken(
                path, "which holds weights alone; give the model: `load_foreign(path, model=model)`"
            )
        config = parsed(text(file.attrs["model_config"]), path)
        reader.version = text(file.attrs.get("keras_version", ""))
        _check_version(reader.version, path)
        if "training_config" in file.attrs:
            _note_compiled(reader)
        model = reader.model(config)
        views = Views(reader)
        group = member(file, "model_weights")
        if group is None:
            raise broken(path, "without a group of weights")
        read_groups(group, model, views, path)
        views.finish()
    return model


def _from_keras(path, reader):
    with opened_zip(path) as archive:
        reader.version = str(
            parsed(unpacked(archive, "metadata.json"), path).get("keras_version", "")
        )
        _check_version(reader.version, path)
        config = parsed(unpacked(archive, "config.json"), path)
        weights = unpacked(archive, "model.weights.h5")
    if config.get("compile_config"):
        _note_compiled(reader)
    model = reader.model(config)
    views = Views(reader)
    with opened_h5(weights) as file:
        read_tree(file, model, views, path)
    views.finish()
    return model


def _from_folder(path, reader):
    # TensorFlow is needed for checkpoints alone.
    from keras_norm.surgery.foreign.saved_model import config_of

    config = config_of(path)
    reader.version = str(config.get("keras_version", ""))
    if config.get("training_config"):
        _note_compiled(reader)
    model = reader.model(config)
    views = Views(reader)
    _read_variables(path / "variables" / "variables", model, views)
    views.finish()
    return model


def _read_variables(prefix, model, views):
    """Reads the variables of a SavedModel, or a checkpoint of weights alone."""
    from keras_norm.surgery.foreign.saved_model import Checkpoint

    checkpoint = Checkpoint(prefix)
    if checkpoint.node("variables") is not None:
        fill(views(model).slots(), checkpoint.listed(), "the model", prefix)
        return
    checkpoint.read(views(model))
    if checkpoint.left():
        raise broken(prefix, f"with weights that no layer of the model takes: {checkpoint.left()}")


def _weights(path, model, views):
    """Reads a file of weights into a model."""
    if not path.is_file():
        _read_variables(path / "variables" / "variables" if path.is_dir() else path, model, views)
    elif zipfile.is_zipfile(path):
        with opened_zip(path) as archive:
            weights = unpacked(archive, "model.weights.h5")
        with opened_h5(weights) as file:
            read_tree(file, model, views, path)
    else:
        with opened_h5(path) as file:
            group = member(file, "model_weights") or file
            if "layer_names" in group.attrs or "layer_names0" in group.attrs:
                read_groups(group, model, views, path)
            else:
                read_tree(file, model, views, path)
    views.finish()


def _check_version(version, path):
    if not version.startswith(_OLD):
        raise broken(
            path,
            f"written by Keras {version or 'of no version'}; `keras.saving.load_model` loads "
            "files of Keras 3",
        )


def _note_compiled(reader):
    reader.notes.append("optimizer, loss and metrics: compile the model anew")


@contextlib.contextmanager
def addons_compat() -> Iterator[None]:
    """Within it, `keras.saving.load_model` loads files of Keras 2 as `load_foreign` does.

    It is for code of others that loads models itself. `keras.models.load_model` and those of
    `tf.keras` are the same function; one that was imported by its name before is not reached.
    Files of Keras 3 are loaded as ever. Of a file of Keras 2 `custom_objects` are not used, and the
    model is not compiled. What `load_foreign` reports as not carried over comes as a warning.
    Threads share the scope.

    Yields:
        Nothing.

    Example:

    >>> with addons_compat():
    ...     model = keras.saving.load_model("saved_models/golden/addons/instance.h5")
    """
    load = keras.saving.load_model

    def load_model(filepath, custom_objects=None, compile=True, safe_mode=True):
        """`keras.saving.load_model`, or `load_foreign` for files of Keras 2."""
        if is_foreign(filepath):
            reader = ModelReader()
            model = _loaded(existing(filepath), None, reader)
            if reader.notes:
                lost = "\n  ".join(reader.notes)
                warnings.warn(f"{model.name}: not carried over:\n  {lost}", stacklevel=2)
            return model
        return load(filepath, custom_objects, compile, safe_mode)

    homes: list[Any] = [
        module
        for name, module in list(sys.modules.items())
        if name.endswith(("keras.saving", "keras.models"))
        and getattr(module, "load_model", None) is load
    ]
    for module in homes:
        module.load_model = load_model
    try:
        yield
    finally:
        for module in homes:
            module.load_model = load


def is_foreign(path):
    """Whether a file or folder says that Keras 2 or older wrote it."""
    with contextlib.suppress(TypeError, ValueError, OSError):
        path = Path(path)
        if path.is_dir():
            return (path / "keras_metadata.pb").is_file()
        if zipfile.is_zipfile(path):
            with opened_zip(path) as archive:
                metadata = parsed(unpacked(archive, "metadata.json"), path)
            return str(metadata.get("keras_version", "")).startswith(_OLD)
        with opened_h5(path) as file:
            return text(file.attrs.get("keras_version", "")).startswith(_OLD)
    return False
