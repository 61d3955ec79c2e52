"""Layers that hold layers: which they are, and how to give them others."""

import collections
import functools
from collections.abc import Iterator
from typing import Any

import keras


def is_graph(layer):
    """Whether a layer is a functional or sequential model."""
    return isinstance(layer, keras.Model) and hasattr(type(layer), "inputs")


def children(layer) -> dict[Any, Any]:
    """The layers that a layer holds, by where: attributes, and lists and dicts in attributes."""
    if is_graph(layer):
        return dict(enumerate(layer._layers))
    return {
        path: held
        for name, value in _attributes(layer).items()
        for path, held in _layers_in(value, (name,))
    }


def _attributes(layer):
    """What a class keeps in a layer, without what Keras and TensorFlow keep in every layer."""
    held = {**vars(layer), **getattr(layer, "_modules", {})}  # where PyTorch puts single layers
    return {
        name: value
        for name, value in held.items()
        if name not in _kept_by_keras() and not name.startswith("_self_")
    }


@functools.cache
def _kept_by_keras():
    return frozenset(vars(keras.Model(name="empty")))


def _layers_in(value, path) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, keras.layers.Layer):
        yield path, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _layers_in(part, (*path, key))
    elif isinstance(value, (list, tuple)):
        for key, part in enumerate(value):
            yield from _layers_in(part, (*path, key))


def exchange(layer, new: dict[int, Any]):
    """Gives a layer other layers in place of those it holds.

    Args:
        layer: A layer or model that is no graph.
        new: What to put in place of a layer, by the `id` of that layer.
    """
    tracker = layer._tracker
    locked = tracker.locked
    tracker.unlock()  # a built layer takes no more layers, but those in place of others
    for old in [old for old in layer._layers if id(old) in new]:
        # In its place: the order of layers is the order of weights.
        if tracker.is_in_store("layers", new[id(old)]):
            tracker.untrack(old)
        else:
            tracker.replace_tracked_value("layers", old, new[id(old)])
    for name, value in _attributes(layer).items():
        if any(id(held) in new for _, held in _layers_in(value, ())):
            setattr(layer, name, _exchanged(value, new))
    if locked:
        tracker.lock()


def _exchanged(value, new):
    """A structure of layers with new ones in place of old ones."""
    if isinstance(value, dict):
        kind = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
        return kind((key, _exchanged(part, new)) for key, part in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_exchanged(part, new) for part in value))
    if isinstance(value, (list, tuple)):
        parts = [_exchanged(part, new) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    return new.get(id(value), value)
