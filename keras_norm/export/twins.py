"""Twins of models: the same function in layers of their own, which an export may change."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from keras_norm.configs import from_own_config


def twin(model: keras.Model, change: Callable[[dict], dict] = dict) -> keras.Model:
    """A model like another, made from its config; the two share nothing.

    Args:
        model: A built Functional or Sequential model.
        change: Function from a dict of the model's config to the one to take in its place. It is
            given every dict, outer ones first. By default they stay as they are.

    Returns:
        A model with the same layers, names and weights, not compiled.

    Raises:
        ValueError: If the config names two classes alike. Whatever else the
            constructors of layers raise comes through.
    """
    new = from_own_config(model, functools.partial(_changed, change=change))
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
