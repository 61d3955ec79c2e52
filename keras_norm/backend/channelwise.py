"""TensorFlow kernels of norms whose statistics run over the rows of tables [P, S, C], C last.

Each kernel is compiled by XLA, alone or with what surrounds it. What makes them fast on a CPU:

- XLA reduces a tensor that lies in memory at the speed of memory, but an expression such as
  (x - s)² several times slower: it forms one output after the other. So the S rows are cut into
  slabs, and the expressions of all slabs are added up elementwise, which vectorizes; what is left
  to reduce is one slab.
- Σ(x - s) and Σ(x - s)² need one pass between them where s is known beforehand. s is the mean over
  the first sixteenth of the rows, rounded up. (s - mean)² is at most 16 times the variance, so that
  Σ(x - s)²/n - (Σ(x - s)/n)² loses four bits at the very most, for any mean of the data (Chan,
  Golub, LeVeque 1983).
- The gradient is written by hand and keeps x and small tables, x in the dtype that it came in: what
  comes as float16 or bfloat16 is read so, and is float32 within the programs alone.
"""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

SLABS = 8
SHARE = 16  # The shift is the mean over this part of the rows, rounded up.
LANES = 8  # Numbers of float32 that a processor computes at once.


class Kernels(NamedTuple):
    """Functions of x that share formulas.

    Attributes:
        statistics: Of x; shift, residual and variance, whose gradients are not asked for.
        normalize: Of x, gamma, beta and the statistics; y.
        both: Of x, gamma and beta; y and the statistics. One program to launch, not two, which
            small tensors feel.
    """

    statistics: Any
    normalize: Any
    both: Any


def slabs_of(rows: int) -> int:
    """The largest number of slabs, up to `SLABS`, that divides the rows."""
    return next(k for k in range(min(SLABS, rows), 0, -1) if rows % k == 0)


@functools.cache
def kernels(groups: int | None, epsilon: float, dtype: Any, shape: Any = None) -> Kernels:
    """The kernels of one norm.

    Args:
        groups: Number of groups of neighbouring channels that share statistics within each table,
            or `None` for statistics of each channel over all tables, as batch norm has them.
        epsilon: Added to the variance.
        dtype: That of x.
        shape: The only shape that they are for, as eager calls want it: TensorFlow warns of a
            function that they let be compiled for one shape after the other.

    Returns:
        Functions of tensors [P, S, C], S and C known, of float32, float16 or bfloat16; y is of
        float32.
    """
    over = functools.partial(_over, groups=groups, narrow=dtype != tf.float32)
    return assembled(
        functools.partial(_statistics, over=over),
        functools.partial(_forward, epsilon=epsilon),
        functools.partial(_backward, over=over, epsilon=epsilon),
        functools.partial(_definition, over=over, epsilon=epsilon),
    )


def assembled(statistics: Any, forward: Any, backward: Any, definition: Any) -> Kernels:
    """Kernels of compiled functions, with gradients of first and of any higher order.

    Args, all of them functions of x in float32:
        statistics: Function of x that returns tables.
        forward: Function of x, gamma, beta and the tables that returns y.
        backward: Function of dy, x, gamma and the tables that returns the gradients of x, and those
            of gamma and beta as if each table had its own, the tables being functions of x.
        definition: Function of x and gamma that returns y without beta, from whose plain operations
            second gradients are taken.
    """

    found, quotient, joined, slopes_of = _programs(statistics, forward, backward)

    @tf.custom_gradient
    def slope(dy, x, gamma, *tables):
        def curvature(*upstream):
            with tf.GradientTape() as tape:
                tape.watch([dy, x, gamma])
                slopes = _slope_by_definition(dy, x, gamma, definition)
            first = tape.gradient(slopes, [dy, x, gamma], upstream)
            return *first, *(None for _ in tables)

        return slopes_of(dy, x, gamma, *tables), curvature

    def shared(dy, x, gamma, beta, tables):
        # Not in the compiled programs: one traced for weights of each table serves shared ones too.
        dx, dgamma, dbeta = slope(dy, x, gamma, *tables)
        return dx, like(dgamma, gamma), like(dbeta, beta)

    @tf.custom_gradient
    def normalize(x, gamma, beta, *tables):
        def gradient(dy):
            return *shared(dy, x, gamma, beta, tables), *(None for _ in tables)

        return quotient(x, gamma, beta, *tables), gradient

    @tf.custom_gradient
    def both(x, gamma, beta):
        y, *tables = joined(x, gamma, beta)
        return (y, *tables), lambda dy, *_: shared(dy, x, gamma, beta, tables)

    return Kernels(found, normalize, both)


def _programs(statistics: Any, forward: Any, backward: Any) -> list:
    """The functions of `assembled`, and the first two in one, compiled for x of any dtype."""

    def found(x):
        return statistics(wide(x))

    def quotient(x, gamma, beta, *tables):
        return forward(wide(x), gamma, beta, *tables)

    def joint(x, gamma, beta):
        x = wide(x)
        tables = statistics(x)
        return forward(x, gamma, beta, *tables), *tables

    def slopes(dy, x, gamma, *tables):
        dx, *rest = backward(dy, wide(x), gamma, *tables)
        return tf.cast(dx, x.dtype), *rest

    return [compiled(one) for one in (found, quotient, joint, slopes)]


def compiled(function: Any) -> Any:
    """The function as a program of XLA's, whose name in TensorFlow's records is its own.

    TensorFlow counts how often what was defined by the same lines is traced, and warns of it: ten
    layers of different shapes would look like one that is traced ten times. A partial has no lines.
    """
    return tf.function(functools.partial(function), jit_compile=True, autograph=False)


