"""Statistics over the positions of one sample."""

import itertools

import numpy as np

from tests.oracles.shared import affine, axes_of, channels_of, moments, selected


def group(x, weights, arguments, training, mask=None, held=None):
    (axis,), epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    channels = x.shape[axis]
    groups = arguments.get("groups", 32)
    if arguments.get("group_size") is not None:
        groups = channels // arguments["group_size"]
    groups = channels if groups == -1 else groups
    size, chosen, y = channels // groups, selected(x, mask, axis), np.empty(x.shape)
    for sample, g in itertools.product(range(x.shape[0]), range(groups)):
        index = [slice(None)] * x.ndim
        index[0], index[axis] = sample, slice(g * size, (g + 1) * size)
        index = tuple(index)
        mean, variance = moments(x[index][chosen[index]])
        y[index] = (x[index] - mean) / np.sqrt(variance + epsilon)
    return affine(y, weights, [axis]), {}, None


def instance(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    chosen, y = selected(x, mask, axes[-1]), np.empty(x.shape)
    for _, index in channels_of(x, [0, *axes]):
        mean, variance = moments(x[index][chosen[index]])
        y[index] = (x[index] - mean) / np.sqrt(variance + epsilon)
    return affine(y, weights, axes), {}, None


def filter_response(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-6)
    if arguments.get("learned_epsilon"):
        epsilon = epsilon + abs(float(weights["learned_epsilon"]))
    chosen, y = selected(x, mask, axes[-1]), np.empty(x.shape)
    for _, index in channels_of(x, [0, *axes]):
        counted = x[index][chosen[index]]
        square = (counted**2).mean() if counted.size else 1.0
        y[index] = x[index] / np.sqrt(square + epsilon)
    return affine(y, weights, axes), {}, None


def global_response(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-6)
    chosen, y = selected(x, mask, axes[-1]), np.empty(x.shape)
    gamma, beta = weights.get("gamma"), weights.get("beta")
    for sample in range(len(x)):
        response = {}
        for entry, index in channels_of(x[sample], [a - 1 for a in axes]):
            response[entry] = np.sqrt((x[sample][index][chosen[sample][index]] ** 2).sum())
        average = sum(response.values()) / len(response)
        for entry, index in channels_of(x[sample], [a - 1 for a in axes]):
            values, n = x[sample][index], response[entry] / (average + epsilon)
            factor = 1.0 if gamma is None else gamma[entry]
            offset = 0.0 if beta is None else beta[entry]
            y[sample][index] = values + factor * values * n + offset
    return y, {}, None


ORACLES = {
    "FilterResponseNormalization": filter_response,
    "GlobalResponseNormalization": global_response,
    "GroupNormalization": group,
    "InstanceNormalization": instance,
}
