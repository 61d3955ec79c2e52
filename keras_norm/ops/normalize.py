"""Normalization with given statistics, gamma and beta."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_norm.backend import overridable
from keras_norm.ops.moments import Moments, mean_square, moments


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
    return scale_centred(x - shift, residual, reciprocal_sqrt(variance + epsilon), gamma, beta)


def scale_centred(centred: Any, residual: Any, factor: Any, gamma: Any, beta: Any) -> Any:
    """(centred - residual) · factor · gamma + beta.

    Args:
        centred: The input without its mean, or without most of it.
        residual: What is left of the mean, or `None`.
        factor: 1/√(variance + ε), broadcasting to the input.
        gamma: Factor that broadcasts to the input, or `None`.
        beta: Offset that broadcasts to the input, or `None`.

    Returns:
        A tensor of the input's shape.
    """
    joined = _is_small(centred, factor, beta if gamma is None else gamma)
    if joined and gamma is not None:
        factor = factor * gamma
    y = centred * factor
    if residual is not None:
        leftover = residual * factor
        if joined and beta is not None:
            return y + (beta - leftover)
        y = y - leftover
    return affine(y, None if joined else gamma, beta)


def standardize(x: Any, axes: Sequence[int], gamma: Any, beta: Any, epsilon: float, **how: Any):
    """`moments` over `axes`, and `normalize` with them.

    Args:
        x: A tensor of float32 or wider.
        axes: Axes that are reduced.
        gamma: Factor that broadcasts to x, or `None`.
        beta: Offset that broadcasts to x, or `None`.
        epsilon: Added to the variance.
        how: `mask`, `group_axis`, `groups` and `synchronized`, as `moments` takes them; `correct`,
            a function of the moments, as constants, gamma and beta that returns the gamma and beta
            to use instead; `training`, whether a gradient will be asked for.

    Returns:
        A tensor of x's shape, and the moments, as constants.
    """
    given = how.pop("correct", None)
    if given is not None:
        how["correct"] = lambda *parts: given(Moments(*parts[:3]), *parts[3:])
    y, *statistics = moments_and_quotient(x, tuple(axes), gamma, beta, epsilon, **how)
    return y, Moments(*statistics)


@overridable
def moments_and_quotient(
    x: Any,
    axes: Sequence[int],
    gamma: Any,
    beta: Any,
    epsilon: float,
    *,
    mask: Any = None,
    group_axis: int | None = None,
    groups: int = 1,
    synchronized: bool = False,
    correct: Callable[..., tuple] | None = None,
    training: Any = None,
) -> tuple:
    """The result of `standardize`, with the moments as shift, residual and variance."""
    statistics = moments(
        x, axes, mask=mask, group_axis=group_axis, groups=groups, synchronized=synchronized
    )
    constants = [_constant(part) for part in statistics]
    if correct is not None:
        gamma, beta = correct(*constants, gamma, beta)
    return normalize(x, statistics, gamma, beta, epsilon), *constants


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


def normalize_by_root(x: Any, square: Any, gamma: Any, beta: Any, epsilon: Any) -> Any:
    """x / √(square + ε) · gamma + beta.

    Args:
        x: The input.
        square: Mean of x², broadcasting to x.
        gamma: Factor that broadcasts to x, or `None`.
        beta: Offset that broadcasts to x, or `None`.
        epsilon: Added to the mean square; a float or a scalar tensor.

    Returns:
        A tensor of x's shape.
    """
    return rescale(x, reciprocal_sqrt(square + epsilon), gamma, beta)


def rescale(x: Any, factor: Any, gamma: Any, beta: Any) -> Any:
    """x · factor · gamma + beta.

    Args:
        x: The input.
        factor: A table that broadcasts to x; gamma is joined with it where that is the less work.
        gamma: Factor that broadcasts to x, or `None`.
        beta: Offset that broadcasts to x, or `None`.

    Returns:
        A tensor of x's shape.
    """
    if gamma is not None and _is_small(x, factor, gamma):
        return affine(x, factor * gamma, beta)
    return affine(x * factor, gamma, beta)


def standardize_by(
    x: Any,
    axes: Sequence[int],
    mix: Callable[..., Moments],
    moving: Moments | None,
    weights: Sequence[Any],
    gamma: Any,
    beta: Any,
    epsilon: float,
    **how: Any,
):
    """`moments` over `axes`, a mixture of them and of others, and `normalize` with that.

    Args:
        x: A tensor of float32 or wider.
        axes: Axes that are reduced.
        mix: Function of the moments, `moving` and the weights that returns the moments to use.
        moving: Moments that enter into the mixture beside those of x, or `None`.
        weights: Tensors.
        gamma: Factor that broadcasts to x, or `None`.
        beta: Offset that broadcasts to x, or `None`.
        epsilon: Added to the variance.
        how: `mask`, booleans that broadcast to x; `training`, whether a gradient will be asked for.

    Returns:
        A tensor of x's shape, and the moments over `axes`, as constants.
    """

    def mix_parts(shift: Any, residual: Any, variance: Any, others: Any, *weights: Any) -> Moments:
        return mix(Moments(shift, residual, variance), others and Moments(*others), *weights)

    y, *statistics = mixture_and_quotient(
        x, tuple(axes), mix_parts, moving, tuple(weights), gamma, beta, epsilon, **how
    )
    return y, Moments(*statistics)


@overridable
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
    """The result of `standardize_by`, with moments as shift, residual and variance."""
    parts = moments(x, axes, mask=mask)
    y = normalize(x, Moments(*mix(*parts, moving, *weights)), gamma, beta, epsilon)
    return y, *(_constant(part) for part in parts)


@overridable
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
    """`mean_square` over `axes`, and `normalize_by_root` with it.

    Args:
        x: A tensor of float32 or wider.
        axes: Axes that are reduced.
        gamma: Factor that broadcasts to x, or `None`.
        beta: Offset that broadcasts to x, or `None`.
        epsilon: Added to the mean square; a float or a scalar tensor.
        mask: Booleans that broadcast to x; only elements with `True` count.
        training: Whether a gradient will be asked for.

    Returns:
        A tensor of x's shape.
    """
    return normalize_by_root(x, mean_square(x, axes, mask), gamma, beta, epsilon)


def _constant(part: Any) -> Any:
    """A tensor without its gradient; `None` stays `None`."""
    return None if part is None else ops.stop_gradient(part)


def _is_small(x: Any, statistic: Any, weight: Any) -> bool:
    """Whether statistic · weight is smaller than x, some axis of x being 1 in both."""
    if weight is None:
        return True
    sizes = zip(x.shape, statistic.shape, weight.shape, strict=True)
    return any(n != 1 and s == 1 and w == 1 for n, s, w in sizes)
