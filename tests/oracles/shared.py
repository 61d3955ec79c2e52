"""What several oracles share."""

import itertools

import numpy as np


def affine(y, weights, axes):
    shape = [n if a in axes else 1 for a, n in enumerate(y.shape)]
    gamma, beta = weights.get("gamma", weights.get("scale")), weights.get("beta")
    if gamma is not None:
        y = y * np.reshape(np.asarray(gamma, "float64"), shape)
    if beta is not None:
        y = y + np.reshape(np.asarray(beta, "float64"), shape)
    return y


def axes_of(arguments, rank):
    axis = arguments.get("axis", -1)
    return sorted(a % rank for a in (axis if isinstance(axis, (list, tuple)) else [axis]))


def selected(x, mask, channel_axis):
    """Booleans of x's shape from a mask without the channel axis."""
    if mask is None:
        return np.ones(x.shape, bool)
    mask = np.asarray(mask, bool)
    if mask.ndim == x.ndim:
        return np.broadcast_to(mask, x.shape)
    mask = mask.reshape(mask.shape + (1,) * (x.ndim - 1 - mask.ndim))
    return np.broadcast_to(np.expand_dims(mask, channel_axis), x.shape)


def channels_of(x, axes):
    """Index tuples that select one channel (one entry of gamma) each."""
    for entry in itertools.product(*(range(x.shape[a]) for a in axes)):
        index = [slice(None)] * x.ndim
        for a, i in zip(axes, entry, strict=True):
            index[a] = i
        yield entry, tuple(index)


def moments(values):
    """Mean and biased variance; 0 and 1 of nothing."""
    if values.size == 0:
        return 0.0, 1.0
    mean = values.mean()
    mean = mean + (values - mean).mean()
    return mean, ((values - mean) ** 2).mean()


def batch_moments(x, axes, chosen):
    shape = tuple(x.shape[a] for a in axes)
    mean, variance = np.zeros(shape), np.ones(shape)
    for entry, index in channels_of(x, axes):
        mean[entry], variance[entry] = moments(x[index][chosen[index]])
    return mean, variance


def per_position(x, axes, chosen, function):
    """Applies `function(values, counted values)` to the features of each position."""
    y = np.empty(x.shape)
    rest = [a for a in range(x.ndim) if a not in axes]
    for _, index in channels_of(x, rest):
        counted = x[index][chosen[index]]
        # A position that is masked as a whole is normalized as if it were not.
        y[index] = function(x[index], counted if counted.size else x[index])
    return y


def softmax(logits):
    powers = np.exp(np.asarray(logits, "float64") - np.max(logits))
    return powers / powers.sum()
