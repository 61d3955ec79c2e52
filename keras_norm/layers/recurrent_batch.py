"""Cells of recurrent networks with batch normalization."""

import keras
from keras import initializers, ops

from keras_norm.arguments import check_flag, check_integer, check_number, register
from keras_norm.layers.base_recurrent import BaseLSTMCell
from keras_norm.ops import Moments, count, loop_of, moments, normalize, write_rows

SMALL = initializers.Constant(0.1)
DIGIT = 256  # bfloat16 counts to 256: the step's number is kept in two digits
LONGEST = DIGIT * DIGIT


@register
class BatchNormLSTMCell(BaseLSTMCell):
    """A long short-term memory cell with three batch norms, each with statistics of every step.

        z_i, z_f, z_g, z_o = BN(x W) + BN(h U) + bias,   c' = σ(z_f) · c + σ(z_i) · tanh(z_g)
        y = σ(z_o) · tanh(BN(c') + beta),   BN(z) = gamma · (z - mean) / √(variance + ε)

    Statistics over B, per unit, gate and step; gamma and beta per unit and gate, the same at all
    steps. h is the y of the step before, and the next step gets c' as it is. Training normalizes
    with the moments of the batch. They enter the moving moments of their step,

        moving = moving + (1 - momentum) · (batch - moving),

    which inference uses. There are `max_steps` steps of them; later steps use the last. The number
    of its step is part of each sequence's state. A cell for `keras.layers.RNN`, which brings masks,
    `stateful`, `unroll` and `Bidirectional`, and at the end of a batch of sequences has the cell
    update the moving moments: called on its own, it does not. With JAX train it with `unroll=True`.

    `keras.layers.RNN` does not tell its cell the mask. Inference needs none: padding changes
    nothing. In training padding counts in the statistics, unless `mask_value` says what it looks
    like: steps with all features equal to it do not count. `Masking` and `zero_output_for_mask`
    make it 0. Put padding behind the sequence: where sequences start at different times, the
    statistics of a training step join those that are present, and enter the moving moments as of
    the step of the longest. For the backward direction, reverse the sequences, not their padding.

    Use it for sequences of similar length, in large batches. Where lengths vary, the authors
    normalize x W over whole sequences: with `sequence_wise_inputs=True` the cell leaves that to the
    layers in front, `Dense(4 * units, use_bias=False)` and `BatchNormalization(epsilon=1e-5,
    center=False, gamma_initializer=Constant(0.1))`, which knows the mask. In small batches
    `LayerNormLSTMCell` is better. Sequences that begin alike have no variance there, and their
    gradient grows at each such step: give the first state some `initial_noise`.

    Args:
        units: Positive integer, the size of the output and of each state.
        activation: Activation of the candidate z_g and of the normalized state.
        recurrent_activation: Activation σ of the gates.
        use_bias: If `True`, add `bias`.
        kernel_initializer, recurrent_initializer, bias_initializer: Initializers of `kernel`,
            `recurrent_kernel` and `bias`.
        unit_forget_bias: If `True`, the bias of the forget gate is 1 at first.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Regularizers of the kernels and
            the bias.
        kernel_constraint, recurrent_constraint, bias_constraint: Their constraints.
        dropout: Share of the inputs to drop, from 0 to below 1; one choice for all gates.
        recurrent_dropout: Share of the units that the recurrent kernel does not see.
        seed: Integer seed of the dropout masks and of the noise, or `None`.
        max_steps: Number of steps with statistics of their own, from 1 to 65,536: the length of the
            sequences, or where their statistics no longer change.
        momentum: Share of the moving moments that a batch leaves as it is, from 0 to 1.
        epsilon: Positive float added to each variance under the root.
        gamma_initializer: Initializer of all norms' gamma; above 0.1 tanh saturates.
        sequence_wise_inputs: If `True`, the input is BN(x W) already, and there is no `kernel`.
        mask_value: Number that all features of a padded step are equal to, or `None`.
        initial_noise: Standard deviation of Gaussian noise on the first h in training.
        freeze_statistics: If `True`, training too normalizes with the moving moments and leaves
            them as they are; everything else trains on.
        beta_initializer: Initializer of `state_beta`.
        beta_regularizer, gamma_regularizer: Regularizers of `state_beta` and of all norms' gamma.
        beta_constraint, gamma_constraint: Their constraints.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating tensor of rank 2, one step of the sequences.
        states: List of h, c, and the step's number in two digits of base 256.
        training: Whether to use moments of the batch, dropout and noise.

    Input shape:
        [B, D]; B may be unknown. [B, 4 · units] with `sequence_wise_inputs=True`.

    Output shape:
        [B, units], and a list of the new h (the output itself), c [B, units] and number [B, 2].

    Weights:
        kernel [D, 4 · units], recurrent_kernel [units, 4 · units], bias [4 · units], kernel_gamma,
        recurrent_gamma [4 · units], state_gamma, state_beta [units], trainable, with the gates in
        the order i, f, g, o, as in Keras; kernel_moving_mean, kernel_moving_variance,
        recurrent_moving_mean, recurrent_moving_variance [max_steps, 4 · units], state_moving_mean,
        state_moving_variance [max_steps, units], not trainable.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit, or if JAX trains it in
            a loop that is not unrolled.

    Example:

    >>> import keras
    >>> layer = keras.layers.RNN(BatchNormLSTMCell(4, max_steps=5))
    >>> layer(np.ones((2, 5, 3), "float32"), training=True).shape
    TensorShape([2, 4])

    Reference:
        [Cooijmans et al., 2017](https://arxiv.org/abs/1603.09025). Deviation: moments of an empty,
        a fully padded or a non-finite step never enter the moving moments.
    """

    def __init__(
        self,
        *args,
        max_steps,
        momentum=0.99,
        epsilon=1e-5,
        gamma_initializer=SMALL,
        sequence_wise_inputs=False,
        mask_value=None,
        initial_noise=0.0,
        freeze_statistics=False,
        **kwargs,
    ):
        super().__init__(*args, epsilon=epsilon, gamma_initializer=gamma_initializer, **kwargs)
        self.max_steps = check_integer("max_steps", max_steps)
        if self.max_steps > LONGEST:
            raise ValueError(
                f"`max_steps` must be at most {LONGEST}. Received: max_steps={max_steps}. "
                "Later steps use the statistics of the last."
            )
        self.momentum = check_number("momentum", momentum, 0.0, 1.0)
        self.sequence_wise_inputs = check_flag("sequence_wise_inputs", sequence_wise_inputs)
        self.mask_value = None if mask_value is None else check_number("mask_value", mask_value)
        self.initial_noise = check_number("initial_noise", initial_noise, 0.0)
        self.freeze_statistics = check_flag("freeze_statistics", freeze_statistics)
        self._noise = None
        if self.initial_noise:
            seed = None if self.seed is None else self.seed + 2
            policy = self.dtype_policy
            self._noise = keras.layers.GaussianNoise(self.initial_noise, seed=seed, dtype=policy)
        self._in_sequence = self._wrote = False

    @property
    def state_size(self):
        return [self.units, self.units, 2]

    def has_kernel(self):
        return not self.sequence_wise_inputs

    def build(self, input_shape):
        if self.sequence_wise_inputs and input_shape[-1] != self.gates * self.units:
            raise ValueError(
                f"`sequence_wise_inputs` must be False for inputs that are not {self.gates} times "
                f"`units` wide. Received: sequence_wise_inputs=True (units={self.units}, input "
                f"shape {tuple(input_shape)}). Put `Dense({self.gates * self.units}, "
                "use_bias=False)` and `BatchNormalization(center=False)` in front."
            )
        super().build(input_shape)

    def add_norms(self):
        wide = self.gates * self.units
        self._terms = {"kernel": wide, "recurrent": wide, "state": self.units}
        if self.sequence_wise_inputs:
            del self._terms["kernel"]
        for term, size in self._terms.items():
            self.add_norm(term, size, center=term == "state")
        for term, size in self._terms.items():
            for name, value in (("mean", "zeros"), ("variance", "ones")):
                # Replicas of a strategy must not drift apart: assignments are averaged over them.
                weight = self.add_weight(
                    name=f"{term}_moving_{name}",
                    shape=(self.max_steps, size),
                    initializer=value,
                    trainable=False,
                    autocast=False,
                    aggregation="mean",
                )
                setattr(self, f"{term}_moving_{name}", weight)
        self._batch = _Table(self.max_steps, 2 * sum(self._terms.values()), self.variable_dtype)

    def get_initial_state(self, batch_size=None):
        """The states before the first step: zeros, and in training the noise."""
        h, c, number = super().get_initial_state(batch_size)
        return [h if self._noise is None else self._noise(h), c, number]

    def call(self, inputs, states, training=False):
        training = bool(training) and self.trainable
        uses_batch = training and not self.freeze_statistics
        x, h = self.project(inputs, states[0], training)
        step = _read(ops.cast(states[2], x.dtype))
        counted = self._counted(inputs) if uses_batch else None
        row = ops.cast(ops.minimum(step, self.max_steps - 1), "int32")
        found = {}

        def batch_norm(values, term, beta=None):
            if uses_batch:
                found[term] = moments(values, (0,), mask=counted)
            else:
                found[term] = self._moving(term, ops.squeeze(row, 1), values.dtype)
            gamma = self.row(getattr(self, f"{term}_gamma"), values)
            return normalize(values, found[term], gamma, beta, self.epsilon)

        z = x if self.sequence_wise_inputs else batch_norm(x, "kernel")
        c, o = self.remember(self.add_bias(z + batch_norm(h, "recurrent")), states[1])
        y = o * self.activation(batch_norm(c, "state", self.row(self.state_beta, c)))
        if uses_batch and self._in_sequence:
            self._record(found, step, counted, x)
        number = _written(ops.minimum(step + 1.0, float(self.max_steps)))
        y, c, number = (ops.cast(t, self.compute_dtype) for t in (y, c, number))
        return y, [y, c, number]

    def _counted(self, inputs):
        """Which rows are no padding, [B, 1], or `None`."""
        if self.mask_value is None:
            return None
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)

    def _moving(self, term, row, dtype):
        """The moving moments of the step that each sequence is at."""
        mean, variance = (
            ops.cast(ops.take(getattr(self, f"{term}_moving_{name}"), row, axis=0), dtype)
            for name in ("mean", "variance")
        )
        return Moments(mean, None, variance)

    def begin_sequence(self):
        self._in_sequence, self._wrote, self._loop = True, False, loop_of()

    def _record(self, found, step, counted, x):
        """Keeps the moments of a step until the sequence ends.

        A loop may run its first step twice, to see what it is given, so that a step must not move
        the moving moments itself: they would be moved twice.
        """
        if loop_of() != self._loop:
            raise ValueError(
                "`unroll` must be True where JAX trains this cell: a loop that is not unrolled "
                f"loses the moments of its steps. Received: unroll=False (cell {self.name!r}). "
                "Use `keras.layers.RNN(cell, unroll=True)`."
            )
        present = step if counted is None else ops.where(counted, step, -1.0)
        number = ops.cast(ops.max(present, initial=-1.0), "int32")
        values = [part for one in found.values() for part in (one.mean, one.variance)]
        self._batch.write(number, values, count(x, (0,), counted))
        self._wrote = True

    def end_sequence(self):
        if self._in_sequence and self._wrote:
            self._update()
        self._in_sequence = self._wrote = False

    def _update(self):
        """Lets the moments of the sequence's steps into the moving ones."""
        sizes = [size for size in self._terms.values() for _ in range(2)]
        valid, batch = self._batch.read(sizes)
        names = [f"{term}_moving_{name}" for term in self._terms for name in ("mean", "variance")]
        for name, new in zip(names, batch, strict=True):
            weight = getattr(self, name)
            old = ops.convert_to_tensor(weight)
            moved = old + (1.0 - self.momentum) * (new - old)
            weight.assign(ops.where(valid, moved, old))
        self._batch.clear()


