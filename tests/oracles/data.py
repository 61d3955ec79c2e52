"""Statistics of a data set."""

import itertools

import numpy as np

from tests.oracles.shared import axes_of, channels_of


def statistic(weights, name):
    """A statistic as the sum of the two weights that hold it."""
    return np.asarray(weights[name], "float64") + np.asarray(weights[f"{name}_residual"], "float64")


def per_feature(x, arguments, function):
    axes = [] if arguments.get("axis", -1) is None else axes_of(arguments, x.ndim)
    y = np.empty(x.shape)
    for entry, index in channels_of(x, axes):
        y[index] = function(x[index], entry)
    return y


def standard(x, weights, arguments, training, mask=None, held=None):
    mean, variance = statistic(weights, "mean"), np.asarray(weights["variance"], "float64")

    def one(values, entry):
        deviation = np.sqrt(variance[entry]) if variance[entry] > 0 else 1.0
        if arguments.get("invert"):
            return values * deviation + mean[entry]
        return (values - mean[entry]) / deviation

    return per_feature(x, arguments, one), {}, None


def minmax(x, weights, arguments, training, mask=None, held=None):
    low, high = arguments.get("feature_range", (0.0, 1.0))
    minimum = np.asarray(weights["minimum"], "float64")
    maximum = np.asarray(weights["maximum"], "float64")

    def one(values, entry):
        size = maximum[entry] - minimum[entry]
        size = size if size != 0 else 1.0
        if arguments.get("invert"):
            return (values - low) / (high - low) * size + minimum[entry]
        y = (values - minimum[entry]) / size * (high - low) + low
        return np.minimum(np.maximum(y, low), high) if arguments.get("clip") else y

    return per_feature(x, arguments, one), {}, None


def whitening(x, weights, arguments, training, mask=None, held=None):
    """One position at a time: its features as a vector, times the matrix."""
    mean, matrix = statistic(weights, "mean"), np.asarray(weights["matrix"], "float64")
    invert, pca = bool(arguments.get("invert")), arguments.get("kind", "zca") == "pca"
    sizes = arguments.get("feature_shape")
    axis = arguments.get("axis", -1)
    count = len(axis) if isinstance(axis, (list, tuple)) else 1
    replaced = pca and invert  # one axis of the input stands for all of `axis`
    rank = x.ndim - 1 + count if replaced else x.ndim
    axes = axes_of(arguments, rank)
    taken = axes[:1] if replaced else axes
    sizes = [x.shape[axes[0]]] if sizes is None and replaced else sizes
    sizes = sizes if replaced else [x.shape[a] for a in axes]
    made = axes[:1] if pca and not invert else axes
    made_sizes = [matrix.shape[1]] if pca and not invert else sizes
    rest = [n for a, n in enumerate(x.shape) if a not in taken]
    shape, left = [], list(rest)
    for a in range(len(rest) + len(made)):
        shape.append(made_sizes[made.index(a)] if a in made else left.pop(0))
    y = np.empty(shape)
    for position in itertools.product(*(range(n) for n in rest)):
        source, target = list(position), list(position)
        for a in taken:
            source.insert(a, slice(None))
        for a in made:
            target.insert(a, slice(None))
        values = x[tuple(source)].reshape(-1)
        values = values @ matrix + mean if invert else (values - mean) @ matrix
        y[tuple(target)] = values.reshape(made_sizes)
    return y, {}, None


ORACLES = {
    "MinMaxNormalization": minmax,
    "StandardNormalization": standard,
    "WhiteningNormalization": whitening,
}
