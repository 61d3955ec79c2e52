"""The shape of every layer that is called with `[x, condition]`, written once."""

import math

import keras
from keras import activations, constraints, initializers, ops, regularizers
from keras.backend import standardize_dtype
from keras.layers import InputSpec

from keras_norm.arguments import check_flag
from keras_norm.layers.base import BaseNormalization, BaseWideArithmetic
from keras_norm.ops import axes


class BaseConditional(BaseWideArithmetic):
    """Base of every layer that is called with a list of two inputs, `[x, condition]`.

    It owns the shape of the call: two tensors, two masks, one output of the first one's shape in
    the compute dtype. A layer states `check_pair`, `build_pair` and `normalize_pair`.

    Args:
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Raises:
        ValueError: If the inputs, their shapes or masks do not fit.
        TypeError: If an input is of the wrong type.
    """

    names = ("x", "condition")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def __call__(self, inputs, *args, **kwargs):
        """Refuses anything but two dense tensors of numbers, also symbolic ones."""
        tensors = inputs if isinstance(inputs, (list, tuple)) else ()
        if len(tensors) != 2 or not all(hasattr(tensor, "dtype") for tensor in tensors):
            received = type(inputs).__name__ + (f" of length {len(tensors)}" if tensors else "")
            raise ValueError(
                f"The inputs of layer {self.name!r} must be a list of two tensors, "
                f"[{', '.join(self.names)}]. Received: {received}. "
                f"Call it as `layer([{', '.join(self.names)}])`."
            )
        self.check_dtypes(*tensors)
        return super().__call__(inputs, *args, **kwargs)

    def check_dtypes(self, x, condition):
        """Raises where an input does not hold numbers."""
        for tensor in (x, condition):
            self._statistics_dtype(tensor)

    def build(self, input_shape):
        """Creates the weights for a pair of shapes."""
        shapes = [tuple(s) if isinstance(s, (list, tuple)) else None for s in input_shape]
        if len(shapes) != 2 or None in shapes:
            raise ValueError(
                "`input_shape` must be a list of two shapes, those of "
                f"[{', '.join(self.names)}]. Received: input_shape={input_shape}. "
                "Pass both shapes, each with its batch."
            )
        self.check_pair(*shapes)
        self.build_pair(*shapes)

    def call(self, inputs, training=None, mask=None):
        """Checks and hands on. Layers state `normalize_pair` alone."""
        x, condition = inputs
        self.check_pair(tuple(x.shape), tuple(condition.shape))
        masks = (None, None) if mask is None else mask
        if not isinstance(masks, (list, tuple)) or len(masks) != 2:
            raise ValueError(
                f"`mask` must be a list of two masks, those of [{', '.join(self.names)}]. "
                f"Received: mask of type {type(mask).__name__}. "
                "Pass `[mask, None]` where only the first input has one."
            )
        y = self.normalize_pair(x, condition, training, *masks)
        return ops.cast(y, self.compute_dtype)

    def check_pair(self, x_shape, condition_shape):
        """Raises where the two shapes do not go together."""
        raise NotImplementedError

    def build_pair(self, x_shape, condition_shape):
        """Creates the weights and `input_spec`."""
        raise NotImplementedError

    def normalize_pair(self, x, condition, training, mask, condition_mask):
        """The layer's equation: a tensor of x's shape, of any floating dtype."""
        raise NotImplementedError

    def refuse_pair(self, rule, x_shape, condition_shape, fix):
        """Raises for two shapes that do not go together."""
        first, second = self.names
        raise ValueError(
            f"`{second}` must {rule}. Received: {second} of shape {tuple(condition_shape)} "
            f"({first} of shape {tuple(x_shape)}). {fix}"
        )

    def compute_mask(self, inputs, previous_mask=None):
        """The mask of the first input."""
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else None

    def compute_output_shape(self, input_shape):
        """The first input's shape."""
        return tuple(input_shape[0])

    def compute_output_spec(self, inputs, **kwargs):
        """The first input's shape in the compute dtype; refuses here what the call would refuse."""
        shapes = [tuple(tensor.shape) for tensor in inputs]
        self.check_pair(*shapes)
        return keras.KerasTensor(self.compute_output_shape(shapes), self.compute_dtype)


