"""Statistics over the batch."""

import numpy as np

from tests.oracles.shared import affine, axes_of, batch_moments, channels_of, selected


def batch(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    momentum = arguments.get("momentum", 0.99)
    mean = np.asarray(weights["moving_mean"], "float64")
    variance = np.asarray(weights["moving_variance"], "float64")
    state = {"moving_mean": mean, "moving_variance": variance}
    if training:
        chosen = selected(x, mask, axes[-1])
        old_mean, old_variance = mean, variance
        mean, variance = batch_moments(x, axes, chosen)
        if chosen.any() and np.isfinite(mean).all() and np.isfinite(variance).all():
            state["moving_mean"] = momentum * old_mean + (1 - momentum) * mean
            state["moving_variance"] = momentum * old_variance + (1 - momentum) * variance
    y = np.empty(x.shape)
    for entry, index in channels_of(x, axes):
        y[index] = (x[index] - mean[entry]) / np.sqrt(variance[entry] + epsilon)
    return affine(y, weights, axes), state, None


def renorm(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    momentum, step = arguments.get("momentum", 0.99), int(weights["step"])
    mu = np.asarray(weights["moving_mean"], "float64")
    sigma = np.sqrt(np.asarray(weights["moving_variance"], "float64") + epsilon)
    state = {"moving_mean": mu, "moving_variance": sigma**2 - epsilon, "step": step}
    y = np.empty(x.shape)
    if not training:
        for entry, index in channels_of(x, axes):
            y[index] = (x[index] - mu[entry]) / sigma[entry]
        return affine(y, weights, axes), state, None

    def grown(ramp):
        if ramp is None or step >= ramp[1]:
            return 1.0
        return 0.0 if step <= ramp[0] else (step - ramp[0]) / (ramp[1] - ramp[0])

    rmax = 1 + (arguments.get("rmax", 3.0) - 1) * grown(arguments.get("rmax_ramp", (5000, 40000)))
    dmax = arguments.get("dmax", 5.0) * grown(arguments.get("dmax_ramp", (5000, 25000)))
    rmin = 1 / rmax
    if arguments.get("rmin") is not None:
        rmin = 1 + (arguments["rmin"] - 1) * grown(arguments.get("rmax_ramp", (5000, 40000)))
    chosen = selected(x, mask, axes[-1])
    mean, variance = batch_moments(x, axes, chosen)
    deviation = np.sqrt(variance + epsilon)
    if held is None:
        r = np.clip(deviation / sigma, rmin, rmax)
        d = np.clip((mean - mu) / sigma, -dmax, dmax)
        held = (r, d)
    r, d = held
    for entry, index in channels_of(x, axes):
        y[index] = (x[index] - mean[entry]) / deviation[entry] * r[entry] + d[entry]
    if chosen.any():
        state["moving_mean"] = mu + (1 - momentum) * (mean - mu)
        state["moving_variance"] = (sigma + (1 - momentum) * (deviation - sigma)) ** 2 - epsilon
    state["step"] = step + 1
    return affine(y, weights, axes), state, held


def ghost(x, weights, arguments, training, mask=None, held=None):
    if not training:
        return batch(x, weights, arguments, training)
    _, state, _ = batch(x, weights, arguments, training, mask)  # the moving moments are plain
    axes, epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    chosen = selected(x, mask, axes[-1])
    y, number, first = np.empty(x.shape), -(-len(x) // arguments["virtual_batch_size"]), 0
    for index in range(number):
        last = first + len(x) // number + (index < len(x) % number)
        part = slice(first, last)
        mean, variance = batch_moments(x[part], axes, chosen[part])
        for entry, channel in channels_of(x[part], axes):
            centred = x[part][channel] - mean[entry]
            y[part][channel] = centred / np.sqrt(variance[entry] + epsilon)
        first = last
    assert first == len(x)
    return affine(y, weights, axes), state, None


def mean_only(x, weights, arguments, training, mask=None, held=None):
    axes, momentum = axes_of(arguments, x.ndim), arguments.get("momentum", 0.9)
    mean = np.asarray(weights["moving_mean"], "float64")
    state = {"moving_mean": mean}
    if training:
        chosen = selected(x, mask, axes[-1])
        mean, _ = batch_moments(x, axes, chosen)
        if chosen.any() and np.isfinite(mean).all():
            state["moving_mean"] = momentum * state["moving_mean"] + (1 - momentum) * mean
    y = np.empty(x.shape)
    for entry, index in channels_of(x, axes):
        y[index] = x[index] - mean[entry]
    return affine(y, weights, axes), state, None


ORACLES = {
    "BatchNormalization": batch,
    "BatchRenormalization": renorm,
    "GhostBatchNormalization": ghost,
    "MeanOnlyBatchNormalization": mean_only,
}
