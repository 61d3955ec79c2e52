"""TensorFlow kernels of norms whose statistics run over the channels, row by row, of [P, S, C].

As in `columns`, expressions are added up slab by slab, here slabs of the channels, and a product
with ones sums what is left: on a CPU that is faster than to reduce the last axis.
"""

import functools
from typing import Any

import tensorflow as tf

from keras_norm.backend.columns import Kernels, assembled, like, sums

SLABS = 4


@functools.cache
def kernels(centred: bool, epsilon: float) -> Kernels:
    """The kernels of layer norm, or of RMS norm, which does not centre.

    Args:
        centred: Whether the mean is taken out.
        epsilon: Added to the variance, or to the mean square.

    Returns:
        Functions of tensors [P, S, C] of float32, S and C known. Without centring the mean's tables
        are zeros, and the variance is the mean square.
    """
    return assembled(
        functools.partial(_statistics, centred=centred),
        functools.partial(_forward, epsilon=epsilon),
        functools.partial(_backward, centred=centred, epsilon=epsilon),
        functools.partial(_definition, centred=centred, epsilon=epsilon),
    )


def _row_sums(function: Any, *tensors: Any) -> list:
    """Sums over the channels of each result of a function of slabs of the tensors [P, S, C]."""
    channels = tensors[0].shape[2]
    number = next(k for k in range(SLABS, 0, -1) if channels % k == 0)
    width = channels // number
    totals: list = []
    for slab in range(number):
        terms = function(*(one[:, :, slab * width : (slab + 1) * width] for one in tensors))
        totals = [a + b for a, b in zip(totals, terms, strict=True)] if totals else list(terms)
    return [tf.matmul(total, tf.ones((width, 1), total.dtype)) for total in totals]


def _statistics(x: Any, centred: bool) -> tuple:
    channels = x.shape[2]
    if not centred:
        (square,) = _row_sums(lambda slab: (slab * slab,), x)
        none = tf.zeros_like(square)
        return none, none, square / channels
    # The mean over one slab or more, of which the variance bounds the distance to the mean.
    some = max(channels // SLABS, 1)
    shift = tf.matmul(x[:, :, :some], tf.ones((some, 1), x.dtype)) / some
    shift = tf.maximum(shift, x.dtype.min)

    def powers(slab: Any) -> tuple:
        distance = slab - shift
        return distance, distance * distance

    first, second = (total / channels for total in _row_sums(powers, x))
    return shift, first, tf.maximum(second - first * first, 0.0)


def _forward(x: Any, gamma: Any, beta: Any, *tables: Any, epsilon: float) -> Any:
    shift, residual, variance = tables
    return ((x - shift) - residual) / tf.sqrt(variance + epsilon) * gamma + beta


def _backward(dy: Any, x: Any, gamma: Any, *tables: Any, centred: bool, epsilon: float) -> tuple:
    """dx = (gamma · dy - mean(gamma · dy) - x̂ · mean(gamma · dy · x̂)) / √(variance + ε)."""
    shift, residual, variance = tables
    rate, channels = 1.0 / tf.sqrt(variance + epsilon), x.shape[2]

    def terms(d: Any, one: Any, g: Any) -> tuple:
        return d * g, d * g * (one - shift)

    of_dy, of_product = _row_sums(terms, dy, x, gamma)
    of_product = (of_product - residual * of_dy) * rate
    mean_dy = of_dy / channels if centred else tf.zeros_like(of_dy)
    slant = rate * of_product / channels
    dx = (gamma * dy - ((x - shift) * slant + (mean_dy - residual * slant))) * rate

    def parts(d: Any, one: Any, s: Any, r: Any, f: Any) -> tuple:
        return d * (((one - s) - r) * f), d

    dgamma, dbeta = sums(parts, dy, x, shift, residual, rate)
    return dx, like(dgamma, gamma), like(dbeta, gamma)


def _definition(x: Any, gamma: Any, centred: bool, epsilon: float) -> Any:
    distance = x - tf.reduce_mean(x, 2, keepdims=True) if centred else x
    variance = tf.reduce_mean(distance * distance, 2, keepdims=True)
    return distance / tf.sqrt(variance + epsilon) * gamma
