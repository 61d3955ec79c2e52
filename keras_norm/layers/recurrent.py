"""Cells of recurrent networks with layer normalization."""

from keras import ops

from keras_norm.arguments import check_choice, register
from keras_norm.layers.base_recurrent import BaseGatedCell, BaseLSTMCell, BaseRecurrentCell


@register
class LayerNormSimpleRNNCell(BaseRecurrentCell):
    """A simple recurrent cell whose summed input is normalized.

        y = activation(LN(x W + h U) + bias),   LN(z) = gamma · (z - mean) / √(variance + ε)

    h is the y of the step before. Statistics over the units, per sample and step; gamma and bias
    per unit. Training and inference are the same. A cell for `keras.layers.RNN`, which brings
    masks, `stateful`, `unroll` and `Bidirectional`. It takes the place of TensorFlow Addons's cell
    of the same name, whose weights fit.

    Use it where `keras.layers.SimpleRNNCell` is unstable. Over long spans
    `LayerNormLSTMCell` remembers more.

    Args:
        units: Positive integer, the size of the output and of the state.
        activation: Activation of the output.
        use_bias: If `True`, add `bias`.
        kernel_initializer, recurrent_initializer, bias_initializer: Initializers of `kernel`,
            `recurrent_kernel` and `bias`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Their regularizers.
        kernel_constraint, recurrent_constraint, bias_constraint: Their constraints.
        dropout: Share of the inputs to drop, from 0 to below 1.
        recurrent_dropout: Share of the units that the recurrent kernel does not see.
        seed: Integer seed of the dropout masks, or `None`.
        epsilon: Positive float added to the variance under the root.
        gamma_initializer: Initializer of `gamma`.
        gamma_regularizer: Regularizer of `gamma`.
        gamma_constraint: Constraint of `gamma`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating tensor of rank 2, one step of the sequences.
        states: List with the output of the step before.
        training: Whether to apply dropout.

    Input shape:
        [B, D]; B may be unknown.

    Output shape:
        [B, units], and a list with the same tensor as the new state.

    Weights:
        kernel [D, units], recurrent_kernel [units, units], bias [units], gamma [units], trainable.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.

    Example:

    >>> import keras
    >>> layer = keras.layers.RNN(LayerNormSimpleRNNCell(4), return_sequences=True)
    >>> layer(np.ones((2, 5, 3), "float32")).shape
    TensorShape([2, 5, 4])

    Reference:
        [Ba et al., 2016](https://arxiv.org/abs/1607.06450). Deviation: none; its offset is `bias`,
        as in TensorFlow Addons.
    """

    without = frozenset({"beta_initializer", "beta_regularizer", "beta_constraint"})

    def __init__(self, *args, epsilon=1e-5, **kwargs):
        super().__init__(*args, epsilon=epsilon, **kwargs)

    def add_norms(self):
        self.add_norm("", self.units, center=False)

    def call(self, inputs, states, training=False):
        x, h = self.project(inputs, states[0], training)
        y = self.layer_norm(x + h, self.gamma)
        y = ops.cast(self.activation(self.add_bias(y)), self.compute_dtype)
        return y, [y]


@register
class LayerNormLSTMCell(BaseLSTMCell):
    """A long short-term memory cell with three layer norms.

        z_i, z_f, z_g, z_o = LN(x W) + LN(h U) + bias,   c' = σ(z_f) · c + σ(z_i) · tanh(z_g)
        y = σ(z_o) · tanh(LN(c'))
        LN(z) = gamma · (z - mean) / √(variance + ε) + beta

    Statistics over all four gates together, and over the units of the state, per sample and step;
    gamma and beta per unit and gate. h is the y of the step before. Training and inference are the
    same. A cell for `keras.layers.RNN`, which brings masks, `stateful`, `unroll` and
    `Bidirectional`.

    With `layout="paper"` the next step gets c' as it is. With `layout="addons"` it gets LN(c'), as
    TensorFlow Addons's cell of the same name does. The weights are the same, in shape and order,
    and those of Addons's cell fit; its ε is the default.

    Use it for sequences in small batches, where an LSTM learns slowly or diverges. For speed alone
    `keras.layers.LSTM` has a kernel on GPUs that no norm fits into.

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
        seed: Integer seed of the dropout masks, or `None`.
        layout: `"paper"` carries the raw state, `"addons"` the normalized one.
        epsilon: Positive float added to each variance under the root.
        beta_initializer, gamma_initializer: Initializers of all norms' beta and gamma.
        beta_regularizer, gamma_regularizer: Their regularizers.
        beta_constraint, gamma_constraint: Their constraints.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating tensor of rank 2, one step of the sequences.
        states: List of h and c.
        training: Whether to apply dropout.

    Input shape:
        [B, D]; B may be unknown.

    Output shape:
        [B, units], and a list of the new h (the output itself) and c.

    Weights:
        kernel [D, 4 · units], recurrent_kernel [units, 4 · units], bias [4 · units],
        kernel_gamma, kernel_beta, recurrent_gamma, recurrent_beta [4 · units], state_gamma,
        state_beta [units], trainable. The gates stand in the order i, f, g, o, as in Keras.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.

    Example:

    >>> import keras
    >>> layer = keras.layers.Bidirectional(keras.layers.RNN(LayerNormLSTMCell(4)))
    >>> layer(np.ones((2, 5, 3), "float32")).shape
    TensorShape([2, 8])

    Reference:
        [Ba et al., 2016](https://arxiv.org/abs/1607.06450). Deviation: none with
        `layout="paper"`; ε is that of Keras and Addons.
    """

    def __init__(self, *args, layout="paper", **kwargs):
        super().__init__(*args, **kwargs)
        self.layout = check_choice("layout", layout, ("paper", "addons"))

    def add_norms(self):
        self.add_norm("kernel", self.gates * self.units)
        self.add_norm("recurrent", self.gates * self.units)
        self.add_norm("state", self.units)

    def call(self, inputs, states, training=False):
        x, h = self.project(inputs, states[0], training)
        z = self.layer_norm(x, self.kernel_gamma, self.kernel_beta)
        z = z + self.layer_norm(h, self.recurrent_gamma, self.recurrent_beta)
        z = self.add_bias(z)
        c, o = self.remember(z, states[1])
        normalized = self.layer_norm(c, self.state_gamma, self.state_beta)
        y = o * self.activation(normalized)
        c = normalized if self.layout == "addons" else c
        y, c = ops.cast(y, self.compute_dtype), ops.cast(c, self.compute_dtype)
        return y, [y, c]


