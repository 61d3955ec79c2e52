"""Effective weights: directions, standardized weights, spectral norms.

A weight has output axes, one unit of the layer for each of their entries; its other axes are
that unit's fan-in. Zero weights stay finite, and so do their gradients.
"""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_norm.ops.axes import others
from keras_norm.ops.moments import moments
from keras_norm.ops.normalize import reciprocal_sqrt


def norm(v: Any, axes: Sequence[int]) -> Any:
    """‖v‖ over all axes but `axes`, which are kept at size 1.

    Args:
        v: A weight in float32 or wider.
        axes: Its output axes, sorted and non-negative.

    Returns:
        A tensor of v's rank; 1 where v is zero, so that v / ‖v‖ is zero there.
    """
    over = others(axes, len(v.shape))
    # Squares of 1e-23 are zero in float32 and those of 1e20 infinite; the size comes out first.
    size = ops.stop_gradient(ops.max(ops.abs(v), axis=over, keepdims=True))
    size = ops.where(size > 0, size, ops.ones_like(size))
    scaled = v / size
    square = ops.sum(scaled * scaled, axis=over, keepdims=True)
    return size * ops.sqrt(ops.where(square > 0, square, ops.ones_like(square)))


def direction(v: Any, axes: Sequence[int] = ()) -> Any:
    """v / ‖v‖ over all axes but `axes`; zero where v is."""
    return v / norm(v, axes)


def standardize(weight: Any, axes: Sequence[int], epsilon: float) -> Any:
    """(weight - mean) / √(variance + ε), over all axes but `axes`.

    Args:
        weight: A weight in float32 or wider.
        axes: Its output axes, sorted and non-negative.
        epsilon: Added to the biased variance.

    Returns:
        A tensor of the weight's shape.
    """
    mean, residual, variance = moments(weight, others(axes, len(weight.shape)))
    centred = weight - mean
    centred = centred if residual is None else centred - residual
    return centred * reciprocal_sqrt(variance + epsilon)


def as_matrix(weight: Any, axes: Sequence[int]) -> Any:
    """The weight as a matrix [fan-in, outputs]."""
    shape, over = tuple(weight.shape), others(axes, len(weight.shape))
    matrix = ops.transpose(weight, (*over, *axes))
    return ops.reshape(matrix, (fan_in(shape, axes), math.prod(shape[a] for a in axes)))


def fan_in(shape: Sequence[int], axes: Sequence[int]) -> int:
    """Number of entries of a weight that one unit has."""
    return math.prod(size for axis, size in enumerate(shape) if axis not in axes)


def power_iteration(matrix: Any, u: Any, iterations: int) -> tuple[Any, Any]:
    """Moves u and v towards the leading singular vectors of a matrix.

    v = direction(matrix u), u = direction(matrixᵀ v). A thousandth of a fixed vector enters u each
    time: a u that is orthogonal to the leading vector would stay so. It costs the spectral norm
    5e-7 of its value.

    Args:
        matrix: A matrix [fan-in, outputs] in float32 or wider.
        u: Vector [outputs].
        iterations: How often to do both steps.

    Returns:
        u [outputs] and v [fan-in] of norm 1, without a gradient. Of a zero matrix v is zero.
    """
    matrix, v = ops.stop_gradient(matrix), None
    nudge = 1e-3 * start(u)
    for _ in range(iterations):
        v = direction(ops.matmul(matrix, u))
        u = direction(direction(ops.matmul(ops.transpose(matrix), v)) + nudge)
    return ops.stop_gradient(u), ops.stop_gradient(v)


def start(u: Any) -> Any:
    """A unit vector like u that no matrix of practice is orthogonal to: cos(1), cos(2), ..."""
    return direction(ops.cos(ops.cast(ops.arange(1, u.shape[0] + 1), u.dtype)))


def spectral_norm(matrix: Any, u: Any, v: Any) -> Any:
    """σ = vᵀ matrix u, differentiable in the matrix; 1 where it is zero."""
    sigma = ops.sum(v * ops.matmul(matrix, u))
    return ops.where(ops.equal(sigma, 0.0), ops.ones_like(sigma), sigma)
