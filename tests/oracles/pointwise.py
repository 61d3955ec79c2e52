"""Nothing to learn."""

import numpy as np

from tests.oracles.features import rms
from tests.oracles.shared import axes_of


def pixel(x, weights, arguments, training, mask=None, held=None):
    arguments = {"epsilon": 1e-8, **arguments}
    return rms(x, weights, arguments, training)


def local_response(x, weights, arguments, training, mask=None, held=None):
    (axis,), radius = axes_of(arguments, x.ndim), arguments.get("depth_radius", 2)
    bias, alpha = arguments.get("bias", 2.0), arguments.get("alpha", 1e-4)
    channels_last = np.moveaxis(x, axis, -1)
    y = np.empty(channels_last.shape)
    for channel in range(y.shape[-1]):
        window = channels_last[..., max(0, channel - radius) : channel + radius + 1]
        energy = (window**2).sum(-1)
        divisor = (bias + alpha * energy) ** arguments.get("power", 0.75)
        y[..., channel] = channels_last[..., channel] / divisor
    return np.moveaxis(y, -1, axis), {}, None


ORACLES = {
    "LocalResponseNormalization": local_response,
    "PixelNormalization": pixel,
}
