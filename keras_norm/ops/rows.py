"""A form of an op for files: short rows, without what float32 leaves of their mean.

To take out that residual costs two of the nine passes over x that a layer norm makes. A mean of few
numbers is off by a rounding or two of its own size; what that leaves in the result is that much
over the row's standard deviation.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from keras_norm.ops.moments import moments, without_residuals
from keras_norm.ops.normalize import normalize

LONGEST = 4096
"""The most numbers of a row: kernels that add up one by one lose digits with every further one."""


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
    """As `ops.standardize` needs it; declines all but short rows, and what belongs to training."""
    last = len(x.shape) - 1
    short = tuple(axes) == (last,) and x.shape[last] is not None and x.shape[last] <= LONGEST
    if not short or synchronized or correct is not None:
        return NotImplemented
    with without_residuals():
        statistics = moments(x, axes, **how)
    return normalize(x, statistics, gamma, beta, epsilon), *statistics


FORMS: Mapping[str, Callable] = MappingProxyType({"moments_and_quotient": moments_and_quotient})
"""The form by the name of its op, as `backend.answered_by` takes it."""
