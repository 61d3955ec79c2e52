"""Normalization with given statistics, gamma and beta."""

from typing import Any

from keras import ops

from keras_norm.backend import overridable
from keras_norm.ops.moments import Moments


@overridable
def reciprocal_sqrt(x: Any) -> Any:
    """1/√x."""
    return ops.rsqrt(x)


def affine(x: Any, gamma: Any, beta: Any) -> Any:
    """x · gamma + beta, either of them `None` to leave it out."""
    x = x if gamma is None else x * gamma
    return x if beta is None else x + beta


def normalize(x: Any, moments: Moments, gamma: Any, beta: Any, epsilon: float) -> Any:
    """(x - mean) / √(variance + ε) · gamma + beta.

    The factors of one channel are joined in small tables first, and the full tensor is touched
    three times: subtract, multiply, add. `x · scale + offset` would save one of them and cancel
    wherever the mean is large against the spread.

    Args:
        x: The input.
        moments: Mean and variance that broadcast to x.
        gamma: Factor that broadcasts to x, or `None`.
        beta: Offset that broadcasts to x, or `None`.
        epsilon: Added to the variance.

    Returns:
        A tensor of x's shape.
    """
    shift, residual, variance = moments
    factor = reciprocal_sqrt(variance + epsilon)
    joined = _is_small(x, variance, beta if gamma is None else gamma)
    if joined and gamma is not None:
        factor = factor * gamma
    y = (x - shift) * factor
    if residual is not None:
        leftover = residual * factor
        if joined and beta is not None:
            return y + (beta - leftover)
        y = y - leftover
    return affine(y, None if joined else gamma, beta)


def centre(x: Any, moments: Moments, beta: Any) -> Any:
    """x - mean + beta.

    Args:
        x: The input.
        moments: Mean that broadcasts to x; the variance is not used.
        beta: Offset that broadcasts to x, or `None`.

    Returns:
        A tensor of x's shape.
    """
    y, residual = x - moments.shift, moments.residual
    if residual is None:
        return affine(y, None, beta)
    if beta is not None and _is_small(x, residual, beta):
        return y + (beta - residual)
    return affine(y - residual, None, beta)


def normalize_by_root(x: Any, mean_square: Any, gamma: Any, beta: Any, epsilon: Any) -> Any:
    """x / √(mean_square + ε) · gamma + beta.

    Args:
        x: The input.
        mean_square: Mean of x², broadcasting to x.
        gamma: Factor that broadcasts to x, or `None`.
        beta: Offset that broadcasts to x, or `None`.
        epsilon: Added to the mean square; a float or a scalar tensor.

    Returns:
        A tensor of x's shape.
    """
    factor = reciprocal_sqrt(mean_square + epsilon)
    if gamma is not None and _is_small(x, mean_square, gamma):
        return affine(x, factor * gamma, beta)
    return affine(x * factor, gamma, beta)


def _is_small(x: Any, statistic: Any, weight: Any) -> bool:
    """Whether statistic · weight is smaller than x, some axis of x being 1 in both."""
    if weight is None:
        return True
    sizes = zip(x.shape, statistic.shape, weight.shape, strict=True)
    return any(n != 1 and s == 1 and w == 1 for n, s, w in sizes)
