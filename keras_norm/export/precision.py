"""Models of any floating dtype in float32, which is what LiteRT's kernels compute in."""

import keras
import numpy as np

from keras_norm.export import samples, signature
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
    # Of an input `dtype` alone tells: it computes nothing.
    if all({layer.compute_dtype, layer.dtype}.isdisjoint(FLOATS) for layer in layers):
        return model
    try:
        _check_config(model)
        return twin(model, _in_float32)
    except Exception as error:  # whatever the constructors of others may raise
        raise ValueError(
            "`model` must be what its config says, to be exported in float32. "
            f"Received: model={model.name!r}, where {reason_of(error)}. "
            "Build it under the policy 'float32', and give it the same weights."
        ) from error


def _check_config(model: keras.Model) -> None:
    """Refuses a model that computes something else than its config says.

    Two models of the same dtypes are compared, whose roundings and overflows are alike: one in
    float32 might differ for those alone.
    """
    same = twin(model)
    try:
        inputs = samples.drawn(model, count=signature.input_tensors(model)[0].shape[0] or 1)
        pairs = zip(samples.outputs(model, inputs), samples.outputs(same, inputs), strict=True)
        alike = all(_are_alike(one, other) for one, other in pairs)
    except Exception:
        return  # Not every model takes random numbers of any size.
    if not alike:
        raise ValueError("it computes something else than a model made from its config")


def _are_alike(one: np.ndarray, other: np.ndarray) -> bool:
    bound = 0.01 * np.max(np.abs(one), where=np.isfinite(one), initial=0.0)
    return np.allclose(other, one, rtol=0.0, atol=bound, equal_nan=True)


def _in_float32(config: dict) -> dict:
    """A dict of a config with every floating dtype and policy replaced by float32."""
    if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in POLICIES:
        return {**config, "config": {"name": "float32"}}
    return {
        key: "float32" if key == "dtype" and value in POLICIES else value
        for key, value in config.items()
    }
