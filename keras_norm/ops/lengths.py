"""Euclidean lengths, which do not overflow where their squares would not."""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_norm.backend import overridable
from keras_norm.ops.elements import root
from keras_norm.ops.moments import mean


@overridable
def relative_length(
    x: Any, axes: Sequence[int], channels: Sequence[int], epsilon: float, mask: Any = None
) -> Any:
    """‖x‖ / (mean of ‖x‖ over channels + ε), ‖x‖ being √Σx² over `axes`.

    Args:
        x: A tensor of float32 or wider.
        axes: Axes that are reduced.
        channels: Axes over which the lengths are averaged.
        epsilon: Added to the average.
        mask: Booleans that broadcast to x; only elements with `True` count.

    Returns:
        A tensor of x's rank that broadcasts to it. Its gradient is 0 where x is 0.
    """
    table, unit = length(x, axes, mask)
    return table / (mean(table, channels) + epsilon / unit)


def length(x: Any, axes: Sequence[int], mask: Any) -> tuple[Any, float]:
    """√Σx² over `axes`, as a table times a number.

    The table is the root of a mean wherever a size is known, so that the sum does not overflow.
    """
    known = [a for a in axes if x.shape[a] is not None]
    square = x * x
    square = square if mask is None else ops.where(mask, square, 0.0)
    square = mean(square, known)
    for axis in axes:
        if axis not in known:
            square = ops.sum(square, axis=axis, keepdims=True)
    return root(square), math.sqrt(max(1, math.prod(x.shape[a] for a in known)))
