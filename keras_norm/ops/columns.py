"""Features that lie along any axes, as the columns of a matrix, and back."""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_norm.ops import axes


def columns(x: Any, over: Sequence[int]) -> Any:
    """Moves some axes to the end and joins them to one.

    Args:
        x: A tensor.
        over: Sorted axes, of known sizes.

    Returns:
        A tensor whose last axis runs over all of `over`, the last of them fastest.
    """
    rest = axes.others(over, len(x.shape))
    size = math.prod(x.shape[a] for a in over)
    x = _transposed(x, (*rest, *over))
    return x if len(over) == 1 else _with_tail(x, len(rest), (size,))


def uncolumns(x: Any, over: Sequence[int], sizes: Sequence[int]) -> Any:
    """Undoes `columns`.

    Args:
        x: A tensor whose last axis runs over features.
        over: Sorted axes of the result that the features take.
        sizes: Their sizes.

    Returns:
        A tensor with `over` where they are asked for.
    """
    lead, rank = len(x.shape) - 1, len(x.shape) - 1 + len(over)
    x = x if len(over) == 1 else _with_tail(x, lead, sizes)
    order = (*axes.others(over, rank), *over)
    return _transposed(x, [order.index(axis) for axis in range(rank)])


def product(x: Any, matrix: Any) -> Any:
    """x · matrix over x's last axis.

    Exporters turn it into one operation at any rank. Of `matmul` they make ten where more than the
    batch is of unknown size.
    """
    return ops.einsum("...i,ij->...j", x, matrix)


def _transposed(x: Any, order: Sequence[int]) -> Any:
    return x if list(order) == sorted(order) else ops.transpose(x, order)


def _with_tail(x: Any, lead: int, tail: Sequence[int]) -> Any:
    """x with all axes after the first `lead` in another shape."""
    sizes = x.shape[:lead]
    if sum(size is None for size in sizes) > 1:
        sizes = ops.shape(x)[:lead]
    return ops.reshape(x, [*(-1 if size is None else size for size in sizes), *tail])
