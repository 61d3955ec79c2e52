"""Forms of ops that stay within float16, for runtimes that compute in it: GPUs of phones.

A float16 ends at 65504 and has its full precision down to 6e-5: the square of 300 is infinite, that
of 0.005 is rough, and a sum of many numbers may end before they do. So squares are those of
u = (x - shift) / s, where s is a quarter of the largest |x - shift|, and at least √ε: they lie
within 16, a sum of 4000 of them does not overflow, and their mean over up to 2^18 numbers has its
full precision. ε stays in the domain of x: beside the mean of u² it is ε / s². In exact arithmetic
the forms are the definitions.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from keras import ops

from keras_norm.ops.lengths import length
from keras_norm.ops.moments import (
    Moments,
    about,
    averager,
    mean,
    mean_square,
    moments,
    over_groups,
)
from keras_norm.ops.normalize import reciprocal_sqrt, rescale, scale_centred

SMALLEST = 2.0**-14
"""The smallest float16 of full precision. GPUs may take smaller numbers for 0."""

FRACTION = 2.0**-10
"""What numbers are multiplied by before they are added up: a sum of 1000 of them stays below 65504.

Small ones lose digits by it. What that leaves of the mean is taken out as the residual."""


def moments_and_quotient(
    x: Any,
    axes: Sequence[int],
    gamma: Any,
    beta: Any,
    epsilon: float,
    *,
    synchronized: bool = False,
    correct: Callable[..., tuple] | None = None,
    training: Any = None,
    **how: Any,
) -> Any:
    """As `ops.standardize` needs it; declines what belongs to training."""
    if synchronized or correct is not None:
        return NotImplemented
    centred, shift, size, residual, variance = _moments(x, axes, epsilon, **how)
    factor = reciprocal_sqrt(_sum(variance, epsilon, size)) / size
    y = scale_centred(centred, residual * size, factor, gamma, beta)
    return y, shift, residual * size, variance * size * size


def mean_and_deviation(x: Any, axes: Sequence[int], epsilon: float, **how: Any) -> tuple[Any, Any]:
    """As `ops.mean_and_deviation`."""
    _, shift, size, residual, variance = _moments(x, axes, epsilon, **how)
    return shift + residual * size, ops.sqrt(_sum(variance, epsilon, size)) * size


def mixture_and_quotient(
    x: Any,
    axes: Sequence[int],
    mix: Callable[..., tuple],
    moving: tuple | None,
    weights: Sequence[Any],
    gamma: Any,
    beta: Any,
    epsilon: float,
    *,
    mask: Any = None,
    training: Any = None,
) -> tuple:
    """As `ops.standardize_by` needs it. The parts of a mixture share one shift and one s."""
    whole = range(1, len(x.shape))
    centred, shift = _centred(x, averager(x, whole, mask)[0])
    size = _size(centred, whole, epsilon, mask=mask)
    if moving is not None:
        # A variance may be infinite; its root is a constant of the graph.
        distance, deviation = Moments(*moving).mean - shift, ops.sqrt(moving[2])
        farthest = ops.max(ops.maximum(ops.abs(distance), deviation), axis=whole, keepdims=True)
        size = ops.maximum(size, farthest * 0.25)
        deviation = deviation / size
        moving = Moments(distance / size, None, deviation * deviation)
    scaled = centred / size
    own = moments(scaled, axes, mask=mask)
    near, residual, variance = mix(*own, moving, *weights)
    factor = reciprocal_sqrt(_sum(variance, epsilon, size))
    y = scale_centred(scaled - near, residual, factor, gamma, beta)
    return y, shift + own.shift * size, own.residual * size, own.variance * size * size


def root_and_quotient(
    x: Any,
    axes: Sequence[int],
    gamma: Any,
    beta: Any,
    epsilon: Any,
    *,
    mask: Any = None,
    training: Any = None,
) -> Any:
    """As `ops.root_and_quotient`, with a shift of 0."""
    size = _size(x, axes, epsilon, mask=mask)
    square = mean_square(x / size, axes, mask)
    return rescale(x, reciprocal_sqrt(_sum(square, epsilon, size)) / size, gamma, beta)


def relative_length(
    x: Any, axes: Sequence[int], channels: Sequence[int], epsilon: float, mask: Any = None
) -> Any:
    """As `ops.relative_length`, with a shift of 0, and one s for the channels that are compared."""
    size = _size(x, range(1, len(x.shape)), SMALLEST**2, mask=mask)
    table, unit = length(x / size, axes, mask)
    # ε may be too small to count, and all lengths 0.
    return table / ops.maximum(mean(table, channels) + (epsilon / unit) / size, SMALLEST)


FORMS: Mapping[str, Callable] = MappingProxyType(
    {
        form.__name__: form
        for form in (
            moments_and_quotient,
            mean_and_deviation,
            mixture_and_quotient,
            root_and_quotient,
            relative_length,
        )
    }
)
"""The forms by the names of their ops, as `backend.answered_by` takes them."""


def _moments(
    x: Any,
    axes: Sequence[int],
    epsilon: float,
    *,
    mask: Any = None,
    group_axis: int | None = None,
    groups: int = 1,
) -> tuple[Any, ...]:
    """x - shift, the shift, s, and in units of s what is left of the mean and the variance."""
    average, total = averager(x, axes, mask, group_axis, groups)
    centred, shift = _centred(x, average)
    size = _size(centred, axes, epsilon, mask=mask, group_axis=group_axis, groups=groups)
    return centred, shift, size, *about(centred / size, average, total)


def _centred(x: Any, average: Callable[..., list]) -> tuple[Any, Any]:
    """x - shift, and the shift: x's mean, nearly."""
    shift = average(x * FRACTION)[0] / FRACTION
    return x - shift, shift


def _size(
    x: Any,
    axes: Sequence[int],
    epsilon: Any,
    *,
    mask: Any = None,
    group_axis: int | None = None,
    groups: int = 1,
) -> Any:
    """A quarter of the largest |x| over `axes` and a group of channels, or √ε."""
    size = ops.abs(x)
    size = size if mask is None else ops.where(mask, size, ops.zeros_like(size))
    for axis in axes:
        size = ops.max(size, axis=axis, keepdims=True)
    size = over_groups(size, group_axis, groups, ops.max)
    return ops.maximum(size * 0.25, _root(epsilon))


def _root(epsilon: Any) -> Any:
    """√ε, raised to what float16 holds."""
    if not isinstance(epsilon, float):
        return ops.maximum(ops.sqrt(epsilon), SMALLEST)
    if epsilon < SMALLEST**2:
        warnings.warn(
            f"epsilon={epsilon:g} is raised to {SMALLEST**2:.2g}, the smallest whose root float16 "
            "holds. Export with `target='any'` to keep it.",
            stacklevel=2,
        )
    return max(math.sqrt(epsilon), SMALLEST)


def _sum(square: Any, epsilon: Any, size: Any) -> Any:
    """A mean of u² plus ε / s², which is a square, as neither ε nor s² need be a float16.

    Where all numbers are the same but for a rounding, the first is 0 and the second may be lost.
    """
    share = _root(epsilon) / size
    return ops.maximum(square + share * share, SMALLEST)
