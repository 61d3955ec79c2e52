"""Copies made from configs, which know functions and classes by their names alone."""

import collections
import contextlib
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

_RENAMING = threading.RLock()


def from_own_config(layer: Any, change: Callable[[Any], Any] = lambda config: config) -> Any:
    """A layer like another, made from its config; the two share nothing but functions.

    Args:
        layer: A layer or model.
        change: Function from the serialized layer to what to make the new one from.

    Returns:
        The new layer, whose weights are still to come.

    Raises:
        ValueError: If two classes that nobody registered are named alike. Whatever else the
            constructors of layers raise comes through.
    """
    with told_apart(layer._flatten_layers()) as known:
        config = change(keras.saving.serialize_keras_object(layer))
        # The config is that of a live layer, whose functions have been trusted all along.
        return keras.saving.deserialize_keras_object(config, known, safe_mode=False)


@contextlib.contextmanager
def told_apart(holders: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Has configs tell apart whatever layers hold in attributes, registered or not.

    A config has nothing but the name of a function, and two of one name are no rare thing: what a
    function returns is named alike in every call. Of a lambda it has the code alone, without what
    that refers to, and no activation is made from it. Such functions have names of their own here.

    Args:
        holders: Layers, optimizers, metrics.

    Yields:
        Classes and functions by name, known to Keras meanwhile.

    Raises:
        ValueError: If two classes that nobody registered are named alike.
    """
    classes, functions = _held(holders)
    with _RENAMING:
        names = {id(one): one.__name__ for one in functions}
        counts = collections.Counter(names.values())
        for number, one in enumerate(functions):
            alike = counts[one.__name__] > 1 or one.__name__ == "<lambda>"
            if alike and _is_unknown(one) and isinstance(one, types.FunctionType):
                one.__name__ = f"{one.__name__} {number}"
        try:
            known = {one.__name__: one for one in [*classes, *functions] if _is_unknown(one)}
            with keras.saving.custom_object_scope(known):
                yield known
        finally:
            for one in functions:
                if one.__name__ != names[id(one)]:
                    one.__name__ = names[id(one)]


def _held(holders: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """The classes of layers and of what they hold, and the functions, each once."""
    classes: dict[int, Any] = {}
    functions: dict[int, Any] = {}
    for holder in holders:
        classes[id(type(holder))] = type(holder)
        for name, value in vars(holder).items():
            kind = value if isinstance(value, type) else type(value)
            if callable(value) and hasattr(kind, "get_config"):
                classes[id(kind)] = kind
            # Keras wraps some methods of every layer.
            elif callable(value) and hasattr(value, "__name__") and not hasattr(type(holder), name):
                functions[id(value)] = value
    counts = collections.Counter(one.__name__ for one in classes.values() if _is_unknown(one))
    for name, count in counts.items():
        if count > 1:
            raise ValueError(
                f"two classes in it are named {name!r}: register one of them by "
                "`keras.saving.register_keras_serializable`"
            )
    return list(classes.values()), list(functions.values())


def _is_unknown(one: Any) -> bool:
    """Whether Keras finds a class or function only if it is told."""
    package = (getattr(one, "__module__", None) or "").split(".")[0]
    return package != "keras" and keras.saving.get_registered_name(one) == one.__name__
