"""Whitening: covariance of groups of channels, its inverse square root, and applying a matrix.

The inverse square root is an iteration of matrix products. An eigendecomposition would do for
values, but XLA's is good to six digits only, its gradient divides by differences of eigenvalues,
and no phone has one. Products differentiate to any order, whatever the eigenvalues, and run
everywhere.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops
from keras.backend import standardize_dtype

from keras_norm.backend import overridable
from keras_norm.ops.axes import others
from keras_norm.ops.moments import Moments, count, moments, replica_sum
from keras_norm.ops.normalize import affine

WIDTH = 128
"""Channels that are multiplied by one matrix in inference, unless a group has more."""


@overridable
def widely(matrices: Any, function: Callable[[Any], Any]) -> Any:
    """function(matrices), in a wider dtype where the backend has one for small matrices."""
    return function(matrices)


def batch_whitening(
    x: Any,
    channel: int,
    groups: int,
    epsilon: float,
    inverse_root: Callable[[Any], Any],
    mask: Any = None,
    synchronized: bool = False,
) -> tuple[Any, Any, Any]:
    """Mean of the batch, the matrices that whiten it, and the centred batch in groups.

    Args:
        x: A tensor of float32 or wider.
        channel: The axis of channels.
        groups: Number of groups of neighbouring channels.
        epsilon: Added to the covariance's diagonal.
        inverse_root: Function from covariances [G, D, D] to their inverse square roots.
        mask: Booleans that broadcast to x, one per position, or `None`.
        synchronized: Whether the statistics run over all replicas of a `tf.distribute` strategy.

    Returns:
        The mean, which broadcasts to x; matrices [G, D, D]; the centred x as [G, positions, D].
        Over an empty set the mean is 0 and the matrices are identities.
    """
    over = others((channel,), len(x.shape))
    mean = moments(x, over, mask=mask, synchronized=synchronized)
    centred = centre(x, mean)
    grouped = counted = group(centred, channel, groups)
    if mask is not None:
        # A mask selects instead of multiplying, so that a NaN that it hides stays hidden from the
        # result; `visible` keeps it from the gradients.
        counted = group(ops.where(mask, centred, ops.zeros_like(centred)), channel, groups)
    (products,) = _summed(counted, synchronized)
    number = ops.reshape(count(x, over, mask, synchronized), ())
    covariances = products / ops.maximum(number, 1.0)
    matrices = widely(_regular(covariances, number, epsilon), inverse_root)
    return mean.mean, matrices, grouped


def centre(x: Any, mean: Moments) -> Any:
    """x - mean, the mean taken off in its two parts."""
    centred = x - mean.shift
    return centred if mean.residual is None else centred - mean.residual


def _summed(grouped: Any, synchronized: bool) -> tuple[Any, ...]:
    products = ops.matmul(ops.transpose(grouped, (0, 2, 1)), grouped)
    return replica_sum(products) if synchronized else (products,)


def _regular(covariances: Any, number: Any, epsilon: float) -> Any:
    """Covariances plus ε, certainly positive; identities where nothing was counted.

    Rounding can leave a covariance of fewer samples than channels with an eigenvalue below zero.
    Raising the variances by some units in their last place outweighs that, entry by entry: channels
    of very different sizes do not disturb each other.
    """
    size = covariances.shape[-1]
    identity = ops.eye(size, dtype=covariances.dtype)
    unit = float(np.finfo(standardize_dtype(covariances.dtype)).eps)
    raised = covariances * (1.0 + 2.0 * math.sqrt(size) * unit * identity) + epsilon * identity
    return ops.where(number > 0, raised, ops.zeros_like(raised) + identity)


def newton_schulz(covariances: Any, factors: Sequence[float]) -> Any:
    """Inverse square roots by the iteration P ← ½(3P - P³Σ_N), Σ_N = Σ / tr Σ.

    It runs on the pair (Y, P) with Y = Σ_N P, in which rounding errors do not grow; in exact
    arithmetic P is that of the single iteration. A factor α above 1 lets it start faster: it
    replaces (Y, P) by (αY, αP) in that step.

    Args:
        covariances: Positive definite matrices [G, D, D].
        factors: α of each iteration; all 1 is the iteration as published.

    Returns:
        Matrices [G, D, D], symmetric; Σ^(-1/2) once the iteration has converged.
    """
    identity = ops.eye(covariances.shape[-1], dtype=covariances.dtype)
    trace = ops.sum(covariances * identity, axis=(-2, -1), keepdims=True)
    y, p = covariances / trace, ops.zeros_like(covariances) + identity
    for index, factor in enumerate(factors):
        step = 0.5 * factor * (3.0 * identity - factor * factor * ops.matmul(p, y))
        p = ops.matmul(step, p) if index else step
        if index < len(factors) - 1:
            y = ops.matmul(y, step)
    return p / ops.sqrt(trace)


def inverse_sqrt(covariances: Any) -> Any:
    """Inverse square roots Σ^(-1/2) = U Λ^(-1/2) Uᵀ, to the precision of the dtype.

    Directions whose variance is below about 10² units in the last place of the trace (1e-14 of it
    in float64) are whitened in part.

    Args:
        covariances: Positive definite matrices [G, D, D].

    Returns:
        Symmetric matrices [G, D, D].
    """
    unit = float(np.finfo(standardize_dtype(covariances.dtype)).eps)
    return newton_schulz(covariances, convergent_factors(8.0 * math.sqrt(unit)))


def convergent_factors(low: float, most: float = 4 / 3) -> list[float]:
    """Factors with which Newton–Schulz takes all of [low, 1] to 1.

    An iteration maps x, the square root of an eigenvalue, to ½αx(3 - α²x²). α = √(3/(1 + l + l²))
    raises a lower bound l the fastest (Chen and Chow, 2014). Beyond 4/3 the map has no attracting
    fixed point: eigenvalues on their way would be thrown about, and derivatives with them.

    Args:
        low: Lower bound of the square roots of the eigenvalues.
        most: Largest factor.

    Returns:
        One factor per iteration.
    """
    factors: list[float] = []
    while 1.0 - low > 1e-9:
        factor = min(math.sqrt(3.0 / (1.0 + low + low * low)), most)
        ends = [0.5 * factor * x * (3.0 - factor * factor * x * x) for x in (low, 1.0)]
        low = min(ends)
        factors.append(factor)
    return [*factors, 1.0]


def apply_grouped(grouped: Any, matrices: Any, like: Any, channel: int, gamma: Any, beta: Any):
    """Each group of channels times its matrix, then gamma and beta, for training.

    Args:
        grouped: What `group` made of the centred input, [G, positions, D].
        matrices: Matrices [G, D, D]; row vectors are multiplied from the left.
        like: The input, for its shape.
        channel: The axis of channels.
        gamma: Factor that broadcasts to the input, or `None`.
        beta: Offset that broadcasts to the input, or `None`.

    Returns:
        A tensor of the input's shape.
    """
    if _per_channel(gamma, channel):
        groups, size, _ = matrices.shape
        matrices, gamma = matrices * ops.reshape(gamma, (groups, 1, size)), None
    return affine(ungroup(ops.matmul(grouped, matrices), like, channel), gamma, beta)


def apply_matrices(x: Any, mean: Any, matrices: Any, channel: int, gamma: Any, beta: Any) -> Any:
    """Each group of channels of x - mean times its matrix, then gamma and beta, for inference.

    That is a grouped convolution of size 1, written as one for each block of channels. A block
    joins groups in a block-diagonal matrix of up to `WIDTH` channels, which is faster than many
    small products; one matrix for all of a thousand channels would be slower, and large.

    Args:
        x: The input.
        mean: A mean that broadcasts to x.
        matrices: Matrices [G, D, D]; row vectors are multiplied from the left.
        channel: The axis of channels.
        gamma: Factor that broadcasts to x, or `None`.
        beta: Offset that broadcasts to x, or `None`.

    Returns:
        A tensor of x's shape.
    """
    groups, size, _ = matrices.shape
    if _per_channel(gamma, channel):
        matrices, gamma = matrices * ops.reshape(gamma, (groups, 1, size)), None
    joined = max(
        k for k in range(1, groups + 1) if groups % k == 0 and k * size <= max(WIDTH, size)
    )
    last, y = len(x.shape) - 1, x - mean
    y = y if channel == last else ops.moveaxis(y, channel, last)
    if joined == groups:
        y = _multiply(y, block_diagonal(matrices))
    else:
        blocks = groups // joined
        pairs = zip(ops.split(y, blocks, -1), ops.split(matrices, blocks, 0), strict=True)
        y = ops.concatenate([_multiply(part, block_diagonal(own)) for part, own in pairs], -1)
    y = y if channel == last else ops.moveaxis(y, last, channel)
    return affine(y, gamma, beta)


def _multiply(x: Any, matrix: Any) -> Any:
    """Products along the last axis, as a convolution of size 1 where x has one to three of space.

    `ops.matmul` reshapes x, for which it has to ask for its sizes in each call.
    """
    space = len(x.shape) - 2
    if not 1 <= space <= 3:
        return ops.matmul(x, matrix)
    kernel = ops.reshape(matrix, (*(1,) * space, *matrix.shape))
    return ops.conv(x, kernel, padding="valid", data_format="channels_last")


def block_diagonal(matrices: Any) -> Any:
    """Matrices [G, D, D] as the blocks of one matrix [C, C]."""
    groups, size, _ = matrices.shape
    rows = ops.reshape(matrices, (groups * size, size))
    if groups == 1:
        return rows
    blocks = np.kron(np.eye(groups), np.ones((size, size)))
    blocks = ops.convert_to_tensor(blocks, dtype=standardize_dtype(matrices.dtype))
    return ops.concatenate([rows] * groups, axis=1) * blocks


def _per_channel(gamma: Any, channel: int) -> bool:
    """Whether gamma is one number per channel, which a matrix can absorb."""
    return gamma is not None and all(n == 1 for a, n in enumerate(gamma.shape) if a != channel)


def group(x: Any, channel: int, groups: int) -> Any:
    """A tensor [..., C, ...] as [G, positions, D], channels in groups of neighbours."""
    last, channels = len(x.shape) - 1, x.shape[channel]
    x = x if channel == last else ops.moveaxis(x, channel, last)
    if groups == 1:
        return ops.reshape(x, (1, -1, channels))
    return ops.transpose(ops.reshape(x, (-1, groups, channels // groups)), (1, 0, 2))


def ungroup(grouped: Any, like: Any, channel: int) -> Any:
    """What `group` did, undone: a tensor of the shape of `like`."""
    last = len(like.shape) - 1
    rows = grouped if grouped.shape[0] == 1 else ops.transpose(grouped, (1, 0, 2))
    shape = ops.shape(like)
    moved = (*shape[:channel], *shape[channel + 1 :], shape[channel])
    x = ops.reshape(rows, moved)
    return x if channel == last else ops.moveaxis(x, last, channel)
