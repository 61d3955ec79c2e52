"""The papers in NumPy float64, one function per layer. Imports nothing of the package.

Every oracle has the signature `(x, weights, arguments, training, mask, held)` and returns
`(y, state, held)`: the output, the non-trainable weights after the call, and what the paper keeps
constant under differentiation (r and d of batch renormalization). Handing `held` back in evaluates
the same function at another x, which is what finite differences need.

`weights` maps names to arrays; `arguments` are the constructor's. `mask` has the input's shape
without the channel axis. Loops are welcome: these are read, not run at scale.
"""

import itertools

import numpy as np


def _affine(y, weights, axes):
    shape = [n if a in axes else 1 for a, n in enumerate(y.shape)]
    gamma, beta = weights.get("gamma", weights.get("scale")), weights.get("beta")
    if gamma is not None:
        y = y * np.reshape(np.asarray(gamma, "float64"), shape)
    if beta is not None:
        y = y + np.reshape(np.asarray(beta, "float64"), shape)
    return y


def _axes(arguments, rank):
    axis = arguments.get("axis", -1)
    return sorted(a % rank for a in (axis if isinstance(axis, (list, tuple)) else [axis]))


def _selected(x, mask, channel_axis):
    """Booleans of x's shape from a mask without the channel axis."""
    if mask is None:
        return np.ones(x.shape, bool)
    mask = np.asarray(mask, bool)
    if mask.ndim == x.ndim:
        return np.broadcast_to(mask, x.shape)
    mask = mask.reshape(mask.shape + (1,) * (x.ndim - 1 - mask.ndim))
    return np.broadcast_to(np.expand_dims(mask, channel_axis), x.shape)


def _channels(x, axes):
    """Index tuples that select one channel (one entry of gamma) each."""
    for entry in itertools.product(*(range(x.shape[a]) for a in axes)):
        index = [slice(None)] * x.ndim
        for a, i in zip(axes, entry, strict=True):
            index[a] = i
        yield entry, tuple(index)


def _moments(values):
    """Mean and biased variance; 0 and 1 of nothing."""
    if values.size == 0:
        return 0.0, 1.0
    mean = values.mean()
    mean = mean + (values - mean).mean()
    return mean, ((values - mean) ** 2).mean()


def _batch_moments(x, axes, chosen):
    shape = tuple(x.shape[a] for a in axes)
    mean, variance = np.zeros(shape), np.ones(shape)
    for entry, index in _channels(x, axes):
        mean[entry], variance[entry] = _moments(x[index][chosen[index]])
    return mean, variance


