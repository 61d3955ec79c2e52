"""Twins of models: the same function in layers of their own, which an export may change."""

import types
from collections.abc import Callable
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
    """
    config = _changed(keras.saving.serialize_keras_object(model), change)
    # The config is that of a live model, whose functions have been trusted all along.
    new = keras.saving.deserialize_keras_object(
        config, custom_objects=_custom_objects(model), safe_mode=False
    )
    for old, own in zip(model._flatten_layers(), new._flatten_layers(), strict=True):
        # As files carry them: some layers compute from their weights when these are loaded.
        store: dict[str, Any] = {}
        old.save_own_variables(store)
        if store:
            own.load_own_variables(store)
    return new


def _changed(config: Any, change: Callable[[dict], dict]) -> Any:
    if isinstance(config, (list, tuple)):
        return type(config)(_changed(entry, change) for entry in config)
    if not isinstance(config, dict):
        return config
    kept = {key: value for key, value in config.items() if key != "compile_config"}
    return {key: _changed(value, change) for key, value in change(kept).items()}


def _custom_objects(model: keras.Model) -> dict[str, Any]:
    """Classes and functions that configs in the model may name, registered or not."""
    layers = model._flatten_layers()
    held = [value for layer in layers for value in vars(layer).values()]
    functions = [value for value in held if isinstance(value, types.FunctionType)]
    named: list[Any] = [*map(type, layers), *functions]
    return {one.__name__: one for one in named}
