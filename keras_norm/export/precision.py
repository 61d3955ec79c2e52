"""Models of any floating dtype in float32, which is what LiteRT's kernels compute in."""

from typing import Any

import keras

FLOATS = ("float16", "bfloat16", "float64")
POLICIES = (*FLOATS, "mixed_float16", "mixed_bfloat16")


def in_float32(model: keras.Model) -> keras.Model:
    """The model, or where layers of it compute in another dtype its twin under float32 policies.

    Weights are float32 under mixed policies already, so the twin of such a model computes the same
    function with less rounding.

    Args:
        model: A built Functional or Sequential model.

    Returns:
        The model itself, or a new model with the same weights.
    """
    layers = model._flatten_layers(include_self=False)
    if all(layer.compute_dtype not in FLOATS for layer in layers):
        return model
    config = _in_float32(keras.saving.serialize_keras_object(model))
    classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    twin = keras.saving.deserialize_keras_object(config, custom_objects=classes)
    twin.set_weights(model.get_weights())
    return twin


def _in_float32(config: Any) -> Any:
    """A serialized object with every floating dtype and policy replaced by float32."""
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(entry) for entry in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in POLICIES:
        return {**config, "config": {"name": "float32"}}
    return {
        key: "float32" if key == "dtype" and value in POLICIES else _in_float32(value)
        for key, value in config.items()
    }
