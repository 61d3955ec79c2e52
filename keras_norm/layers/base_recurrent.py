"""What the cells of recurrent networks share."""

import keras
from keras import activations, constraints, initializers, ops, regularizers
from keras.backend import result_type

from keras_norm.arguments import (
    KeepsArguments,
    check_epsilon,
    check_flag,
    check_integer,
    check_number,
)
from keras_norm.ops import standardize

# `keras.layers.RNN` tells cells of this class where a sequence begins and where it ends, and no
# others. Keras's own cells have it as a base; it has no public name.
(SequenceAware,) = set(keras.layers.LSTMCell.__mro__[1:]) - set(keras.layers.Layer.__mro__)


class BaseRecurrentCell(KeepsArguments, SequenceAware):  # type: ignore[misc, valid-type]
    """Base of every cell: Keras's arguments and weights, dropout, and the state.

    A cell names its `gates` and its norms, and states `call`. Kernels are multiplied in the compute
    dtype, as in Keras's cells; norms and gates are computed in float32 or wider, and the state is
    in the compute dtype again.

    One dropout mask serves all steps of a sequence and all gates, and none is drawn in inference.

    Args:
        units: Positive integer, the size of the output and of each state.
        activation: Activation of the candidate state and of the output.
        use_bias: If `True`, add `bias`.
        kernel_initializer: Initializer of `kernel`.
        recurrent_initializer: Initializer of `recurrent_kernel`.
        bias_initializer: Initializer of `bias`.
        kernel_regularizer: Regularizer of `kernel`.
        recurrent_regularizer: Regularizer of `recurrent_kernel`.
        bias_regularizer: Regularizer of `bias`.
        kernel_constraint: Constraint of `kernel`.
        recurrent_constraint: Constraint of `recurrent_kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Share of the inputs to drop, from 0 to below 1.
        recurrent_dropout: Share of the units that the recurrent kernel does not see.
        seed: Integer seed of the dropout masks, or `None`.
        epsilon: Positive float added to each variance under the root.
        beta_initializer: Initializer of the norms' beta.
        gamma_initializer: Initializer of the norms' gamma.
        beta_regularizer: Regularizer of the norms' beta.
        gamma_regularizer: Regularizer of the norms' gamma.
        beta_constraint: Constraint of the norms' beta.
        gamma_constraint: Constraint of the norms' gamma.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).
    """

    gates = 1

    def __init__(
        self,
        units,
        activation="tanh",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        *,
        epsilon=1e-3,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        """Checks the arguments and keeps them."""
        super().__init__(**kwargs)
        self.units = check_integer("units", units)
        self.activation = activations.get(activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.epsilon = check_epsilon(epsilon)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.seed = None if seed is None else check_integer("seed", seed, low=0)
        self.dropout = self._check_rate("dropout", dropout)
        self.recurrent_dropout = self._check_rate("recurrent_dropout", recurrent_dropout)
        self._input_dropout = self._dropout_layer(self.dropout, 0)
        self._state_dropout = self._dropout_layer(self.recurrent_dropout, 1)
        self._input_mask = self._state_mask = None
        self.output_size = self.units

    @property
    def state_size(self):
        """Size of each state; one number where there is one state."""
        return self.units

    @staticmethod
    def _check_rate(name, rate):
        rate = check_number(name, rate, 0.0, 1.0)
        if rate == 1.0:
            raise ValueError(
                f"`{name}` must be below 1: nothing would be left. Received: {name}=1.0. "
                "Choose a rate such as 0.2."
            )
        return rate

    def _dropout_layer(self, rate, offset):
        if not rate:
            return None
        seed = None if self.seed is None else self.seed + offset
        return keras.layers.Dropout(rate, seed=seed, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Creates the kernels, the bias and the norms' weights."""
        features, wide = input_shape[-1], self.gates * self.units
        if features is None:
            raise ValueError(
                "The last axis of the input must be defined: the kernel has its size. "
                f"Received: input shape {tuple(input_shape)}. "
                "Give the size in `keras.Input(shape=...)`."
            )
        self.kernel = self.bias = None
        if self.has_kernel():
            self.kernel = self._add("kernel", "kernel", (features, wide), autocast=True)
        shape = (self.units, wide)
        self.recurrent_kernel = self._add("recurrent_kernel", "recurrent", shape, autocast=True)
        if self.use_bias:
            self.bias = self._add("bias", "bias", self.bias_shape(), self.initial_bias)
        self.add_norms()

    def has_kernel(self):
        """Whether the inputs are multiplied with a kernel."""
        return True

    def bias_shape(self):
        """Shape of the bias."""
        return (self.gates * self.units,)

    def initial_bias(self, shape, dtype=None):
        """The bias at first."""
        return self.bias_initializer(shape, dtype=dtype)

    def add_norms(self):
        """Creates the weights of the norms."""
        raise NotImplementedError

    def add_norm(self, norm, size, center=True):
        """Creates `<norm>_gamma` and `<norm>_beta`."""
        for argument in ("gamma", "beta") if center else ("gamma",):
            name = f"{norm}_{argument}" if norm else argument
            setattr(self, name, self._add(name, argument, (size,)))

    def _add(self, name, argument, shape, initializer=None, autocast=False):
        """Creates a weight with the initializer, regularizer and constraint of an argument."""
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer or getattr(self, f"{argument}_initializer"),
            regularizer=getattr(self, f"{argument}_regularizer"),
            constraint=getattr(self, f"{argument}_constraint"),
            autocast=autocast,
        )

    def get_initial_state(self, batch_size=None):
        """The states before the first step: zeros in the compute dtype."""
        sizes = [self.state_size] if isinstance(self.state_size, int) else self.state_size
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in sizes]

    def get_dropout_mask(self, step_input):
        """Draws the inputs' mask. `keras.layers.RNN` calls it before each sequence.

        There the mask belongs to no step of the loop, so that all steps can use it. A `Dropout`
        layer knows whether the model is training, and draws nothing where it is not.
        """
        self.begin_sequence()
        if self._input_dropout is not None:
            self._input_mask = self._input_dropout(ops.ones_like(step_input))
        return self._input_mask

    def get_recurrent_dropout_mask(self, step_input):
        """Draws the state's mask, likewise."""
        if self._state_dropout is not None:
            self._state_mask = self._state_dropout(ops.ones_like(step_input))
        return self._state_mask

    def reset_dropout_mask(self):
        """Forgets the inputs' mask. `keras.layers.RNN` calls it after each sequence."""
        self._input_mask = None
        self.end_sequence()

    def reset_recurrent_dropout_mask(self):
        """Forgets the state's mask, likewise."""
        self._state_mask = None

    def begin_sequence(self):
        """What is to be done before the first step of a sequence; nothing by default."""

    def end_sequence(self):
        """What is to be done after the last step of a sequence; nothing by default."""

    def project(self, inputs, state, training):
        """The inputs and the previous output times their kernels, in the statistics' dtype."""
        if training and self._input_dropout is not None:
            mask = self._input_mask
            inputs = self._input_dropout(inputs) if mask is None else inputs * mask
        if training and self._state_dropout is not None:
            mask = self._state_mask
            state = self._state_dropout(state) if mask is None else state * mask
        from_inputs = inputs if self.kernel is None else ops.matmul(inputs, self.kernel)
        products = from_inputs, ops.matmul(state, self.recurrent_kernel)
        dtype = result_type(self.compute_dtype, self.variable_dtype, "float32")
        return [ops.cast(product, dtype) for product in products]

    def layer_norm(self, x, gamma, beta=None):
        """Normalizes each row of x, in x's dtype."""
        gamma, beta = (None if w is None else self.row(w, x) for w in (gamma, beta))
        return standardize(x, (1,), gamma, beta, self.epsilon)[0]

    @staticmethod
    def row(weight, x):
        """A weight as one row in x's dtype."""
        return ops.expand_dims(ops.cast(weight, x.dtype), 0)

    def add_bias(self, x):
        """x plus the bias, where there is one."""
        return x if self.bias is None else x + self.row(self.bias, x)


class BaseGatedCell(BaseRecurrentCell):
    """Base of the cells with gates.

    Args:
        units: Positive integer, the size of the output and of each state.
        activation: Activation of the candidate state and of the output.
        recurrent_activation: Activation of the gates.
        *args, **kwargs: The other arguments of every cell.
    """

    def __init__(self, units, activation="tanh", recurrent_activation="sigmoid", *args, **kwargs):
        super().__init__(units, activation, *args, **kwargs)
        self.recurrent_activation = activations.get(recurrent_activation)


class BaseLSTMCell(BaseGatedCell):
    """Base of the cells with a long and a short memory; the gates are i, f, g, o, as in Keras.

    Args:
        unit_forget_bias: If `True`, the bias of the forget gate is 1 at first.
        *args, **kwargs: The other arguments of a cell with gates.
    """

    gates = 4

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias=True,
        *args,
        **kwargs,
    ):
        start = kernel_initializer, recurrent_initializer, bias_initializer
        super().__init__(units, activation, recurrent_activation, use_bias, *start, *args, **kwargs)
        self.unit_forget_bias = check_flag("unit_forget_bias", unit_forget_bias)

    @property
    def state_size(self):
        """Sizes of the states."""
        return [self.units, self.units]

    def initial_bias(self, shape, dtype=None):
        """The bias at first: 1 for the forget gate, if so wished."""
        if not self.unit_forget_bias:
            return self.bias_initializer(shape, dtype=dtype)
        i, rest = (self.bias_initializer((n * self.units,), dtype=dtype) for n in (1, 2))
        return ops.concatenate([i, ops.ones((self.units,), dtype=dtype), rest], axis=0)

    def remember(self, z, carried):
        """The new state c and the output gate, from the gates' inputs and the old state."""
        i, f, g, o = ops.split(z, self.gates, axis=1)
        sigmoid = self.recurrent_activation
        kept = sigmoid(f) * ops.cast(carried, z.dtype)
        return kept + sigmoid(i) * self.activation(g), sigmoid(o)