class BaseModulation(BaseConditional):
    """Base of layers that predict gamma and beta of an inner norm, per sample or per position.

    A layer states `hidden_size`, `kernel_shape` and `transform`, the kind of its linear maps.

    Args:
        layer: The inner norm, built with `center=False, scale=False`.
        activation: Activation between the two linear maps.
        use_bias: If `True`, each linear map has a bias.
        kernel_initializer: Initializer of `gamma_kernel` and `beta_kernel`.
        bias_initializer: Initializer of all biases.
        hidden_kernel_initializer: Initializer of `hidden_kernel`.
        kernel_regularizer: Regularizer of all kernels.
        bias_regularizer: Regularizer of all biases.
        kernel_constraint: Constraint of all kernels.
        bias_constraint: Constraint of all biases.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).
    """

    def __init__(
        self,
        layer,
        activation="relu",
        use_bias=True,
        kernel_initializer="zeros",
        bias_initializer="zeros",
        hidden_kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        layer, dtype = _check_layer(layer), kwargs.pop("dtype", None)
        super().__init__(dtype=layer.dtype_policy if dtype is None else dtype, **kwargs)
        layer.dtype_policy = self.dtype_policy  # one norm, one policy
        self.layer = layer
        self.activation = activations.get(activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.hidden_kernel_initializer = initializers.get(hidden_kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build_pair(self, x_shape, condition_shape):
        """Builds the inner norm, then creates the linear maps."""
        over = self.axes_of(x_shape)
        if not self.layer.built:
            self.layer.build(x_shape)
        size = condition_shape[self.feature_axis(x_shape, condition_shape)]
        self._condition_size = size
        hidden, units = self.hidden_size(), math.prod(x_shape[a] for a in over)
        if hidden is not None:
            self.add_map("hidden", size, hidden, self.hidden_kernel_initializer)
        for name in ("gamma", "beta"):
            self.add_map(name, hidden or size, units, self.kernel_initializer)
        self.input_spec = [self.layer.input_spec, InputSpec()]

    def add_map(self, name, inputs, outputs, initializer):
        """Creates the kernel and the bias of one linear map, never cast to half precision."""
        given = {"kernel": (self.kernel_shape(inputs, outputs), initializer)}
        if self.use_bias:
            given["bias"] = ((outputs,), self.bias_initializer)
        for part, (shape, part_initializer) in given.items():
            weight = self.add_weight(
                name=f"{name}_{part}",
                shape=shape,
                initializer=part_initializer,
                regularizer=getattr(self, f"{part}_regularizer"),
                constraint=getattr(self, f"{part}_constraint"),
                autocast=False,
            )
            setattr(self, f"{name}_{part}", weight)

    def hidden_size(self):
        """Number of hidden features, or `None` for a single linear map."""
        raise NotImplementedError

    def kernel_shape(self, inputs, outputs):
        """Shape of the kernel of a linear map."""
        raise NotImplementedError

    def transform(self, values, kernel):
        """The linear map without its bias; features are last."""
        raise NotImplementedError

    def axes_of(self, x_shape):
        """The inner norm's axes as sorted, non-negative integers."""
        return axes.canonical(self.layer.axis, x_shape, self.layer.minimum_rank)

    def feature_axis(self, x_shape, condition_shape):
        """The axis of the condition's features: the last one of [B, D], else that of x."""
        return 1 if len(condition_shape) == 2 else self.axes_of(x_shape)[0]

    def check_dtypes(self, x, condition):
        super().check_dtypes(x, condition)
        dtype = standardize_dtype(condition.dtype)
        if "float" not in dtype:
            raise TypeError(
                f"`{self.names[1]}` must be of a floating dtype. Received: dtype={dtype} (shape "
                f"{tuple(condition.shape)}). Turn labels into features first, with "
                "`keras.layers.Embedding` or `keras.ops.one_hot`, and cast numbers."
            )

    def check_sizes(self, x_shape, condition_shape, free):
        """Raises where a size of the condition, but for the axes `free`, is neither 1 nor x's."""
        pairs = enumerate(zip(condition_shape, x_shape, strict=False))
        if not all(a in free or c in (1, None) or n in (c, None) for a, (c, n) in pairs):
            rule = f"have the sizes of {self.names[0]} or 1 on every axis but its features"
            fix = "Bring both to the same sizes first."
            self.refuse_pair(rule, x_shape, condition_shape, fix)
        size = condition_shape[self.feature_axis(x_shape, condition_shape)]
        if size is None or (self.built and size != self._condition_size):
            rule = f"have {self._condition_size if self.built else 'a known number of'} features"
            fix = "The weights have that size: give it in `keras.Input(shape=...)` and keep it."
            self.refuse_pair(rule, x_shape, condition_shape, fix)

    def normalize_pair(self, x, condition, training, mask, condition_mask):
        """Lets the inner norm normalize with the predicted gamma and beta."""
        x = self.layer.cast_up(x)
        gamma, beta = self.predict(ops.cast(condition, x.dtype), x)
        training = bool(training) and self.trainable
        return self.layer.normalize_with(x, gamma, beta, training, mask)

    def predict(self, condition, x):
        """gamma and beta in x's dtype, broadcasting to x."""
        over, rank = self.axes_of(x.shape), len(condition.shape)
        feature = self.feature_axis(x.shape, condition.shape)
        moved = feature != rank - 1
        values = ops.moveaxis(condition, feature, -1) if moved else condition
        values = self.prepare(values, [n for a, n in enumerate(ops.shape(x)) if a not in over])
        if self.hidden_size() is not None:
            values = self.activation(self.linear("hidden", values))
        tables = [1.0 + self.linear("gamma", values), self.linear("beta", values)]
        if moved:
            return [ops.moveaxis(table, -1, feature) for table in tables]
        if rank == 2:
            shape = (-1, *axes.broadcastable(over, x.shape)[1:])
            return [ops.reshape(table, shape) for table in tables]
        return tables

    def prepare(self, values, sizes):
        """The condition as the linear maps take it; `sizes` are those of x but for its features."""
        return values

    def linear(self, name, values):
        """One of the linear maps, with its bias."""
        y = self.transform(values, ops.cast(getattr(self, f"{name}_kernel"), values.dtype))
        if not self.use_bias:
            return y
        return y + ops.cast(getattr(self, f"{name}_bias"), values.dtype)


def _check_layer(layer):
    """The inner norm, if it is one and leaves gamma and beta to others."""
    if not isinstance(layer, BaseNormalization):
        raise TypeError(
            "`layer` must be a norm of activations of this package. Received: "
            f"layer={layer!r}. Use e.g. "
            "`keras_norm.BatchNormalization(center=False, scale=False)`."
        )
    if layer.center or layer.scale:
        raise ValueError(
            "`layer` must have no gamma and beta of its own, which would double the predicted "
            f"ones. Received: layer={type(layer).__name__}(center={layer.center}, "
            f"scale={layer.scale}). Build it with `center=False, scale=False`."
        )
    return layer