class _Table:
    """What the steps of a batch of sequences found, and how many rows each step stands on.

    It outlives no batch and is no weight: files do not hold it. The last row takes what nobody
    reads: steps without data, and those after `steps`.
    """

    def __init__(self, steps, width, dtype):
        self.steps, self.width = steps, width
        self.variable = keras.Variable(
            initializers.Zeros(),
            shape=(steps + 1, width + 1),
            dtype=dtype,
            trainable=False,
            autocast=False,
            name="steps",
        )

    def write(self, step, values, number):
        """Keeps the values of a step; a step below 0 has no data."""
        number = ops.reshape(number, (1, 1))
        line = ops.concatenate([*values, ops.cast(number, values[0].dtype)], axis=1)
        line = ops.cast(ops.stop_gradient(line), self.variable.dtype)
        write_rows(self.variable, ops.where(step < 0, self.steps, step), line)

    def read(self, sizes):
        """Which steps have data, [steps, 1], and the values that `write` was given, by column."""
        table = ops.convert_to_tensor(self.variable)[: self.steps]
        finite = ops.all(ops.isfinite(table), axis=1, keepdims=True)
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        values = [table[:, a : a + n] for a, n in zip(starts, sizes, strict=True)]
        return finite & (table[:, -1:] > 0), values

    def clear(self):
        """Forgets all."""
        write_rows(self.variable, 0, ops.zeros(self.variable.shape, self.variable.dtype))


def _read(digits):
    """The number [B, 1] whose digits [B, 2] are given."""
    return ops.sum(digits * ops.array([[float(DIGIT), 1.0]], digits.dtype), axis=1, keepdims=True)


def _written(number):
    """The digits [B, 2] of a number [B, 1]."""
    high = ops.floor(number / DIGIT)
    return ops.concatenate([high, number - DIGIT * high], axis=1)
