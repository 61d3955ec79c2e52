"""Dense and convolutional layers with effective kernels; the kernel's last axis is the units'."""

import itertools

import numpy as np

from tests.oracles.shared import moments


def run(layer, x, kernel, weights):
    """A dense layer, or a convolution of stride 1 without padding."""
    window = kernel.shape[:-2]
    places = [range(n - k + 1) for n, k in zip(x.shape[1:-1], window, strict=False)]
    if layer["class_name"] == "Dense":
        places = [range(n) for n in x.shape[1:-1]]
    y = np.zeros((x.shape[0], *map(len, places), kernel.shape[-1]))
    for place in itertools.product(*places):
        for offset in itertools.product(*map(range, window)):
            at = tuple(np.add(place, offset)) if offset else place
            y[(slice(None), *place)] += x[(slice(None), *at)] @ kernel[offset]
    return y + np.asarray(weights["bias"], "float64")


def weight(x, weights, arguments, training, mask=None, held=None):
    v, g = (np.asarray(weights[name], "float64") for name in ("kernel", "g"))
    kernel = np.empty(v.shape)
    for unit in range(v.shape[-1]):
        kernel[..., unit] = g[unit] * v[..., unit] / np.sqrt((v[..., unit] ** 2).sum())
    return run(arguments["layer"], x, kernel, weights), {}, None


def spectral(x, weights, arguments, training, mask=None, held=None):
    kernel, u, v = (np.asarray(weights[name], "float64") for name in ("kernel", "u", "v"))
    matrix = kernel.reshape(-1, kernel.shape[-1])
    if held is not None:
        u, v = held
    elif training:
        nudge = np.cos(np.arange(1, len(u) + 1))
        for _ in range(arguments.get("power_iterations", 1)):
            v = matrix @ u / np.linalg.norm(matrix @ u)
            u = matrix.T @ v / np.linalg.norm(matrix.T @ v) + 1e-3 * nudge / np.linalg.norm(nudge)
            u = u / np.linalg.norm(u)
    sigma = v @ matrix @ u
    factor = 1.0 / sigma
    if arguments.get("norm_bound"):
        factor = min(1.0, arguments["norm_bound"] / sigma)
    return run(arguments["layer"], x, kernel * factor, weights), {"u": u, "v": v}, (u, v)


def standardization(x, weights, arguments, training, mask=None, held=None):
    stored, epsilon = np.asarray(weights["kernel"], "float64"), arguments.get("epsilon", 1e-10)
    kernel = np.empty(stored.shape)
    for unit in range(stored.shape[-1]):
        mean, variance = moments(stored[..., unit])
        kernel[..., unit] = (stored[..., unit] - mean) / np.sqrt(variance + epsilon)
        if arguments.get("scaled"):
            gain = float(weights["gain"][unit]) * arguments.get("gamma", 1.0)
            kernel[..., unit] *= gain / np.sqrt(stored[..., unit].size)
    return run(arguments["layer"], x, kernel, weights), {}, None


ORACLES = {
    "WeightNormalization": weight,
    "SpectralNormalization": spectral,
    "WeightStandardization": standardization,
}