def batch(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = _axes(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    momentum = arguments.get("momentum", 0.99)
    mean = np.asarray(weights["moving_mean"], "float64")
    variance = np.asarray(weights["moving_variance"], "float64")
    state = {"moving_mean": mean, "moving_variance": variance}
    if training:
        chosen = _selected(x, mask, axes[-1])
        old_mean, old_variance = mean, variance
        mean, variance = _batch_moments(x, axes, chosen)
        if chosen.any() and np.isfinite(mean).all() and np.isfinite(variance).all():
            state["moving_mean"] = momentum * old_mean + (1 - momentum) * mean
            state["moving_variance"] = momentum * old_variance + (1 - momentum) * variance
    y = np.empty(x.shape)
    for entry, index in _channels(x, axes):
        y[index] = (x[index] - mean[entry]) / np.sqrt(variance[entry] + epsilon)
    return _affine(y, weights, axes), state, None


def renorm(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = _axes(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    momentum, step = arguments.get("momentum", 0.99), int(weights["step"])
    mu = np.asarray(weights["moving_mean"], "float64")
    sigma = np.sqrt(np.asarray(weights["moving_variance"], "float64") + epsilon)
    state = {"moving_mean": mu, "moving_variance": sigma**2 - epsilon, "step": step}
    y = np.empty(x.shape)
    if not training:
        for entry, index in _channels(x, axes):
            y[index] = (x[index] - mu[entry]) / sigma[entry]
        return _affine(y, weights, axes), state, None

    def grown(ramp):
        if ramp is None or step >= ramp[1]:
            return 1.0
        return 0.0 if step <= ramp[0] else (step - ramp[0]) / (ramp[1] - ramp[0])

    rmax = 1 + (arguments.get("rmax", 3.0) - 1) * grown(arguments.get("rmax_ramp", (5000, 40000)))
    dmax = arguments.get("dmax", 5.0) * grown(arguments.get("dmax_ramp", (5000, 25000)))
    rmin = 1 / rmax
    if arguments.get("rmin") is not None:
        rmin = 1 + (arguments["rmin"] - 1) * grown(arguments.get("rmax_ramp", (5000, 40000)))
    chosen = _selected(x, mask, axes[-1])
    mean, variance = _batch_moments(x, axes, chosen)
    deviation = np.sqrt(variance + epsilon)
    if held is None:
        r = np.clip(deviation / sigma, rmin, rmax)
        d = np.clip((mean - mu) / sigma, -dmax, dmax)
        held = (r, d)
    r, d = held
    for entry, index in _channels(x, axes):
        y[index] = (x[index] - mean[entry]) / deviation[entry] * r[entry] + d[entry]
    if chosen.any():
        state["moving_mean"] = mu + (1 - momentum) * (mean - mu)
        state["moving_variance"] = (sigma + (1 - momentum) * (deviation - sigma)) ** 2 - epsilon
    state["step"] = step + 1
    return _affine(y, weights, axes), state, held


def _per_position(x, axes, chosen, function):
    """Applies `function(values, counted values)` to the features of each position."""
    y = np.empty(x.shape)
    rest = [a for a in range(x.ndim) if a not in axes]
    for _, index in _channels(x, rest):
        counted = x[index][chosen[index]]
        # A position that is masked as a whole is normalized as if it were not.
        y[index] = function(x[index], counted if counted.size else x[index])
    return y


def layer(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = _axes(arguments, x.ndim), arguments.get("epsilon", 1e-3)

    def standardized(values, counted):
        mean, variance = _moments(counted)
        return (values - mean) / np.sqrt(variance + epsilon)

    y = _per_position(x, axes, _selected(x, mask, axes[-1]), standardized)
    return _affine(y, weights, axes), {}, None


def rms(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = _axes(arguments, x.ndim), arguments.get("epsilon", 1e-6)
    if arguments.get("zero_centered_gamma") and "scale" in weights:
        weights = {**weights, "scale": np.asarray(weights["scale"], "float64") + 1.0}

    def divided(values, counted):
        return values / np.sqrt((counted**2).mean() + epsilon)

    y = _per_position(x, axes, _selected(x, mask, axes[-1]), divided)
    return _affine(y, weights, axes), {}, None


def pixel(x, weights, arguments, training, mask=None, held=None):
    arguments = {"epsilon": 1e-8, **arguments}
    return rms(x, weights, arguments, training)


def group(x, weights, arguments, training, mask=None, held=None):
    (axis,), epsilon = _axes(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    channels = x.shape[axis]
    groups = arguments.get("groups", 32)
    if arguments.get("group_size") is not None:
        groups = channels // arguments["group_size"]
    groups = channels if groups == -1 else groups
    size, chosen, y = channels // groups, _selected(x, mask, axis), np.empty(x.shape)
    for sample, g in itertools.product(range(x.shape[0]), range(groups)):
        index = [slice(None)] * x.ndim
        index[0], index[axis] = sample, slice(g * size, (g + 1) * size)
        index = tuple(index)
        mean, variance = _moments(x[index][chosen[index]])
        y[index] = (x[index] - mean) / np.sqrt(variance + epsilon)
    return _affine(y, weights, [axis]), {}, None


def instance(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = _axes(arguments, x.ndim), arguments.get("epsilon", 1e-3)
    chosen, y = _selected(x, mask, axes[-1]), np.empty(x.shape)
    for _, index in _channels(x, [0, *axes]):
        mean, variance = _moments(x[index][chosen[index]])
        y[index] = (x[index] - mean) / np.sqrt(variance + epsilon)
    return _affine(y, weights, axes), {}, None


def _softmax(logits):
    powers = np.exp(np.asarray(logits, "float64") - np.max(logits))
    return powers / powers.sum()


def switchable(x, weights, arguments, training, mask=None, held=None):
    (axis,), epsilon = _axes(arguments, x.ndim), arguments.get("epsilon", 1e-5)
    momentum, using_bn = arguments.get("momentum", 0.9), arguments.get("using_bn", True)
    chosen, state = _selected(x, mask, axis), {}
    if using_bn:
        bn_mean = np.asarray(weights["moving_mean"], "float64")
        bn_variance = np.asarray(weights["moving_variance"], "float64")
        state = {"moving_mean": bn_mean, "moving_variance": bn_variance}
        if training:
            old_mean, old_variance = bn_mean, bn_variance
            bn_mean, bn_variance = _batch_moments(x, [axis], chosen)
            if chosen.any():
                state["moving_mean"] = momentum * old_mean + (1 - momentum) * bn_mean
                state["moving_variance"] = momentum * old_variance + (1 - momentum) * bn_variance
    w, v = _softmax(weights["mean_logits"]), _softmax(weights["variance_logits"])
    y = np.empty(x.shape)
    for sample in range(x.shape[0]):
        ln = _moments(x[sample][chosen[sample]])
        for channel in range(x.shape[axis]):
            index = [slice(None)] * x.ndim
            index[0], index[axis] = sample, channel
            index = tuple(index)
            parts = [_moments(x[index][chosen[index]]), ln] if x.ndim > 2 else [ln]
            parts += [(bn_mean[channel], bn_variance[channel])] if using_bn else []
            mean = sum(share * part[0] for share, part in zip(w, parts, strict=True))
            variance = sum(share * part[1] for share, part in zip(v, parts, strict=True))
            y[index] = (x[index] - mean) / np.sqrt(variance + epsilon)
    return _affine(y, weights, [axis]), state, None


ORACLES = {
    "BatchNormalization": batch,
    "BatchRenormalization": renorm,
    "LayerNormalization": layer,
    "RMSNormalization": rms,
    "GroupNormalization": group,
    "InstanceNormalization": instance,
    "SwitchableNormalization": switchable,
    "PixelNormalization": pixel,
}
