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


ORACLES = {
    "GroupNormalization": group,
    "InstanceNormalization": instance,
}
