"""Forms of ops that stay within float16, for runtimes that compute in it: GPUs of phones.

A float16 ends at 65504 and has its full precision down to 6e-5, so that the square of 300 is
infinite and the square of 0.005 is rough. Every statistic here is that of x / s, s being the largest
magnitude of what the statistic runs over: no sum of magnitudes or squares exceeds the number of its
terms. ε stays in the domain of x: it becomes ε / s², and s is √ε at least. In exact arithmetic these
are the definitions.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from keras import ops

from keras_norm.backend import OVERRIDABLE
from keras_norm.ops.moments import Moments, over_groups

SMALLEST = 2.0**-14
"""The smallest float16 of full precision. GPUs may take smaller numbers for 0."""


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
) -> Any:
    """As `ops.moments_and_quotient`; declines what belongs to training."""
    if synchronized or correct is not None:
        return NotImplemented
    how = {"mask": mask, "group_axis": group_axis, "groups": groups}
    size = _size(x, axes, epsilon, **how)
    y, *parts = _definition("moments_and_quotient")(
        x / size, axes, gamma, beta, _squared(epsilon, size), **how
    )
    return y, *_restored(parts, size)


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
    """As `ops.mixture_and_quotient`; s is that of a whole sample, as parts of it are mixed."""
    size = _size(x, range(1, len(x.shape)), epsilon, mask=mask)
    if moving is not None:
        mean = Moments(*moving).mean
        # The square of a deviation may be infinite, and so is no constant of the graph.
        deviation = ops.sqrt(moving[2]) / size
        moving = Moments(mean / size, None, deviation * deviation)
    y, *parts = _definition("mixture_and_quotient")(
        x / size, axes, mix, moving, weights, gamma, beta, _squared(epsilon, size), mask=mask
    )
    return y, *_restored(parts, size)


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
    """As `ops.root_and_quotient`."""
    size = _size(x, axes, epsilon, mask=mask)
    return _definition("root_and_quotient")(
        x / size, axes, gamma, beta, _squared(epsilon, size), mask=mask
    )


def mean_and_deviation(
    x: Any,
    axes: Sequence[int],
    epsilon: float,
    *,
    mask: Any = None,
    group_axis: int | None = None,
    groups: int = 1,
) -> tuple[Any, Any]:
    """As `ops.mean_and_deviation`."""
    how = {"mask": mask, "group_axis": group_axis, "groups": groups}
    size = _size(x, axes, epsilon, **how)
    mean, deviation = _definition("mean_and_deviation")(
        x / size, axes, _squared(epsilon, size), **how
    )
    return mean * size, deviation * size


def relative_length(
    x: Any, axes: Sequence[int], channels: Sequence[int], epsilon: float, mask: Any = None
) -> Any:
    """As `ops.relative_length`; s is that of a whole sample, whose channels are compared."""
    size = _size(x, range(1, len(x.shape)), SMALLEST**2, mask=mask)
    return _definition("relative_length")(
        x / size, axes, channels, epsilon / size, mask
    )


FORMS: Mapping[str, Callable] = MappingProxyType(
    {
        form.__name__: form
        for form in (
            moments_and_quotient,
            mixture_and_quotient,
            root_and_quotient,
            mean_and_deviation,
            relative_length,
        )
    }
)
"""The forms by the names of their ops, as `backend.answered_by` takes them."""


def _definition(name: str) -> Any:
    op: Any = OVERRIDABLE[name]
    return op.portable


def _size(
    x: Any,
    axes: Sequence[int],
    epsilon: Any,
    *,
    mask: Any = None,
    group_axis: int | None = None,
    groups: int = 1,
) -> Any:
    """The largest |x| over `axes` and, within each group, over `group_axis`; √ε at least."""
    size = ops.abs(x)
    size = size if mask is None else ops.where(mask, size, ops.zeros_like(size))
    for each in axes:
        size = ops.max(size, axis=each, keepdims=True)
    size = over_groups(size, group_axis, groups, ops.max)
    return ops.maximum(size, _root(epsilon))


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


def _squared(epsilon: Any, size: Any) -> Any:
    """ε / s², as a square of what does not overflow."""
    share = _root(epsilon) / size
    return share * share


def _restored(parts: Sequence[Any], size: Any) -> tuple:
    """Moments of x from those of x / s. Nothing of it enters a graph that does not use them."""
    shift, residual, variance = parts
    return shift * size, residual * size, variance * size * size
