"""Mixtures."""

import numpy as np

from tests.oracles.shared import affine, axes_of, batch_moments, moments, selected, softmax


def switchable(x, weights, arguments, training, mask=None, held=None):
    (axis,), epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-5)
    momentum, using_bn = arguments.get("momentum", 0.9), arguments.get("using_bn", True)
    chosen, state = selected(x, mask, axis), {}
    if using_bn:
        bn_mean = np.asarray(weights["moving_mean"], "float64")
        bn_variance = np.asarray(weights["moving_variance"], "float64")
        state = {"moving_mean": bn_mean, "moving_variance": bn_variance}
        if training:
            old_mean, old_variance = bn_mean, bn_variance
            bn_mean, bn_variance = batch_moments(x, [axis], chosen)
            if chosen.any():
                state["moving_mean"] = momentum * old_mean + (1 - momentum) * bn_mean
                state["moving_variance"] = momentum * old_variance + (1 - momentum) * bn_variance
    w, v = softmax(weights["mean_logits"]), softmax(weights["variance_logits"])
    y = np.empty(x.shape)
    for sample in range(x.shape[0]):
        ln = moments(x[sample][chosen[sample]])
        for channel in range(x.shape[axis]):
            index = [slice(None)] * x.ndim
            index[0], index[axis] = sample, channel
            index = tuple(index)
            parts = [moments(x[index][chosen[index]]), ln] if x.ndim > 2 else [ln]
            parts += [(bn_mean[channel], bn_variance[channel])] if using_bn else []
            mean = sum(share * part[0] for share, part in zip(w, parts, strict=True))
            variance = sum(share * part[1] for share, part in zip(v, parts, strict=True))
            y[index] = (x[index] - mean) / np.sqrt(variance + epsilon)
    return affine(y, weights, [axis]), state, None


ORACLES = {
    "SwitchableNormalization": switchable,
}
