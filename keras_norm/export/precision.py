"""Models of any floating dtype in float32, which is what LiteRT's kernels compute in."""

import keras

from keras_norm.export.twins import twin

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
    return twin(model, _in_float32)


def _in_float32(config: dict) -> dict:
    """A dict of a config with every floating dtype and policy replaced by float32."""
    if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in POLICIES:
        return {**config, "config": {"name": "float32"}}
    return {
        key: "float32" if key == "dtype" and value in POLICIES else value
        for key, value in config.items()
    }