def wide(x: Any) -> Any:
    """x in float32; x itself where it is float32."""
    return tf.cast(x, tf.float32)


def _over(table: Any, groups: int | None, narrow: bool = False) -> Any:
    """Averages [P, 1, C] over what shares statistics.

    What is merely spread over the channels of a group, XLA looks up in every pass over x, which
    then does not vectorize where groups are small or x is of half precision. What comes out of a
    reduction it keeps. So each channel gets an average of its own there, of the same parts.
    """
    channels = table.shape[-1]
    if groups is None:
        tables = tf.cast(tf.maximum(tf.shape(table)[0], 1), table.dtype)
        return tf.reduce_sum(table, 0, keepdims=True) / tables
    if groups == channels:
        return table
    size = channels // groups
    if groups == 1 or (size >= LANES and not narrow):
        means = tf.reduce_mean(tf.reshape(table, (-1, groups, size)), -1, keepdims=True)
        return tf.reshape(tf.tile(means, (1, 1, size)), (-1, 1, channels))
    parts = next(number for number in range(2, size + 1) if size % number == 0)
    means = tf.reduce_mean(tf.reshape(table, (-1, groups, 1, parts, size // parts)), 4)
    return tf.reshape(tf.reduce_mean(tf.tile(means, (1, 1, size, 1)), 3), (-1, 1, channels))


def sums(function: Any, *tensors: Any) -> list:
    """Sums over the rows of each result of a function of slabs of the tensors [P, S, ...]."""
    number = slabs_of(tensors[0].shape[1])
    cut = [tf.reshape(one, (-1, number, one.shape[1] // number, one.shape[2])) for one in tensors]
    totals = function(*(one[:, 0] for one in cut))
    for slab in range(1, number):
        terms = function(*(one[:, slab] for one in cut))
        totals = [total + term for total, term in zip(totals, terms, strict=True)]
    return [tf.reduce_sum(total, 1, keepdims=True) for total in totals]


def _statistics(x: Any, over: Any) -> tuple:
    rows = x.shape[1]
    shift = over(tf.reduce_mean(x[:, : -(-rows // SHARE)], 1, keepdims=True))
    # Rounded to its dtype in every kernel that reads it, also where products and sums are joined.
    shift = tf.maximum(shift, x.dtype.min)

    def powers(slab: Any) -> tuple:
        centred = slab - shift
        return centred, centred * centred

    first, second = (over(total / rows) for total in sums(powers, x))
    variance = tf.maximum(second - first * first, 0.0)
    variance = tf.where(tf.shape(x)[0] > 0, variance, tf.ones_like(variance))
    return shift, first, variance


def _forward(x: Any, gamma: Any, beta: Any, *tables: Any, epsilon: float) -> Any:
    shift, residual, variance = tables
    factor = gamma / tf.sqrt(variance + epsilon)
    return (x - shift) * factor + (beta - residual * factor)


def _backward(dy: Any, x: Any, gamma: Any, *tables: Any, over: Any, epsilon: float) -> tuple:
    """dx = (gamma · dy - mean(gamma · dy) - x̂ · mean(gamma · dy · x̂)) / √(variance + ε)."""
    shift, residual, variance = tables
    rate = 1.0 / tf.sqrt(variance + epsilon)
    of_dy, of_product = sums(lambda d, one: (d, d * (one - shift)), dy, x)
    of_product = (of_product - residual * of_dy) * rate  # Σ dy · x̂
    rows = x.shape[1]
    mean_dy, mean_product = over(gamma * of_dy / rows), over(gamma * of_product / rows)
    slant = rate * mean_product
    centred = (x - shift) * slant + (mean_dy - residual * slant)
    dx = (gamma * dy - centred) * rate
    return dx, of_product, of_dy


def like(table: Any, weight: Any) -> Any:
    """A gradient [P, 1, C] in the shape of the weight, 1 for all tables or one for each of them.

    Its first size must be known where it is 1.
    """
    return tf.reduce_sum(table, 0, keepdims=True) if weight.shape[0] == 1 else table


def connected(gradients: Any, inputs: Any) -> list:
    """Gradients that a tape found, zeros for inputs that the result does not depend on.

    Raises:
        NotImplementedError: If the first has none, on which every result depends: while TensorFlow
            differentiates in forward mode, no other tape records.
    """
    if gradients[0] is None:
        raise NotImplementedError(
            "Kernels must be differentiated by `tf.GradientTape` alone. Received: a call within "
            "`tf.autodiff.ForwardAccumulator`. Call the layer within `keras_norm.portable_only()`."
        )
    pairs = zip(gradients, inputs, strict=True)
    return [tf.zeros_like(one) if gradient is None else gradient for gradient, one in pairs]


def _definition(x: Any, gamma: Any, over: Any, epsilon: float) -> Any:
    centred = x - over(tf.reduce_mean(x, 1, keepdims=True))
    variance = over(tf.reduce_mean(centred * centred, 1, keepdims=True))
    return centred * (gamma / tf.sqrt(variance + epsilon))


def _slope_by_definition(dy: Any, x: Any, gamma: Any, definition: Any) -> tuple:
    """The gradients that `backward` returns, such that they can be differentiated in turn."""
    with tf.GradientTape() as tape:
        each = tf.broadcast_to(gamma, (tf.shape(x)[0], 1, gamma.shape[-1]))
        tape.watch([x, each])
        y = definition(wide(x), each)
    dx, dgamma = connected(tape.gradient(y, [x, each], dy), [x, each])
    return dx, dgamma, tf.reduce_sum(dy, 1, keepdims=True)
