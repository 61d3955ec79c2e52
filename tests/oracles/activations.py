"""Norms joined with an activation, and what stands in place of norms."""

import itertools

import numpy as np

from tests.oracles.shared import affine, axes_of, batch_moments, channels_of, moments, selected


def evonorm_b0(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    momentum, chosen = arguments.get("momentum", 0.9), selected(x, mask, axes[-1])
    variance = np.asarray(weights["moving_variance"], "float64")
    state = {"moving_variance": variance}
    if training:
        old = variance
        _, variance = batch_moments(x, axes, chosen)
        if chosen.any() and np.isfinite(variance).all():
            state["moving_variance"] = momentum * old + (1 - momentum) * variance
    y = np.empty(x.shape)
    for entry, index in channels_of(x, axes):
        of_the_batch = np.sqrt(variance[entry] + epsilon)
        v = float(weights["v"][entry])
        for sample in range(x.shape[0]):
            place = (sample, *index[1:])
            _, instance = moments(x[place][chosen[place]])
            of_its_own = v * x[place] + np.sqrt(instance + epsilon)
            y[place] = x[place] / np.maximum(of_the_batch, of_its_own)
    return affine(y, weights, axes), state, None


def evonorm_s0(x, weights, arguments, training, mask=None, held=None):
    (axis,), epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-5)
    channels, groups = x.shape[axis], arguments.get("groups", 32)
    groups = channels if groups == -1 else groups
    size, chosen, y = channels // groups, selected(x, mask, axis), np.empty(x.shape)
    for sample, channel in itertools.product(range(x.shape[0]), range(channels)):
        first = channel // size * size
        group = [slice(None)] * x.ndim
        group[0], group[axis] = sample, slice(first, first + size)
        _, variance = moments(x[tuple(group)][chosen[tuple(group)]])
        place = [slice(None)] * x.ndim
        place[0], place[axis] = sample, channel
        values = x[tuple(place)]
        gate = np.exp(-np.logaddexp(0.0, -float(weights["v"][channel]) * values))
        y[tuple(place)] = values * gate / np.sqrt(variance + epsilon)
    return affine(y, weights, [axis]), {}, None


def threshold(x, weights, arguments, training, mask=None, held=None):
    y = np.empty(x.shape)
    for entry, index in channels_of(x, axes_of(arguments, x.ndim)):
        tau = float(weights["tau"][entry])
        y[index] = np.where(x[index] < tau, tau, x[index])
    return y, {}, None


def dynamic_tanh(x, weights, arguments, training, mask=None, held=None):
    y = np.tanh(float(weights["alpha"]) * x)
    return affine(y, weights, axes_of(arguments, x.ndim)), {}, None


ORACLES = {
    "DynamicTanh": dynamic_tanh,
    "EvoNormB0": evonorm_b0,
    "EvoNormS0": evonorm_s0,
    "ThresholdedLinearUnit": threshold,
}
