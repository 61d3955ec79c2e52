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
        candidates = (path[-1][1] if path else model)._flatten_layers(include_self=not path)
        layers = {layer.name: layer for layer in candidates}
        # Keras opens a layer's scope twice per call, so TensorFlow numbers the second one:
        # `dense_1` is the layer `dense`, and the layer `dense_1` shows as `dense_1_2`.
        for name in (re.sub(r"_\d+$", "", scope), scope):
            if name in layers:
                path.append((name, layers[name]))
                break
    return path


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
