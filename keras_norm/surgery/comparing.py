"""How far a copy of a model is from it, tried on random input."""

import warnings

import keras
import numpy as np

from keras_norm.surgery.holding import is_graph

ROUNDING = 1e-3
"""A difference, as a share of the largest value, that rounding makes up for at most."""

HALF_ROUNDING = 0.1
"""The same where a layer computes in float16 or bfloat16."""


def distance(expected, found):
    """Largest difference as a share of the largest value."""
    expected, found = (
        keras.ops.convert_to_numpy(keras.ops.cast(y, "float64")) for y in (expected, found)
    )
    return np.abs(expected - found).max() / max(np.abs(expected).max(), np.finfo("float64").tiny)


def compared(model, new, stacklevel):
    """How far the outputs of both models are apart on random input, or why no one knows.

    Args:
        model: A layer or model.
        new: A copy that should compute the same.
        stacklevel: Whose line a warning names: 1 is that of the caller.

    Returns:
        A line. A difference that is no rounding is warned of too. What the copy raises on input
        that the model takes comes through.
    """
    try:
        inputs = _random_inputs(model)
        expected = _outputs(model, inputs)
        if not all(np.isfinite(one).all() for one in expected):
            raise ValueError("on random input the outputs are not finite")
    except Exception as error:  # a model may have demands on its input that no one can know
        # The first line of Keras's errors names the layer alone.
        said = [one for one in str(error).splitlines() if one] or [type(error).__name__]
        return f"not compared: {' '.join(said[:2])}"
    pairs = zip(expected, _outputs(new, inputs), strict=True)
    largest = np.max([distance(*pair) for pair in pairs])
    line = f"on random input the outputs differ by {largest:.1e} of their scale"
    half = {"float16", "bfloat16"} & {one.compute_dtype for one in model._flatten_layers()}
    if not largest <= (HALF_ROUNDING if half else ROUNDING):
        warnings.warn(f"{model.name!r} may not be what it was: {line}.", stacklevel=stacklevel + 1)
    return line


def _outputs(model, inputs):
    """The outputs of a model in float64."""
    # No argument `training`: it would take the place of those that layers are called with. What
    # is called with training=True moves its moments and seeds, of which nothing must stay.
    with keras.StatelessScope():
        outputs = keras.tree.flatten(model(inputs))
    return [keras.ops.convert_to_numpy(keras.ops.cast(one, "float64")) for one in outputs]


def _random_inputs(model):
    """Random input of a functional or sequential model: of two rows, where it is free to choose."""
    if not is_graph(model):
        raise ValueError("it is no functional or sequential model")
    tensors = keras.tree.flatten(model.inputs)
    if any(None in tensor.shape[1:] for tensor in tensors):
        raise ValueError("an input has axes of unknown size")
    if any(tensor.sparse or tensor.dtype == "string" for tensor in tensors):
        raise ValueError("an input is sparse or of strings")
    random = np.random.default_rng(1)
    values = []
    for tensor in tensors:
        size = (tensor.shape[0] or 2, *tensor.shape[1:])
        x = random.normal(size=size) * ("float" in tensor.dtype)
        values.append(keras.ops.cast(x, tensor.dtype))
    if isinstance(model, keras.Sequential):
        return values[0]
    return keras.tree.pack_sequence_as(model.input, values)
