"""TensorFlow's versions of ops. The only TensorFlow below `export`."""

import tensorflow as tf


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
