"""Mean, variance and mean square: masked, grouped, merged, blended; in the dtype of their input.

Every statistic keeps reduced axes at size 1, so that it broadcasts to the input. Sizes of space are
reduced one axis at a time: with TensorFlow on a CPU that is as fast as reducing them together, and
sums of 10⁵ numbers keep three more digits.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from keras import ops
from keras.backend import standardize_dtype

from keras_norm.backend import overridable

_residuals = contextvars.ContextVar("keras_norm_residuals", default=True)


@contextlib.contextmanager
def without_residuals() -> Iterator[None]:
    """Within it `moments` and `merge` leave residuals out, for arithmetic that is coarser anyway.

    Integers of 8 or 16 bits cannot hold a residual, which is rounding error and no more: its range
    comes out as 0, and kernels divide by that.
    """
    token = _residuals.set(False)
    try:
        yield
    finally:
        _residuals.reset(token)


class Moments(NamedTuple):
    """Mean and variance, the mean in two parts.

    float32 holds a mean of 1e6 to 0.06: too coarse to centre data of standard deviation 1 with. As
    `(x - shift) - residual` the same data is centred to 1e-7.

    Attributes:
        shift: A constant near the mean; no gradient runs through it.
        residual: What is left of the mean, or `None` where `shift` is the mean itself.
        variance: Mean square distance from the mean; `None` where the mean alone is wanted.
    """

    shift: Any
    residual: Any
    variance: Any

    @property
    def mean(self) -> Any:
        """`shift + residual`, as one number."""
        return self.shift if self.residual is None else self.shift + self.residual


@overridable
def replica_sum(*tensors: Any) -> tuple[Any, ...]:
    """Sums each tensor over all replicas; the portable definition knows one replica."""
    return tensors


@overridable
def spread(means: Any, size: int) -> Any:
    """Repeats the last axis, of size 1, `size` times; a product, which every runtime has."""
    return means * ops.ones((*(1,) * (len(means.shape) - 1), size), dtype=means.dtype)


@overridable
def rounded(x: Any) -> Any:
    """x, rounded to its dtype wherever it is used; so it is by definition."""
    return x


def mean(x: Any, axes: Sequence[int]) -> Any:
    """Mean over `axes`, kept at size 1. An empty batch has mean 0, and so has empty space.

    Args:
        x: A floating tensor.
        axes: Non-negative axes.

    Returns:
        A tensor of x's rank.
    """
    for axis in axes:
        if x.shape[axis] == 0 or (axis == 0 and x.shape[0] is None):
            size = ops.cast(ops.maximum(ops.shape(x)[axis], 1), x.dtype)
            x = ops.sum(x, axis=axis, keepdims=True) / size
        else:
            x = ops.mean(x, axis=axis, keepdims=True)
    return x


def over_groups(
    table: Any, axis: int | None, groups: int, reduce: Callable[..., Any] = ops.mean
) -> Any:
    """Averages a table [..., C, ...] over groups of neighbouring channels; the shape stays.

    Only the small table is reshaped, to rank 3 or that of the input, never the input itself.

    Args:
        table: A tensor of the input's rank.
        axis: Axis of the channels, or `None` where there are no groups.
        groups: Number of groups.
        reduce: What joins the channels of a group, in place of their average.

    Returns:
        A tensor of the table's shape.
    """
    if axis is None or table.shape[axis] == 1:
        return table
    shape, rank = tuple(table.shape), len(table.shape)
    channels = shape[axis]
    if groups == channels:
        return table
    size = channels // groups
    grouped = (-1, *(1,) * (rank - 3), groups, size) if rank > 2 else (-1, size)
    means = reduce(ops.reshape(table, grouped), axis=-1, keepdims=True)
    return ops.reshape(spread(means, size), (-1, *shape[1:]))


def _over_runs(table: Any, longest: int) -> Any:
    """Averages a table [B, ...] over runs of neighbouring samples; the shape stays.

    The batch is cut into as few runs of at most `longest` samples as it can be, the longer ones
    first, none longer than another by more than one sample. Runs are summed as segments: a product
    with a matrix of zeros and ones would carry a NaN into every run.
    """
    size = ops.shape(table)[0]
    number = _at_least_one((size + longest - 1) // longest)
    base, longer = size // number, size % number
    index = ops.arange(size, dtype="int32")
    # In the first `longer` runs, of base + 1 samples, the left side is the larger one.
    run = ops.maximum(index // (base + 1), (index - longer) // _at_least_one(base))
    samples = base + ops.cast(ops.arange(number, dtype="int32") < longer, "int32")
    samples = ops.reshape(ops.cast(samples, table.dtype), (-1, *(1,) * (len(table.shape) - 1)))
    return ops.take(ops.segment_sum(table, run, number) / samples, run, axis=0)


def _at_least_one(number: Any) -> Any:
    """max(number, 1); a Python integer stays one, as the sizes of compiled graphs must."""
    return max(number, 1) if isinstance(number, int) else ops.maximum(number, 1)


def averager(
    x: Any,
    axes: Sequence[int],
    weights: Any = None,
    group_axis: int | None = None,
    groups: int = 1,
    synchronized: bool = False,
    run: int | None = None,
) -> tuple[Callable[..., list], Any]:
    """The averaging that all moments of `x` share.

    Args:
        x: The tensor to average.
        axes: Axes that are reduced.
        weights: Booleans (a mask) or non-negative floats that broadcast to x, or `None`.
        group_axis: Axis whose neighbouring entries are averaged in groups, or `None`.
        groups: Number of groups along `group_axis`.
        synchronized: Whether to average over all replicas.
        run: Longest run of neighbouring samples that are averaged, or `None`.

    Returns:
        A function from tensors of x's shape to their averages, and the weight that each average
        stands on (`None` where it cannot be zero).
    """

    def local(values: Any) -> Any:
        table = mean(values, axes)
        if run is not None:
            return _over_runs(table, run)
        return over_groups(table, group_axis, groups)

    if weights is None and not synchronized:
        return lambda *tensors: [local(values) for values in tensors], None

    size = _size(x, axes) if synchronized else 1.0
    share = ops.ones((1,) * len(x.shape), dtype=x.dtype)
    share = share if weights is None else local(ops.cast(weights, x.dtype))
    (total,) = replica_sum(share * size) if synchronized else (share,)
    divisor = ops.where(total > 0, total, ops.ones_like(total))

    def average(*tensors: Any) -> list:
        # A mask selects instead of multiplying, so that a NaN that it hides stays hidden from the
        # result; `visible` keeps it from the gradients.
        if weights is not None and standardize_dtype(weights.dtype) == "bool":
            tensors = tuple(ops.where(weights, values, ops.zeros_like(x)) for values in tensors)
        elif weights is not None:
            tensors = tuple(values * weights for values in tensors)
        tables = [local(values) * size for values in tensors]
        tables = replica_sum(*tables) if synchronized else tables
        return [table / divisor for table in tables]

    return average, total


def _size(x: Any, axes: Sequence[int]) -> Any:
    """Number of elements that a reduction over `axes` joins, as a float (it may exceed int32)."""
    shape = ops.shape(x)
    sizes = [shape[axis] for axis in axes]
    known = math.prod(size for size in sizes if isinstance(size, int))
    number = ops.convert_to_tensor(float(known), dtype=x.dtype)
    for size in sizes:
        number = number if isinstance(size, int) else number * ops.cast(size, x.dtype)
    return number


def count(x: Any, axes: Sequence[int], mask: Any = None, synchronized: bool = False) -> Any:
    """Number of elements that each statistic over `axes` stands on.

    Args:
        x: The input.
        axes: Axes that are reduced.
        mask: Booleans that broadcast to x, or `None`.
        synchronized: Whether to count over all replicas.

    Returns:
        A scalar, or with a mask a tensor of x's rank that broadcasts to it.
    """
    number = _size(x, axes)
    if mask is not None:
        number = number * mean(ops.cast(mask, x.dtype), axes)
    return replica_sum(number)[0] if synchronized else number


def moments(
    x: Any,
    axes: Sequence[int],
    *,
    mask: Any = None,
    group_axis: int | None = None,
    groups: int = 1,
    synchronized: bool = False,
) -> Moments:
    """Mean and biased variance over `axes` and, within each group, over `group_axis`.

    s = mean(x), r = mean(x - s), variance = mean((x - s)²) - r². In exact arithmetic r is 0; in
    floating point it is the rounding of s, and taking it out makes the two-pass algorithm accurate
    for any mean (Chan, Golub, LeVeque 1983). r² is far below the variance, so nothing cancels.

    Args:
        x: A tensor of float32 or wider.
        axes: Axes that are reduced.
        mask: Booleans that broadcast to x; only elements with `True` count.
        group_axis: Axis whose neighbouring entries share statistics in groups, or `None`.
        groups: Number of groups along `group_axis`.
        synchronized: Whether the statistics run over all replicas of a `tf.distribute` strategy.

    Returns:
        Moments that broadcast to x. Over an empty set they are mean 0 and variance 1. Within
        `without_residuals` r is `None`.
    """
    average, total = averager(x, axes, mask, group_axis, groups, synchronized)
    shift = rounded(ops.stop_gradient(average(x)[0]))
    return Moments(shift, *about(x - shift, average, total))


def about(centred: Any, average: Callable[..., list], total: Any) -> tuple[Any, Any]:
    """Residual and variance of what is centred but for a rounding, by what `averager` returned."""
    residual = None
    if _residuals.get():
        residual, square = average(centred, centred * centred)
        variance = ops.maximum(square - residual * residual, 0.0)
    else:
        (variance,) = average(centred * centred)
    if total is not None:
        variance = ops.where(total > 0, variance, ops.ones_like(variance))
    return residual, variance


def location(
    x: Any, axes: Sequence[int], *, mask: Any = None, synchronized: bool = False
) -> Moments:
    """The mean alone, as exact as `moments` has it.

    Args:
        x: A tensor of float32 or wider.
        axes: Axes that are reduced.
        mask: Booleans that broadcast to x; only elements with `True` count.
        synchronized: Whether the mean runs over all replicas of a `tf.distribute` strategy.

    Returns:
        Moments that broadcast to x, the variance `None`. The mean of an empty set is 0.
    """
    average, _ = averager(x, axes, mask, synchronized=synchronized)
    shift = rounded(ops.stop_gradient(average(x)[0]))
    (residual,) = average(x - shift)
    return Moments(shift, residual, None)


def mean_square(x: Any, axes: Sequence[int], mask: Any = None) -> Any:
    """Mean of x² over `axes`; 1 over an empty set.

    Args:
        x: A tensor of float32 or wider.
        axes: Axes that are reduced.
        mask: Booleans that broadcast to x; only elements with `True` count.

    Returns:
        A tensor of x's rank that broadcasts to it.
    """
    average, total = averager(x, axes, mask)
    (square,) = average(x * x)
    return square if total is None else ops.where(total > 0, square, ops.ones_like(square))


@overridable
def mean_and_deviation(
    x: Any,
    axes: Sequence[int],
    epsilon: float,
    *,
    mask: Any = None,
    group_axis: int | None = None,
    groups: int = 1,
) -> tuple[Any, Any]:
    """The mean and √(variance + ε), for what is no plain normalization.

    Args:
        x: A tensor of float32 or wider.
        axes: Axes that are reduced.
        epsilon: Added to the variance.
        mask: Booleans that broadcast to x; only elements with `True` count.
        group_axis: Axis whose neighbouring entries share statistics in groups, or `None`.
        groups: Number of groups along `group_axis`.

    Returns:
        Two tensors that broadcast to x.
    """
    found = moments(x, axes, mask=mask, group_axis=group_axis, groups=groups)
    return found.mean, ops.sqrt(found.variance + epsilon)


def merge(
    parts: Moments,
    axes: Sequence[int],
    *,
    weights: Any = None,
    synchronized: bool = False,
    run: int | None = None,
) -> Moments:
    """Moments of unions of slices from the slices' own (the law of total variance).

    Args:
        parts: Moments of slices of equal size, each a tensor with one entry per slice.
        axes: Axes of that table to join.
        weights: Share of each slice that counts, where slices are masked.
        synchronized: Whether to join the slices of all replicas.
        run: Longest run of neighbouring samples to join, or `None`. The batch is cut into as few
            runs as it can be, of sizes that differ by one at most.

    Returns:
        Moments with `axes` at size 1; of runs, those of its run for each sample. Over an empty set
        they are mean 0 and variance 1.
    """
    average, total = averager(parts.variance, axes, weights, synchronized=synchronized, run=run)
    shift = rounded(ops.stop_gradient(average(parts.shift)[0]))
    distance = parts.shift - shift
    residual = None
    if parts.residual is not None:
        distance = distance + parts.residual
        (residual,) = average(distance)
    between = distance if residual is None else distance - residual
    (variance,) = average(parts.variance + between * between)
    if total is not None:
        variance = ops.where(total > 0, variance, ops.ones_like(variance))
    return Moments(shift, residual, variance)


def blend(parts: Sequence[Moments], mean_shares: Any, variance_shares: Any) -> Moments:
    """Σ share · mean and Σ share · variance over several moments of the same input.

    Args:
        parts: Moments that broadcast against each other.
        mean_shares: One share per part, with sum 1.
        variance_shares: Likewise for the variance.

    Returns:
        The blended moments, shifted as the first part is.
    """
    shift, residual, variance = parts[0].shift, 0.0, 0.0
    for index, part in enumerate(parts):
        distance = part.shift - shift
        distance = distance if part.residual is None else distance + part.residual
        residual = residual + mean_shares[index] * distance
        variance = variance + variance_shares[index] * part.variance
    return Moments(shift, residual, variance)
