"""TensorFlow's versions of ops. The only TensorFlow below `export`."""

import math

import tensorflow as tf

from keras_norm.backend import columns

WORTHWHILE = 2**14
"""Number of elements from which on calling compiled kernels costs less than it saves."""


def reciprocal_sqrt(x):
    """1/√x whose gradient is formed without x^(-3/2).

    XLA computes the gradient of `rsqrt` as rsqrt(x)³, which leaves float32 at a variance of 1e34
    (inputs of 1e17) and turns the gradient into zero.
    """
    return 1.0 / tf.sqrt(x)


def rounded(x):
    """x as its dtype rounds it, also where a compiler joins its last product with a difference.

    Without it XLA forms y - sum · (1/n) as one fused multiply-add in some kernels and not in
    others, so that they centre by means that differ by a rounding: 0.03 at a mean of 1e6.
    """
    return tf.maximum(x, x.dtype.min)


def spread(means, size):
    """Repeats the last axis, of size 1, `size` times.

    TensorFlow's graph optimizer divides by zero, and ends the process, where it simplifies a
    product with ones in a graph for an empty batch.
    """
    return tf.broadcast_to(means, tf.concat([tf.shape(means)[:-1], [size]], axis=0))


def replica_sum(*tensors):
    """Sums each tensor over the replicas of the running `tf.distribute` strategy."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return NotImplemented
    return tuple(replica.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors)))


def widely(matrices, function):
    """function(matrices) in float64: small matrices cost little, their condition may be large."""
    return tf.cast(function(tf.cast(matrices, tf.float64)), matrices.dtype)


def write_rows(variable, start, rows):
    """Assigns some rows in place: no other row is read or written.

    So it does not matter in which order a graph runs the steps of a loop. Where the variable has
    replicas, each writes its own, and they need not meet, which they could not do in a loop.
    """
    tf.raw_ops.ResourceScatterUpdate(
        resource=variable.value.handle,
        indices=start + tf.range(tf.shape(rows)[0]),
        updates=rows,
    )


def moments_and_quotient(
    x,
    axes,
    gamma,
    beta,
    epsilon,
    *,
    mask=None,
    group_axis=None,
    groups=1,
    synchronized=False,
    correct=None,
    training=None,
):
    """Moments and quotient by the kernels of `columns`, in graphs that are differentiated.

    Declines where there is no such graph: an eager call would compile for every new shape, and the
    graphs of inference are exported, to runtimes without a compiler. Declines masks, replicas that
    share their moments, axes other than all but the channels, sizes that are not known, and GPUs.
    """
    if not training or tf.executing_eagerly() or mask is not None or synchronized:
        return NotImplemented
    if x.dtype != tf.float32 or tf.config.list_physical_devices("GPU"):
        return NotImplemented
    rank, joint = len(x.shape), 0 in axes
    size = _rows(x, axes, group_axis, joint)
    weights = [_per_channel(weight, x, joint) for weight in (gamma, beta)]
    if size is None or not all(weights):
        return NotImplemented
    channels = x.shape[-1]
    kernels = columns.kernels(
        None if joint else groups if group_axis is not None else channels, float(epsilon)
    )
    table = tf.reshape(x, (-1, size, channels))
    statistics = kernels.statistics(tf.stop_gradient(table))
    small = (1 if joint else -1, *(1,) * (rank - 2), channels)
    constants = [tf.stop_gradient(tf.reshape(one, small)) for one in statistics]
    if correct is not None:
        gamma, beta = correct(*constants, gamma, beta)
    gamma = tf.ones((1, 1, channels)) if gamma is None else gamma
    beta = tf.zeros((1, 1, channels)) if beta is None else beta
    gamma, beta = (tf.reshape(one, (one.shape[0] or -1, 1, channels)) for one in (gamma, beta))
    y = kernels.normalize(table, gamma, beta, *statistics)
    return tf.reshape(y, tf.shape(x)), *constants


def _rows(x, axes, group_axis, joint):
    """Number of rows of each table [P, S, C] that x is viewed as, or `None` for no such view."""
    rank, sizes = len(x.shape), x.shape[1:]
    over = sorted(axes)
    if over not in (list(range(rank - 1)), list(range(1, rank - 1))) or None in sizes:
        return None
    if group_axis not in (None, rank - 1) or rank < 3:
        return None
    rows, batch = math.prod(sizes[:-1]), x.shape[0]
    worthwhile = rows * sizes[-1] * (batch or 1) >= WORTHWHILE
    return rows if worthwhile and rows > 1 else None


def _per_channel(weight, x, joint):
    """Whether a weight is one number per channel, of all samples or of each."""
    if weight is None:
        return True
    first, *space, channels = weight.shape
    own = first == 1 or ((not joint or first is not None) and first == x.shape[0])
    return own and channels == x.shape[-1] and all(size == 1 for size in space)
