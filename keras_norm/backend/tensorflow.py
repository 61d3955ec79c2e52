"""TensorFlow's versions of ops. The only TensorFlow below `export`."""

import functools
import math

import tensorflow as tf

from keras_norm.backend import blends, channelwise, rowwise

WORTHWHILE = 2**16
"""Number of elements from which on calling compiled kernels costs less than it saves."""

TYPICAL_BATCH = 16
"""What a batch of unknown size counts as: `fit` traces one graph for batches of all sizes."""

EAGER_SHAPES = 64
"""Number of shapes that eager calls compile for: with ever new ones they would do nothing else."""

NARROW = (tf.float16, tf.bfloat16)

_eager_shapes: set[tuple] = set()


def widened(x, dtype):
    """x in float32, and beside it x as it came, which kernels read and keep at half the size."""
    if x.dtype not in NARROW or dtype != "float32":
        return NotImplemented
    result = tf.cast(x, tf.float32)
    result._keras_norm_narrow = x
    return result


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
    """Moments and quotient by compiled kernels, where they are differentiated.

    Declines inference, whose graphs are exported, to runtimes without a compiler. Declines masks,
    replicas that share their moments, channels that are not last, sizes that are not known, GPUs,
    and eager calls once they have come with many shapes.
    """
    if synchronized or not _may_compile(x, mask, training):
        return NotImplemented
    x, over, last = _as_it_came(x), sorted(axes), len(x.shape) - 1
    joint = over == list(range(last))
    if over == [last]:
        find, small = functools.partial(rowwise.kernels, True), (*_sizes(x)[:-1], 1)
    elif joint or (over == list(range(1, last)) and group_axis in (None, last)):
        sharing = None if joint else x.shape[-1] if group_axis is None else groups
        find = functools.partial(channelwise.kernels, sharing)
        small = (1 if joint else -1, *(1,) * (last - 1), x.shape[-1])
    else:
        return NotImplemented
    table = _as_table(x, gamma, beta, rank_two=over == [last], joint=joint)
    if table is None:
        return NotImplemented
    found = find(float(epsilon), x.dtype, _eager_shape(x))
    if correct is None:
        y, *statistics = found.both(table, *_affine(gamma, beta, table))
        return tf.reshape(y, _sizes(x)), *_reshaped(statistics, small)
    statistics = found.statistics(tf.stop_gradient(table))
    constants = _reshaped(statistics, small)
    gamma, beta = correct(*constants, gamma, beta)
    y = found.normalize(table, *_affine(gamma, beta, table), *statistics)
    return tf.reshape(y, _sizes(x)), *constants


def root_and_quotient(x, axes, gamma, beta, epsilon, *, mask=None, training=None):
    """Root and quotient by compiled kernels, as `moments_and_quotient` and where it has them."""
    if not _may_compile(x, mask, training) or not isinstance(epsilon, float):
        return NotImplemented
    x = _as_it_came(x)
    if tuple(axes) != (len(x.shape) - 1,):
        return NotImplemented
    table = _as_table(x, gamma, beta, rank_two=True)
    if table is None:
        return NotImplemented
    found = rowwise.kernels(False, epsilon, x.dtype, _eager_shape(x))
    y, *_ = found.both(table, *_affine(gamma, beta, table))
    return tf.reshape(y, _sizes(x))


def mixture_and_quotient(
    x, axes, mix, moving, weights, gamma, beta, epsilon, *, mask=None, training=None
):
    """Moments of each sample and channel, and quotient, as `moments_and_quotient` and where."""
    last = len(x.shape) - 1
    if not _may_compile(x, mask, training) or list(axes) != list(range(1, last)):
        return NotImplemented
    x = _as_it_came(x)
    table = _as_table(x, gamma, beta)
    if table is None:
        return NotImplemented
    channels = x.shape[-1]
    found = channelwise.kernels(channels, float(epsilon), x.dtype, _eager_shape(x))
    statistics = found.statistics(tf.stop_gradient(table))
    small, flat = (-1, *(1,) * (last - 1), channels), (-1, 1, channels)

    def tables(shift, residual, variance, *given):
        parts = [tf.reshape(one, small) for one in (shift, residual, variance)]
        mixed = mix(*parts, moving, *given[2:])
        nearby, rest, spread = (tf.reshape(one, flat) for one in mixed)
        factor = given[0] / tf.sqrt(spread + epsilon)
        return factor, given[1] - ((nearby - shift) + rest) * factor

    arguments = [*_affine(gamma, beta, table), *weights]
    y = blends.quotient(table, tables, statistics, arguments, _eager_shape(x))
    return tf.reshape(y, _sizes(x)), *_reshaped(statistics, small)


def _may_compile(x, mask, training):
    """Whether the call is one that kernels are made for."""
    return (
        bool(training)
        and mask is None
        and x.dtype == tf.float32
        and not tf.config.list_physical_devices("GPU")
    )


def _as_it_came(x):
    """What `widened` made x of, or x."""
    return getattr(x, "_keras_norm_narrow", x)


def _as_table(x, gamma, beta, rank_two=False, joint=False):
    """x as a table [P, S, C] of known S and C, or `None` where kernels are not made for it.

    Args:
        x: A tensor, channels last.
        gamma: Factor, or `None`.
        beta: Offset, or `None`.
        rank_two: Whether rows alone are enough.
        joint: Whether all tables share their statistics.
    """
    batch, *space, channels = x.shape
    if not space and rank_two:
        batch, space = 1, [batch]
    if not space or channels is None or None in space:
        return None
    size = math.prod(space)
    number = size * channels * (TYPICAL_BATCH if batch is None else batch)
    if number < WORTHWHILE or size == 1:
        return None
    table = tf.reshape(x, (-1, size, channels))
    fit = all(_per_channel(weight, table, joint) for weight in (gamma, beta))
    return table if fit and _is_kept(_eager_shape(x)) else None  # last, since it may count x


def _eager_shape(x):
    """The shape of x in an eager call, `None` in a graph."""
    return tuple(x.shape) if tf.executing_eagerly() else None


def _is_kept(shape):
    """Whether kernels are compiled, or may be, for the shape of an eager call."""
    if shape is None or shape in _eager_shapes:
        return True
    if len(_eager_shapes) == EAGER_SHAPES:
        return False
    _eager_shapes.add(shape)
    return True


def _per_channel(weight, table, joint):
    """Whether a weight is one number per channel, of all samples or of each."""
    if weight is None:
        return True
    first, *space, channels = weight.shape
    own = first == 1 or (first == table.shape[0] and not joint)
    return own and channels == table.shape[-1] and all(size == 1 for size in space)


def _affine(gamma, beta, table):
    """gamma and beta as tables [P or 1, 1, C], the 1 a size that graphs know."""
    channels = table.shape[-1]

    def tabled(weight):
        flat = tf.reshape(weight, (weight.shape[0] or -1, 1, channels))
        if weight.shape[0] is not None:
            return flat
        return tf.broadcast_to(flat, (tf.shape(table)[0], 1, channels))

    gamma = tf.ones((1, 1, channels)) if gamma is None else gamma
    beta = tf.zeros((1, 1, channels)) if beta is None else beta
    return [tabled(weight) for weight in (gamma, beta)]


def _sizes(x):
    """x's sizes as `reshape` takes them; only that of the batch may be unknown."""
    return [-1 if size is None else size for size in x.shape]


def _reshaped(statistics, shape):
    """Statistics in another shape; the kernels give them no gradients."""
    return [tf.reshape(one, shape) for one in statistics]
