"""Cosine, and Pearson correlation, of weights with inputs: of vectors, and of windows of images.

An output is ⟨x, w⟩ / (√(|x|² + ε) · √(|w|² + ε)). The weights are divided by their norm first, so
that in a model that no longer trains they are constants. A bias b is one more coordinate, [x, 1]
and [w, b]: the quotient stays within -1 and 1. Correlation is the cosine of vectors less their
means; the coordinate of the bias is none of those that are centred.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_norm.ops.moments import mean, rounded
from keras_norm.ops.normalize import reciprocal_sqrt


class Window(NamedTuple):
    """What a kernel covers, and how it moves over the axes of space.

    Attributes:
        size: Number of taps along each axis.
        strides: Steps between outputs.
        padding: "valid", "same", or along one axis "causal".
        dilation: Steps between taps.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    dilation: tuple[int, ...]

    @property
    def taps(self) -> int:
        """Number of positions that the window covers."""
        return math.prod(self.size)

    @property
    def extent(self) -> tuple[int, ...]:
        """Length along each axis, from the first tap to the last."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))

    def outputs(self, sizes: Sequence[int | None]) -> tuple[int | None, ...]:
        """Number of positions of the window along axes of these sizes, `None` where unknown."""
        covered = self.extent if self.padding == "valid" else (1,) * len(self.size)
        return tuple(
            None if n is None else max((n - e) // stride + 1, 0)
            for n, e, stride in zip(sizes, covered, self.strides, strict=True)
        )

    def slide(self, x: Any, kernel: Any) -> Any:
        """The convolution of x [B, ..., C] with a kernel [*size, C/G, F]."""
        padding = self.padding
        if padding == "causal":
            x, padding = ops.pad(x, ((0, 0), (self.extent[0] - 1, 0), (0, 0))), "valid"
        return ops.conv(
            x,
            kernel,
            strides=self.strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=self.dilation,
        )

    def sums(self, table: Any) -> Any:
        """Sum over the window of each channel of a small table [B, ..., G]."""
        return self.slide(table, ops.ones((*self.size, 1, table.shape[-1]), dtype=table.dtype))

    def unfolded(self, table: Any) -> Any:
        """The numbers in the window, [B, ..., G·taps], of a small table [B, ..., G].

        A convolution with an identity: every runtime has it, at every rank, stride and dilation.
        """
        # Not `ops.eye`, which TensorFlow would compute in the graph by an op that OpenVINO lacks.
        identity = np.eye(self.taps).reshape(*self.size, 1, self.taps)
        kernel = np.concatenate([identity] * table.shape[-1], axis=-1)
        return self.slide(table, ops.convert_to_tensor(kernel, dtype=table.dtype))


def cosine(x: Any, kernel: Any, bias: Any, centered: bool, epsilon: float) -> Any:
    """Cosine of the last axis of x with each column of a matrix.

    Args:
        x: A tensor [..., C] of float32 or wider.
        kernel: A matrix [C, F].
        bias: The weights' further coordinate [F], which meets a 1 in the input; or `None`.
        centered: Whether x and each column are taken less their means.
        epsilon: Added to the squares of both norms.

    Returns:
        A tensor [..., F] within -1 and 1.
    """
    if centered:
        kernel = _centred_kernel(kernel)
        _, x = _split(x, 1)
    unit, offset = _unit_weights(kernel, bias, epsilon)
    square = ops.sum(x * x, axis=-1, keepdims=True)
    return _quotient(_product(x, unit), square, offset, epsilon)


def cosine_windows(
    x: Any,
    kernel: Any,
    bias: Any,
    centered: bool,
    epsilon: float,
    window: Window,
    groups: int = 1,
) -> Any:
    """Cosine of each window of x with each filter.

    Padding is zeros, and counts for nothing in the norm of a window. With `centered` the mean is
    that of the positions which exist, and padding is that mean: it counts for nothing there either,
    and a constant added to x changes no output, at borders no more than elsewhere.

    Args:
        x: A tensor [B, ..., C] of float32 or wider.
        kernel: Filters [*window.size, C/G, F].
        bias: The filters' further coordinate [F], which meets a 1 in the input; or `None`.
        centered: Whether each window and each filter are taken less their means.
        epsilon: Added to the squares of both norms.
        window: What the filters cover and how they move.
        groups: Number G of groups of channels, each with F/G filters of its own.

    Returns:
        A tensor [B, ..., F] within -1 and 1.
    """
    if not centered:
        unit, offset = _unit_weights(kernel, bias, epsilon)
        square = window.sums(_join(x * x, groups))
        return _quotient(window.slide(x, unit), square, offset, epsilon)
    unit, offset = _unit_weights(_centred_kernel(kernel), bias, epsilon)
    # Σx² - (Σx)²/n cancels where a window's mean is large against its spread, Σw·x likewise. So x
    # is split into the mean of each position's channels and what is left of it; only the small
    # table of these means is laid out window by window, and centred there. No other sum cancels.
    (shift, residual), rest = _split(x, groups)
    present = None if window.padding == "valid" else window.unfolded(_ones_like(shift))
    _, taps = _split(window.unfolded(shift), groups, window.unfolded(residual), present)
    of_taps = ops.reshape(ops.sum(unit, axis=-2), (window.taps, unit.shape[-1]))
    dot = window.slide(rest, unit) + _at_each_position(taps, of_taps)
    channels = x.shape[-1] // groups
    square = window.sums(_join(rest * rest, groups)) + channels * _join(taps * taps, groups)
    return _quotient(dot, square, offset, epsilon)


def _product(x: Any, matrix: Any) -> Any:
    """The last axis of x times a matrix; sizes are asked for where they are unknown alone."""
    inner = x.shape[1:-1]
    if not inner or None in inner:
        return ops.matmul(x, matrix)
    flat = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), matrix)
    return ops.reshape(flat, (-1, *inner, matrix.shape[-1]))


def _at_each_position(x: Any, matrix: Any) -> Any:
    """The last axis of x, [B, ..., G·C], times a matrix [C, F]: each group, times F/G columns."""
    kernel = ops.reshape(matrix, (*(1,) * (len(x.shape) - 2), *matrix.shape))
    return ops.conv(x, kernel, padding="valid", data_format="channels_last")


def _ones_like(table: Any) -> Any:
    """Ones that broadcast to a table [B, ..., G]: constants, where all sizes but B are known."""
    if None not in table.shape[1:]:
        return ops.ones((1, *table.shape[1:]), dtype=table.dtype)
    # As an arithmetic of its numbers: runtimes for phones do not like to be asked for a shape.
    return ops.stop_gradient(table) * 0.0 + 1.0


def _quotient(dot: Any, square: Any, offset: Any, epsilon: float) -> Any:
    """(dot + offset) / √(square + ε), square [..., G] serving F/G entries of dot [..., F] each."""
    square = ops.maximum(square, 0.0)  # a fast convolution may round a sum of squares below 0
    if offset is not None:
        dot, square = dot + offset, square + 1.0
    factor = reciprocal_sqrt(square + epsilon)
    # What a rounding carries past 1 is at a maximum, where the gradient is zero in any case.
    return ops.clip(dot * _spread(factor, dot.shape[-1] // factor.shape[-1]), -1.0, 1.0)


def _unit_weights(kernel: Any, bias: Any, epsilon: float) -> tuple[Any, Any]:
    """Kernel and bias over the norm that each filter has with its bias."""
    square = ops.sum(kernel * kernel, axis=tuple(range(len(kernel.shape) - 1)))
    if bias is not None:
        square = square + bias * bias
    factor = reciprocal_sqrt(square + epsilon)
    return kernel * factor, None if bias is None else bias * factor


def _centred_kernel(kernel: Any) -> Any:
    """The kernel less the mean of each filter, taken out twice as the first one is rounded."""
    axes = tuple(range(len(kernel.shape) - 1))
    kernel = kernel - rounded(ops.stop_gradient(mean(kernel, axes)))
    return kernel - mean(kernel, axes)


def _split(x: Any, groups: int, low: Any = None, present: Any = None) -> tuple[Any, Any]:
    """Means over groups of the last axis, and x without them; where not `present`, x becomes 0.

    As in `moments` the mean has two parts: the first one is rounded, and carries no gradient; the
    second one is the mean of what it leaves.

    Args:
        x: A tensor [..., C].
        groups: Number G of groups of neighbouring channels.
        low: What x itself has lost by rounding, of its shape, or `None`.
        present: Ones and zeros of x's shape, what to count; `None` for all of it.

    Returns:
        The two parts of the means [..., G], and the rest [..., C].
    """
    size = x.shape[-1] // groups
    count = size if present is None else ops.maximum(_join(present, groups), 1.0)

    def average(values: Any) -> Any:
        return _join(values if present is None else values * present, groups) / count

    shift = rounded(ops.stop_gradient(average(x)))
    centred = x - _spread(shift, size)
    centred = centred if low is None else centred + low
    residual = average(centred)
    rest = centred - _spread(residual, size)
    return (shift, residual), rest if present is None else rest * present


def _join(x: Any, groups: int) -> Any:
    """Sums over groups of neighbouring channels, [..., C] to [..., G], at the rank of x."""
    size = x.shape[-1] // groups
    if size == 1:
        return x
    if groups == 1:
        return ops.sum(x, axis=-1, keepdims=True)
    return _at_each_position(x, _members(groups, size, x.dtype))


def _spread(table: Any, size: int) -> Any:
    """Repeats each entry of the last axis `size` times, [..., G] to [..., C]; or broadcasts to it.

    A single group stays [..., 1], which broadcasts.
    """
    groups = table.shape[-1]
    if size == 1 or groups == 1:
        return table
    return _at_each_position(table, ops.transpose(_members(groups, size, table.dtype)))


def _members(groups: int, size: int, dtype: Any) -> Any:
    """A matrix [C, G], 1 where the channel belongs to the group."""
    return ops.convert_to_tensor(np.repeat(np.eye(groups), size, axis=0), dtype=dtype)
