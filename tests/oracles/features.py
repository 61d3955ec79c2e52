"""Statistics over the features of one position."""

import numpy as np

from tests.oracles.shared import affine, axes_of, moments, per_position, selected


def layer(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-3)

    def standardized(values, counted):
        mean, variance = moments(counted)
        return (values - mean) / np.sqrt(variance + epsilon)

    y = per_position(x, axes, selected(x, mask, axes[-1]), standardized)
    return affine(y, weights, axes), {}, None


def rms(x, weights, arguments, training, mask=None, held=None):
    axes, epsilon = axes_of(arguments, x.ndim), arguments.get("epsilon", 1e-6)
    if arguments.get("zero_centered_gamma") and "scale" in weights:
        weights = {**weights, "scale": np.asarray(weights["scale"], "float64") + 1.0}

    def divided(values, counted):
        return values / np.sqrt((counted**2).mean() + epsilon)

    y = per_position(x, axes, selected(x, mask, axes[-1]), divided)
    return affine(y, weights, axes), {}, None


ORACLES = {
    "LayerNormalization": layer,
    "RMSNormalization": rms,
}
