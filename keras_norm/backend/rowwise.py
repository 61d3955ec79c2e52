"""TensorFlow kernels of norms whose statistics run over the channels, row by row, of [P, S, C].

A product with a column of ones sums a row: on a CPU that is faster than to reduce the last axis,
for which XLA walks through one row after the other. Slabs, as in `channelwise`, gain nothing here.
"""

import functools
from typing import Any

import tensorflow as tf

from keras_norm.backend.channelwise import Kernels, assembled, sums

SHARE = 16  # The shift is the mean over this part of the channels, rounded up.


@functools.cache
def kernels(centred: bool, epsilon: float, dtype: Any, shape: Any = None) -> Kernels:
    """The kernels of layer norm, or of RMS norm, which does not centre.

    Args:
        centred: Whether the mean is taken out.
        epsilon: Added to the variance, or to the mean square.
        dtype: That of x.
        shape: The only shape that they are for, as in `channelwise`.

    Returns:
        Functions of tensors [P, S, C], as in `channelwise`. Without centring the mean's tables are
        zeros, and the variance is the mean square.
    """
    return assembled(
        functools.partial(_statistics, centred=centred),
        functools.partial(_forward, epsilon=epsilon),
        functools.partial(_backward, centred=centred, epsilon=epsilon),
        functools.partial(_definition, centred=centred, epsilon=epsilon),
    )


def _row_sums(*terms: Any) -> list:
    """Sums of tensors [P, S, C] over the channels."""
    return [tf.matmul(term, tf.ones((term.shape[2], 1), term.dtype)) for term in terms]


def _statistics(x: Any, centred: bool) -> tuple:
    channels = x.shape[2]
    if not centred:
        (square,) = _row_sums(x * x)
        none = tf.zeros_like(square)
        return none, none, square / channels
    some = x[:, :, : -(-channels // SHARE)]
    (shift,) = _row_sums(some)
    shift = tf.maximum(shift / some.shape[2], x.dtype.min)  # rounded, as in `channelwise`
    distance = x - shift
    first, second = (total / channels for total in _row_sums(distance, distance * distance))
    return shift, first, tf.maximum(second - first * first, 0.0)


def _forward(x: Any, gamma: Any, beta: Any, *tables: Any, epsilon: float) -> Any:
    shift, residual, variance = tables
    return ((x - shift) - residual) / tf.sqrt(variance + epsilon) * gamma + beta


def _backward(dy: Any, x: Any, gamma: Any, *tables: Any, centred: bool, epsilon: float) -> tuple:
    """dx = (gamma · dy - mean(gamma · dy) - x̂ · mean(gamma · dy · x̂)) / √(variance + ε)."""
    shift, residual, variance = tables
    rate, channels = 1.0 / tf.sqrt(variance + epsilon), x.shape[2]
    slope = gamma * dy
    of_dy, of_product = _row_sums(slope, slope * (x - shift))
    of_product = (of_product - residual * of_dy) * rate
    mean_dy = of_dy / channels if centred else tf.zeros_like(of_dy)
    slant = rate * of_product / channels
    dx = (slope - ((x - shift) * slant + (mean_dy - residual * slant))) * rate

    def parts(d: Any, one: Any, s: Any, r: Any, f: Any) -> tuple:
        return d * (((one - s) - r) * f), d

    dgamma, dbeta = sums(parts, dy, x, shift, residual, rate)
    return dx, dgamma, dbeta


def _definition(x: Any, gamma: Any, centred: bool, epsilon: float) -> Any:
    distance = x - tf.reduce_mean(x, 2, keepdims=True) if centred else x
    variance = tf.reduce_mean(distance * distance, 2, keepdims=True)
    return distance / tf.sqrt(variance + epsilon) * gamma
