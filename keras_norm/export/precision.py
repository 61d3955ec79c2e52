"""Models of any floating dtype in float32, which is what LiteRT's kernels compute in."""

import keras

from keras_norm.export.twins import reason_of, twin

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

    Raises:
        ValueError: If the model's config does not describe it.
    """
    layers = model._flatten_layers(include_self=False)
    if all(layer.compute_dtype not in FLOATS for layer in layers):
        return model
    try:
        return twin(model, _in_float32)
    except Exception as error:  # whatever the constructors of others may raise
        raise ValueError(
            "`model` must be what its config says, to be exported in float32. "
            f"Received: model={model.name!r}, where {reason_of(error)}. "
            "Build it under the policy 'float32', and give it the same weights."
        ) from error


def _in_float32(config: dict) -> dict:
    """A dict of a config with every floating dtype and policy replaced by float32."""
    if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in POLICIES:
        return {**config, "config": {"name": "float32"}}
    return {
        key: "float32" if key == "dtype" and value in POLICIES else value
        for key, value in config.items()
    }
