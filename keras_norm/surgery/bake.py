"""Puts what norms compute of weights alone into the weights."""

import functools
from typing import Any

import keras

from keras_norm.configs import from_own_config
from keras_norm.surgery.copying import (
    Copies,
    assign,
    build_like,
    check_model,
    compile_like,
    copy_state,
    copy_trainable,
    rebuilt,
)
from keras_norm.wrappers.base import BaseWeightWrapper


def bake(model):
    """Replaces each wrapped layer by the plain layer, which then holds its effective weights.

    The new model computes what the old one does in inference, without the package. Layers keep
    their names (a plain layer takes its wrapper's), shared layers stay shared, and nested models
    and recurrent layers around wrapped cells are gone through. The old model stays as it is.

    Args:
        model: A functional or sequential model, or one layer that is built: a wrapper, or any layer
            with wrappers in it that its config describes.

    Returns:
        A new model or layer; a model that is compiled is compiled anew.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is not built, or makes its wrappers itself, as subclasses of
            `keras.Model` do.

    Example:

    >>> import keras
    >>> dense = keras.layers.Dense(2, name="dense")
    >>> model = keras.Sequential([keras.Input((3,)), WeightNormalization(dense, name="first")])
    >>> bake(model).layers
    [<Dense name=first, built=True>]
    """
    check_model(model)
    copies = Copies(_new_layer)
    new = copies(model)
    build_like(model, new)
    _copy_weights(model, new)
    for old in model._flatten_layers():
        if old in copies:
            if not _wrappers(old):
                copy_state(old, copies(old))  # some layers make more of their weights
            compile_like(old, copies(old))
    return new


def _new_layer(layer):
    """A layer like another, but with plain layers for wrappers and its weights still to come."""
    if not isinstance(layer, keras.layers.Layer) or not _wrappers(layer):
        return rebuilt(layer)
    classes = {type(one).__name__: type(one) for one in layer._flatten_layers()}
    try:
        new = from_own_config(layer, functools.partial(_plain, classes=classes))
    except (TypeError, ValueError) as error:
        raise _not_in_config(layer, _wrappers(layer)) from error
    if _wrappers(new):
        raise _not_in_config(layer, _wrappers(new))
    return new


def _plain(config, classes):
    """A serialized object with the serialized inner layer in place of each wrapper."""
    if isinstance(config, (list, tuple)):
        return [_plain(part, classes) for part in config]
    if not isinstance(config, dict):
        return config
    if issubclass(classes.get(config.get("class_name"), object), BaseWeightWrapper):
        inner = _plain(config["config"]["layer"], classes)
        return {**inner, "config": {**inner["config"], "name": config["config"]["name"]}}
    return {key: _plain(part, classes) for key, part in config.items()}


def _wrappers(layer):
    """The wrappers in a layer, itself included."""
    return [one for one in layer._flatten_layers() if isinstance(one, BaseWeightWrapper)]


def _not_in_config(layer, wrappers):
    """The error for a layer that makes its wrappers itself."""
    return ValueError(
        "`model` must have each of its wrappers in a config. "
        f"Received: layer {layer.name!r} of class {type(layer).__name__}, which makes "
        f"{sorted({wrapper.name for wrapper in wrappers})} itself. Bake those one by one, or write "
        "the model with the functional API."
    )


def _copy_weights(old, new):
    """Gives the new model the old one's weights, effective ones where there are."""
    own: set[int] = set()
    effective: dict[int, Any] = {}
    for wrapper in _wrappers(old):
        inner = {id(weight) for weight in wrapper.layer.weights}
        own.update(id(weight) for weight in wrapper.weights if id(weight) not in inner)
        effective.update((id(weight), value) for weight, value in wrapper.effective_weights())
    kept = [weight for weight in old.weights if id(weight) not in own]
    pairs = list(zip(kept, new.weights, strict=True))
    for weight, target in pairs:
        assign(target, effective.get(id(weight), weight))
    copy_trainable(pairs)
