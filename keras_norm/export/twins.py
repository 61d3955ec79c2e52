"""Twins of models: the same function in layers of their own, which an export may change."""

import types
from collections.abc import Callable, Iterator
from typing import Any

import keras


def twin(model: keras.Model, change: Callable[[dict], dict] = dict) -> keras.Model:
    """A model like another, made from its config; the two share nothing.

    Args:
        model: A built Functional or Sequential model.
        change: Function from a dict of the model's config to the one to take in its place. It is
            given every dict, outer ones first. By default they stay as they are.

    Returns:
        A model with the same layers, names and weights, not compiled.

    Raises:
        ValueError: If the config names two classes or functions alike. Whatever else the
            constructors of layers raise comes through.
    """
    config = _changed(keras.saving.serialize_keras_object(model), change)
    # The config is that of a live model, whose functions have been trusted all along.
    new = keras.saving.deserialize_keras_object(
        config, custom_objects=_custom_objects(model, config), safe_mode=False
    )
    for old, own in zip(model._flatten_layers(), new._flatten_layers(), strict=True):
        # As files carry them: some layers compute from their weights when these are loaded.
        store: dict[str, Any] = {}
        old.save_own_variables(store)
        if store:
            own.load_own_variables(store)
    return new


def reason_of(error: Exception) -> str:
    """The first line of what an exception says, without its full stop, or its kind.

    Args:
        error: An exception.

    Returns:
        A line that is not empty.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _changed(config: Any, change: Callable[[dict], dict]) -> Any:
    if isinstance(config, (list, tuple)):
        return type(config)(_changed(entry, change) for entry in config)
    if not isinstance(config, dict):
        return config
    kept = {key: value for key, value in config.items() if key != "compile_config"}
    return {key: _changed(value, change) for key, value in change(kept).items()}


def _custom_objects(model: keras.Model, config: Any) -> dict[str, Any]:
    """Classes and functions that nobody registered, by the names that the config has for them."""
    named = {text for text in keras.tree.flatten(config) if isinstance(text, str)}
    result: dict[str, Any] = {}
    for one in _held(model):
        name = one.__name__
        registered = keras.saving.get_registered_name(one) != name
        known = registered or one.__module__.split(".")[0] == "keras"
        # Two of one name are no rare thing: what a function returns is named alike in every call.
        if name in named and not known and result.setdefault(name, one) is not one:
            raise ValueError(f"two classes or functions in it are named {name!r}")
    return result


def _held(model: keras.Model) -> Iterator[Any]:
    """The classes of a model's layers, and the functions in their attributes."""
    for layer in model._flatten_layers():
        yield type(layer)
        for key, value in vars(layer).items():
            # Keras wraps some methods of every layer.
            if isinstance(value, types.FunctionType) and not hasattr(type(layer), key):
                yield value
