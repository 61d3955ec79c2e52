"""A second input decides."""

import itertools

import numpy as np

from tests.oracles.shared import axes_of, channels_of, moments, selected

ACTIVATIONS = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh, "linear": lambda v: v}


def inner(x, weights, arguments, training, mask, held):
    """The inner norm by its own oracle, which only finds its own weights."""
    from tests.oracles import ORACLES

    settings = arguments["layer"]
    return ORACLES[settings["class_name"]](x, weights, settings, training, mask, held)


def first(mask):
    return mask[0] if isinstance(mask, (list, tuple)) else None


def bias_of(weights, name):
    return np.asarray(weights.get(f"{name}_bias", 0.0), "float64")


def conditional(x, weights, arguments, training, mask=None, held=None):
    x, condition = x
    axes = axes_of(arguments["layer"], x.ndim)
    normalized, state, held = inner(x, weights, arguments, training, first(mask), held)
    activation = ACTIVATIONS[arguments.get("activation", "relu")]

    def predicted(name, vector):
        if arguments.get("hidden_units") is not None:
            kernel = np.asarray(weights["hidden_kernel"], "float64")
            vector = activation(vector @ kernel + bias_of(weights, "hidden"))
        kernel = np.asarray(weights[f"{name}_kernel"], "float64")
        return vector @ kernel + bias_of(weights, name)

    y = np.empty(x.shape)
    others = [a for a in range(x.ndim) if a not in axes]
    for _, position in channels_of(x, others):
        # The vector of this position: index 0 wherever the condition has one entry for all.
        if condition.ndim == 2:
            vector = condition[position[0] if len(condition) > 1 else 0]
        else:
            sizes = zip(position, condition.shape, strict=True)
            vector = condition[tuple(i if isinstance(i, slice) or n > 1 else 0 for i, n in sizes)]
        shape = [x.shape[a] for a in axes]
        gamma, beta = (predicted(name, vector).reshape(shape) for name in ("gamma", "beta"))
        y[position] = normalized[position] * (1 + gamma) + beta
    return y, state, held


def convolution(values, kernel, bias):
    """[B, H, W, D] with zeros around it; an even kernel has one more of them at the end."""
    size = kernel.shape[0]
    before, after = (size - 1) // 2, size // 2
    batch, height, width, _ = values.shape
    padded = np.pad(values, ((0, 0), (before, after), (before, after), (0, 0)))
    y = np.zeros((batch, height, width, kernel.shape[-1])) + bias
    for i, j in itertools.product(range(size), range(size)):
        y += padded[:, i : i + height, j : j + width] @ kernel[i, j]
    return y


def spade(x, weights, arguments, training, mask=None, held=None):
    x, chart = x
    (axis,) = axes_of(arguments["layer"], 4)
    normalized, state, held = inner(x, weights, arguments, training, first(mask), held)
    normalized, chart = np.moveaxis(normalized, axis, -1), np.moveaxis(chart, axis, -1)
    height, width = normalized.shape[1:3]
    resized = np.empty((len(chart), height, width, chart.shape[-1]))
    for i, j in itertools.product(range(height), range(width)):
        row, column = int(i * chart.shape[1] / height), int(j * chart.shape[2] / width)
        resized[:, i, j] = chart[:, row, column]

    def predicted(name, values):
        return convolution(
            values, np.asarray(weights[f"{name}_kernel"], "float64"), bias_of(weights, name)
        )

    hidden = ACTIVATIONS[arguments.get("activation", "relu")](predicted("hidden", resized))
    y = normalized * (1 + predicted("gamma", hidden)) + predicted("beta", hidden)
    return np.moveaxis(y, -1, axis), state, held


def adain(x, weights, arguments, training, mask=None, held=None):
    content, style = x
    axes, epsilon = axes_of(arguments, content.ndim), arguments.get("epsilon", 1e-5)
    masks = mask if isinstance(mask, (list, tuple)) else (None, None)
    chosen, style_chosen = (
        selected(values, given, axes[-1]) for values, given in zip(x, masks, strict=True)
    )
    y = np.empty(content.shape)
    for _, index in channels_of(content, [0, *axes]):
        same = (index[0] if len(style) > 1 else 0, *index[1:])
        mean, variance = moments(content[index][chosen[index]])
        style_mean, style_variance = moments(style[same][style_chosen[same]])
        standardized = (content[index] - mean) / np.sqrt(variance + epsilon)
        y[index] = np.sqrt(style_variance + epsilon) * standardized + style_mean
    return y, {}, None


ORACLES = {
    "AdaptiveInstanceNormalization": adain,
    "ConditionalNormalization": conditional,
    "SpatiallyAdaptiveNormalization": spade,
}
