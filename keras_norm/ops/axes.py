"""Axis arithmetic, masks, and the errors that come with them."""

import numbers
from collections.abc import Sequence
from typing import Any

from keras import ops

Shape = Sequence[int | None]


def check(axis: Any) -> None:
    """Checks what can be said of `axis` before the input's rank is known.

    Args:
        axis: An integer, or a list or tuple of integers.

    Raises:
        TypeError: If `axis` is anything else.
        ValueError: If `axis` is empty or names an axis twice.
    """
    entries = axis if isinstance(axis, (list, tuple)) else [axis]
    if any(isinstance(a, bool) or not isinstance(a, numbers.Integral) for a in entries):
        raise TypeError(
            "`axis` must be an integer or a list of integers. "
            f"Received: axis={axis!r} (of type {type(axis).__name__}). "
            "Use -1 for channels last, 1 for channels first."
        )
    if not entries or len(set(entries)) < len(entries):
        raise ValueError(
            "`axis` must name at least one axis, and none twice. "
            f"Received: axis={axis!r}. Use -1 for channels last, 1 for channels first."
        )


def canonical(axis: int | Sequence[int], shape: Shape, minimum_rank: int = 2) -> tuple[int, ...]:
    """The axes as sorted, non-negative integers.

    Args:
        axis: An integer or a sequence of integers, negative ones counted from the end.
        shape: Shape of the input.
        minimum_rank: The smallest rank that makes sense.

    Returns:
        The sorted axes.

    Raises:
        ValueError: If the rank is too low, an axis is out of range, repeated, or the batch axis.
    """
    rank, received = len(shape), f"Received: axis={axis!r} (input shape {tuple(shape)})."
    entries = tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)
    if rank < minimum_rank:
        raise ValueError(
            f"The input must have rank {minimum_rank} or higher. {received} "
            + ("Add the batch axis." if minimum_rank == 2 else "Add axes of space or time.")
        )
    if any(not -rank <= a < rank for a in entries):
        raise ValueError(
            f"`axis` must lie between {-rank} and {rank - 1} for an input of rank {rank}. "
            f"{received} Use -1 for channels last, 1 for channels first."
        )
    result = tuple(sorted(a % rank for a in entries))
    if len(set(result)) < len(result):
        raise ValueError(f"`axis` must not name an axis twice. {received} Name each axis once.")
    if 0 in result:
        raise ValueError(
            f"`axis` must not contain the batch axis 0. {received} "
            "Use -1 for channels last, 1 for channels first."
        )
    return result


def others(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """All axes of a tensor of rank `rank` but `axes`."""
    return tuple(a for a in range(rank) if a not in axes)


def sizes(axes: Sequence[int], shape: Shape, axis: Any) -> tuple[int, ...]:
    """Sizes of `axes`, all of which must be known.

    Args:
        axes: Canonical axes.
        shape: Shape of the input.
        axis: The user's `axis`, for the error's text.

    Returns:
        The sizes.

    Raises:
        ValueError: If one of them is unknown.
    """
    result = tuple(size for size in (shape[a] for a in axes) if size is not None)
    if len(result) < len(axes):
        raise ValueError(
            f"axis {axis} must be defined: gamma and beta have its size. "
            f"Received: axis={axis!r} (input shape {tuple(shape)}). "
            "Give the size in `keras.Input(shape=...)`."
        )
    return result


def joined(axes: Sequence[int], shape: Shape, size: int) -> tuple[int | None, ...]:
    """A shape with one axis of some size in the place of the first of `axes`, the others gone."""
    rest = [shape[a] for a in others(axes, len(shape))]
    return (*rest[: axes[0]], size, *rest[axes[0] :])


def split(axes: Sequence[int], shape: Shape, sizes: Shape) -> tuple[int | None, ...]:
    """Undoes `joined`: `sizes` on `axes` of the result, in the place of one axis."""
    rest, given = iter([*shape[: axes[0]], *shape[axes[0] + 1 :]]), iter(sizes)
    return tuple(next(given if a in axes else rest) for a in range(len(shape) - 1 + len(axes)))


def check_divisor(name: str, value: int, channels: int, axis: Any, shape: Shape) -> None:
    """Checks that groups, or the size of a group, divide the channels.

    Args:
        name: The argument's name.
        value: What the user gave.
        channels: Number of channels.
        axis: The user's `axis`, for the error's text.
        shape: Shape of the input, for the error's text.

    Raises:
        ValueError: If `channels` is no multiple of `value`.
    """
    if channels % value:
        divisors = [d for d in range(1, channels + 1) if channels % d == 0]
        raise ValueError(
            f"`{name}` must divide the number of channels. Received: {name}={value} "
            f"({channels} channels on axis {axis}, input shape {tuple(shape)}). "
            f"Use one of {', '.join(map(str, divisors))}."
        )


def broadcastable(axes: Sequence[int], shape: Shape) -> tuple[int, ...]:
    """The shape of a weight that spans `axes`, filled up with ones to the input's rank."""
    return tuple(size if a in axes else 1 for a, size in enumerate(shape))  # type: ignore[misc]


def expand_mask(mask: Any, shape: Shape, axes: Sequence[int]) -> Any:
    """A mask as booleans that broadcast to the input.

    Keras's masks lack the feature axis, [B, T] for an input [B, T, C]; they may also lack trailing
    axes ([B, T] for [B, T, H, W, C]) or have all of them.

    Args:
        mask: The mask, or `None`.
        shape: Shape of the input.
        axes: Canonical axes of gamma and beta; the last of them is the one that masks lack.

    Returns:
        A boolean tensor of the input's rank, each of its sizes 1 or the input's; or `None`.

    Raises:
        ValueError: If the mask's shape does not fit.
    """
    if mask is None:
        return None
    mask = ops.cast(mask, "bool")
    received, rank = tuple(mask.shape), len(shape)
    while len(mask.shape) < rank - 1:
        mask = ops.expand_dims(mask, -1)
    if len(mask.shape) == rank - 1:
        mask = ops.expand_dims(mask, axes[-1])
    fits = len(mask.shape) == rank and all(
        m in (1, None) or n is None or m == n for m, n in zip(mask.shape, shape, strict=True)
    )
    if not received or not fits:
        raise ValueError(
            "`mask` must have the input's shape without the feature axis, or one that broadcasts "
            f"to it. Received: mask of shape {received} (input shape {tuple(shape)}). "
            f"Pass a mask of shape {tuple(n for a, n in enumerate(shape) if a != axes[-1])}."
        )
    return mask


def varying(mask: Any, axes: Sequence[int]) -> Any:
    """The mask, or `None` if it is constant along all of `axes`.

    A statistic over nothing but masked elements serves masked outputs alone, so it may as well be
    the plain one.
    """
    if mask is None or all(mask.shape[a] == 1 for a in axes):
        return None
    return mask
