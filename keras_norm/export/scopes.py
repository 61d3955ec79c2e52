"""Names that TensorFlow gives operations, back to the layers they come from."""

import re
from typing import Any

import keras

LayerPath = list[tuple[str, Any]]
"""Layers from the outermost inwards, each with its name."""


def layers_in(model: keras.Model, scopes: list[str]) -> LayerPath:
    """The layers that were being called where an operation was made.

    Args:
        model: The model that was traced.
        scopes: Parts of the operation's name, such as `["functional_1", "inner_1", "whiten_1"]`.

    Returns:
        Names and layers, outer ones first; the first is the model itself, unless nothing is known.
    """
    path: LayerPath = []
    for scope in scopes:
        found = _layer_of(scope, path[-1][1] if path else model, not path)
        path += [] if found is None else [(found.name, found)]
    return path


def _layer_of(scope: str, outer: Any, itself: bool) -> Any:
    """The layer in `outer`, or it itself where it may be that, whose scope this is, or `None`."""
    # Scopes are nested as layers are, so a layer of `outer` comes before one of the same name
    # deeper inside. Between them may stand what opens no scope, so deeper ones come next.
    for deeper in (False, True):
        candidates = outer._flatten_layers(include_self=itself, recursive=deeper)
        layers = {layer.name: layer for layer in reversed(candidates)}
        # Keras opens a layer's scope twice per call, so TensorFlow numbers the second one:
        # `dense_1` is the layer `dense`, and the layer `dense_1` shows as `dense_1_2`.
        for name in (re.sub(r"_\d+$", "", scope), scope):
            if name in layers:
                return layers[name]
    return None


def described(path: LayerPath) -> str:
    """A path of layers as a user would look for it: `the layer 'inner/whiten' (Whiten)`.

    Args:
        path: What `layers_in` returned.

    Returns:
        A phrase.
    """
    if not path:
        return "an unknown layer"
    names = [name for name, _ in path]
    return f"the layer '{'/'.join(names[1:] or names)}' ({type(path[-1][1]).__name__})"
