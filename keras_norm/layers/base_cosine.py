"""The frame of the layers that compute cosines, written once."""

import keras
from keras import activations, constraints, initializers, ops, regularizers

from keras_norm.arguments import (
    check_choice,
    check_epsilon,
    check_flag,
    check_integer,
    check_integers,
)
from keras_norm.layers.base import BaseWideArithmetic
from keras_norm.ops import Window, cosine_windows


class BaseCosine(BaseWideArithmetic):
    """Base of the layers that put a cosine where others put a product with a kernel.

    It owns the weights, and what follows the cosine. A layer says what shape its input and its
    kernel have, and has one method, `cosines`.
    """

    def __init__(
        self,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        *,
        centered=False,
        epsilon=1e-7,
        scale_initializer=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.activation = activations.get(activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.centered = check_flag("centered", centered)
        self.epsilon = check_epsilon(epsilon)
        self.scale_initializer = initializers.get(scale_initializer)
        self.bias = None
        self.scale = None

    def build(self, input_shape):
        """Creates the weights; fixes the channels."""
        self.input_spec = self.checked_spec(tuple(input_shape))
        ((_, channels),) = self.input_spec.axes.items()
        shape = self.kernel_shape(channels)
        sizes = {"kernel": shape, "bias": shape[-1:]} if self.use_bias else {"kernel": shape}
        for name, size in sizes.items():
            weight = self.add_weight(
                name=name,
                shape=size,
                initializer=getattr(self, f"{name}_initializer"),
                regularizer=getattr(self, f"{name}_regularizer"),
                constraint=getattr(self, f"{name}_constraint"),
                autocast=False,
            )
            setattr(self, name, weight)
        if self.scale_initializer is not None:
            self.scale = self.add_weight(
                name="scale", shape=(), initializer=self.scale_initializer, autocast=False
            )

    def checked_spec(self, input_shape):
        """What inputs must be like, of which the size of the one axis of channels is known."""
        raise NotImplementedError

    def kernel_shape(self, channels):
        """The shape of the kernel, the number of its filters last."""
        raise NotImplementedError

    def cosines(self, x, kernel, bias):
        """The layer's equation.

        Args:
            x: The input in float32 or wider.
            kernel: The kernel in x's dtype.
            bias: The bias likewise, or `None`.

        Returns:
            The cosines, in x's dtype.
        """
        raise NotImplementedError

    def call(self, inputs, training=None):
        """Casts up, takes the cosines, scales, activates, casts down."""
        x = self.cast_up(inputs)
        bias = None if self.bias is None else ops.cast(self.bias, x.dtype)
        y = self.cosines(x, ops.cast(self.kernel, x.dtype), bias)
        y = y if self.scale is None else y * ops.cast(self.scale, x.dtype)
        return ops.cast(self.activation(y), self.compute_dtype)

    def channels_of(self, input_shape, axis):
        """The size of the axis of channels, which must be known."""
        if input_shape[axis] is None:
            raise ValueError(
                f"axis {axis} must be defined: the kernel has its size. Received: input shape "
                f"{input_shape}. Give the size in `keras.Input(shape=...)`."
            )
        return input_shape[axis]


class BaseCosineConvolution(BaseCosine):
    """Base of the convolutions by cosine; a layer says over how many axes of space.

    It owns how the filters move. Channels are last in the arithmetic: convolutions with channels
    first run on few devices, the transpositions on all.
    """

    space = 0
    paddings: tuple = ("valid", "same")

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        *args,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.filters = check_integer("filters", filters)
        self.kernel_size = check_integers("kernel_size", kernel_size, self.space)
        self.strides = check_integers("strides", strides, self.space)
        padding = padding.lower() if isinstance(padding, str) else padding  # as Keras takes it
        self.padding = check_choice("padding", padding, self.paddings)
        # Kept as it is now: a file must not depend on the settings of who loads it.
        data_format = keras.config.image_data_format() if data_format is None else data_format
        formats = ("channels_last", "channels_first")
        self.data_format = check_choice("data_format", data_format, formats)
        self.dilation_rate = check_integers("dilation_rate", dilation_rate, self.space)
        self.groups = check_integer("groups", groups)
        if self.filters % self.groups:
            raise ValueError(
                "`groups` must divide the number of filters. "
                f"Received: groups={groups}, filters={filters}. Use a divisor of {filters}."
            )
        window = self.window()
        if max(window.strides) > 1 and max(window.dilation) > 1:
            raise ValueError(
                "`strides` must be 1 where `dilation_rate` is above 1. Received: "
                f"strides={strides}, dilation_rate={dilation_rate}. Use one of the two."
            )

    def window(self):
        """What the filters cover, and how they move."""
        size, strides, dilation = (
            value if isinstance(value, tuple) else (value,) * self.space
            for value in (self.kernel_size, self.strides, self.dilation_rate)
        )
        return Window(size, strides, self.padding, dilation)

    def checked_spec(self, input_shape):
        if len(input_shape) != self.space + 2:
            raise ValueError(
                f"The input must have rank {self.space + 2}. Received: input shape {input_shape}. "
                f"It has the axes of batch and channels, and {self.space} of space."
            )
        axis = -1 if self.data_format == "channels_last" else 1
        channels = self.channels_of(input_shape, axis)
        if channels % self.groups:
            raise ValueError(
                "`groups` must divide the number of channels. Received: "
                f"groups={self.groups} ({channels} channels on axis {axis}, input shape "
                f"{input_shape}). Use a divisor of {channels} and of filters={self.filters}."
            )
        self.compute_output_shape(input_shape)
        return keras.layers.InputSpec(ndim=self.space + 2, axes={axis: channels})

    def kernel_shape(self, channels):
        return (*self.window().size, channels // self.groups, self.filters)

    def cosines(self, x, kernel, bias):
        first = self.data_format == "channels_first"
        x = ops.moveaxis(x, 1, -1) if first else x
        y = cosine_windows(x, kernel, bias, self.centered, self.epsilon, self.window(), self.groups)
        return ops.moveaxis(y, -1, 1) if first else y

    def compute_output_shape(self, input_shape):
        """The number of positions of the window along each axis, and the filters."""
        first, window = self.data_format == "channels_first", self.window()
        sizes = input_shape[2:] if first else input_shape[1:-1]
        outputs = window.outputs(sizes)
        if any(n == 0 for n in outputs):
            raise ValueError(
                f"`kernel_size` must fit into the input. Received: kernel_size={self.kernel_size}, "
                f"dilation_rate={self.dilation_rate} (input shape {tuple(input_shape)}). Use "
                "padding='same', or larger inputs."
            )
        batch = input_shape[0]
        return (batch, self.filters, *outputs) if first else (batch, *outputs, self.filters)