@register
class LayerNormGRUCell(BaseGatedCell):
    """A gated recurrent unit with a layer norm on each side.

        z, r = σ(LN(x W_zr) + LN(h U_zr))
        y = z · h + (1 - z) · tanh(LN(x W_h) + r · LN(h U_h))
        LN(a) = gamma · (a - mean) / √(variance + ε) + bias

    It is Keras's GRU with `reset_after=True`, the form that lets U be applied, and normalized, at
    once. Statistics over both gates together, and over the candidate, per sample and step; gamma
    and bias per unit and gate. The bias has a row for x W and a row for h U, as in Keras, and is
    what beta is elsewhere. h is the y of the step before. Training and inference are the same. A
    cell for `keras.layers.RNN`, which brings masks, `stateful`, `unroll` and `Bidirectional`.

    Use it where `LayerNormLSTMCell` is too large: it has three gates for four, and one state for
    two. For speed alone `keras.layers.GRU` has a kernel on GPUs that no norm fits into.

    Args:
        units: Positive integer, the size of the output and of the state.
        activation: Activation of the candidate.
        recurrent_activation: Activation σ of the gates.
        use_bias: If `True`, add `bias`.
        kernel_initializer, recurrent_initializer, bias_initializer: Initializers of `kernel`,
            `recurrent_kernel` and `bias`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Their regularizers.
        kernel_constraint, recurrent_constraint, bias_constraint: Their constraints.
        dropout: Share of the inputs to drop, from 0 to below 1; one choice for all gates.
        recurrent_dropout: Share of the units that the recurrent kernel does not see.
        seed: Integer seed of the dropout masks, or `None`.
        epsilon: Positive float added to each variance under the root.
        gamma_initializer: Initializer of both norms' gamma.
        gamma_regularizer: Regularizer of both norms' gamma.
        gamma_constraint: Constraint of both norms' gamma.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating tensor of rank 2, one step of the sequences.
        states: List with the output of the step before.
        training: Whether to apply dropout.

    Input shape:
        [B, D]; B may be unknown.

    Output shape:
        [B, units], and a list with the same tensor as the new state.

    Weights:
        kernel [D, 3 · units], recurrent_kernel [units, 3 · units], bias [2, 3 · units],
        kernel_gamma, recurrent_gamma [3 · units], trainable. The gates stand in the order z, r, h,
        as in Keras, and the first three weights of a `keras.layers.GRUCell` fit.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.

    Example:

    >>> import keras
    >>> layer = keras.layers.RNN(LayerNormGRUCell(4), return_sequences=True)
    >>> layer(np.ones((2, 5, 3), "float32")).shape
    TensorShape([2, 5, 4])

    Reference:
        [Ba et al., 2016](https://arxiv.org/abs/1607.06450). Deviation: z is one minus the paper's,
        as in Keras, and ε is Keras's.
    """

    gates = 3
    without = frozenset({"beta_initializer", "beta_regularizer", "beta_constraint"})

    def __init__(self, *args, epsilon=1e-3, **kwargs):
        super().__init__(*args, epsilon=epsilon, **kwargs)

    def bias_shape(self):
        return (2, self.gates * self.units)

    def add_norms(self):
        self.add_norm("kernel", self.gates * self.units, center=False)
        self.add_norm("recurrent", self.gates * self.units, center=False)

    def call(self, inputs, states, training=False):
        x, h = self.project(inputs, states[0], training)
        x_zr, x_h = self.norms_of(x, self.kernel_gamma, 0)
        h_zr, h_h = self.norms_of(h, self.recurrent_gamma, 1)
        z, r = ops.split(self.recurrent_activation(x_zr + h_zr), 2, axis=1)
        candidate = self.activation(x_h + r * h_h)
        y = candidate + z * (ops.cast(states[0], z.dtype) - candidate)
        y = ops.cast(y, self.compute_dtype)
        return y, [y]

    def norms_of(self, x, gamma, side):
        """The two norms of one side: of both gates together, and of the candidate."""
        beta = None if self.bias is None else self.bias[side]
        cut = 2 * self.units
        parts = ops.split(x, [cut], axis=1)
        return [
            self.layer_norm(part, gamma[s], None if beta is None else beta[s])
            for part, s in zip(parts, (slice(cut), slice(cut, None)), strict=True)
        ]
