"""TensorFlow kernels of norms whose moments are any function of those of each sample and channel.

Tensors are tables [P, S, C], as in `channelwise`, whose statistics these kernels start from. What
comes after, up to one factor and one offset for each sample and channel, is small, and is
differentiated as it stands; the two sums and the one pass over x and dy that its gradient needs are
compiled.
"""

import functools
from typing import Any

import tensorflow as tf

from keras_norm.backend.channelwise import compiled, connected, like, sums, wide


def quotient(x: Any, tables: Any, statistics: tuple, arguments: list, shape: Any = None) -> Any:
    """(x - shift) · factor + offset, with the gradients of a factor and offset that depend on x.

    Args:
        x: A table [P, S, C], as in `channelwise`.
        tables: Function of shift, residual, variance and the arguments that returns factor and
            offset, [P or 1, 1, C].
        statistics: Shift, residual and variance of each sample and channel.
        arguments: Tensors.
        shape: The shape of an eager call, which has programs of its own, as in `channelwise`.

    Returns:
        A table of x's shape, of float32.
    """
    forward, two_sums, combined = _programs(shape)
    shift, residual, variance = (tf.stop_gradient(one) for one in statistics)

    def factor_and_offset(residual: Any, variance: Any, *arguments: Any) -> tuple:
        return tables(shift, residual, variance, *arguments)

    @tf.custom_gradient
    def slope(dy, x, *arguments):
        def curvature(*upstream):
            inputs = [dy, x, *arguments]
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                slopes = _slope_by_definition(dy, x, tables, arguments)
            return tape.gradient(slopes, inputs, upstream)

        with tf.GradientTape() as tape:
            tape.watch([residual, variance, *arguments])
            factor, offset = factor_and_offset(residual, variance, *arguments)
        of_dy, of_product = two_sums(dy, x, shift)
        inputs = [residual, variance, *arguments]
        given = [like(of_product, factor), like(of_dy, offset)]
        found = tape.gradient([factor, offset], inputs, given)
        dresidual, dvariance, *rest = connected(found, inputs)
        slant = 2.0 * dvariance / x.shape[1]
        level = dresidual / x.shape[1] - residual * slant
        return [combined(dy, x, shift, factor, slant, level), *rest], curvature

    @tf.custom_gradient
    def run(x, *arguments):
        y = forward(x, shift, *factor_and_offset(residual, variance, *arguments))
        return y, lambda dy: slope(dy, x, *arguments)

    return run(x, *arguments)


@functools.cache
def _programs(shape: Any) -> list:
    """The passes over the tensor, compiled."""
    return [compiled(one) for one in (_forward, _two_sums, _combined)]


def _forward(x: Any, shift: Any, factor: Any, offset: Any) -> Any:
    return (wide(x) - shift) * factor + offset


def _two_sums(dy: Any, x: Any, shift: Any) -> list:
    return sums(lambda d, one: (d, d * (one - shift)), dy, wide(x))


def _combined(dy: Any, x: Any, shift: Any, factor: Any, slant: Any, level: Any) -> Any:
    return tf.cast(dy * factor + ((wide(x) - shift) * slant + level), x.dtype)


def _slope_by_definition(dy: Any, x: Any, tables: Any, arguments: Any) -> list:
    """The gradients of x and the arguments, such that they can be differentiated in turn."""
    inputs = [x, *arguments]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        x = wide(x)
        shift = tf.stop_gradient(tf.reduce_mean(x, 1, keepdims=True))
        residual = tf.reduce_mean(x - shift, 1, keepdims=True)
        centred = x - shift - residual
        variance = tf.reduce_mean(centred * centred, 1, keepdims=True)
        factor, offset = tables(shift, residual, variance, *arguments)
        y = (x - shift) * factor + offset
    return connected(tape.gradient(y, inputs, dy), inputs)
