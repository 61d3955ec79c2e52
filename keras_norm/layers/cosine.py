"""Dense and convolution by cosine: an input counts by its direction, not by its size."""

import keras

from keras_norm.arguments import check_integer, register
from keras_norm.layers.base_cosine import BaseCosine, BaseCosineConvolution
from keras_norm.ops import cosine


@register
class CosineDense(BaseCosine):
    """A dense layer whose outputs are cosines of the angles between input and weights.

        y = activation(scale · ⟨x, w⟩ / (√(|x|² + ε) · √(|w|² + ε)))

    With `centered=True` x and w are taken less their means, and y is the Pearson correlation. With
    a bias b the vectors are [x, 1] and [w, b]: |y| ≤ 1 holds with it too, before scale and
    activation. Without a bias no positive factor of x or of w changes y, as far as ε is small
    against |x|² and |w|². Training and inference are the same.

    Statistics over C, per position; kernel and bias per unit, one scale for all.

    Use it in place of `keras.layers.Dense` where the size of activations varies between samples and
    says nothing, and as the last layer of a classifier. There it needs a scale, as logits between
    -1 and 1 cannot tell many classes apart: `scale_initializer=keras.initializers.Constant(10.0)`,
    most often with `use_bias=False`. Where size does carry information use `keras.layers.Dense`.

    Args:
        units: Number of outputs.
        activation: Function or name of one, applied last; `None` for none.
        use_bias: If `True`, a bias is the weights' last coordinate, which meets a 1 in the input.
        kernel_initializer, bias_initializer: Initializers of `kernel` and `bias`.
        kernel_regularizer, bias_regularizer: Regularizers of `kernel` and `bias`.
        activity_regularizer: Regularizer of the output.
        kernel_constraint, bias_constraint: Constraints of `kernel` and `bias`.
        centered: If `True`, take inputs and weights less their means.
        epsilon: Positive float added to the squares under both roots.
        scale_initializer: Initializer of `scale`, or `None` for no scale.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.

    Input shape:
        [B, ..., C]; every size but C may be unknown.

    Output shape:
        [B, ..., units].

    Weights:
        kernel [C, units], bias [units], and with an initializer scale [], trainable.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.
        TypeError: If the input is of the wrong type.

    Example:

    >>> layer = CosineDense(3, use_bias=False, kernel_initializer="ones")
    >>> layer(np.full((1, 4), 5.0, "float32")).numpy().round(4)
    array([[1., 1., 1.]], dtype=float32)

    Reference:
        [Luo et al., 2017](https://arxiv.org/abs/1702.05870). Deviation: the bias is a coordinate,
        where the paper has none; ε, and the scale that classifiers need, are added.
    """

    def __init__(self, units, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.units = check_integer("units", units)
        self.supports_masking = True

    def checked_spec(self, input_shape):
        if len(input_shape) < 2:
            raise ValueError(
                f"The input must have rank 2 or higher. Received: input shape {input_shape}. "
                "Add the batch axis."
            )
        return keras.layers.InputSpec(min_ndim=2, axes={-1: self.channels_of(input_shape, -1)})

    def kernel_shape(self, channels):
        return channels, self.units

    def cosines(self, x, kernel, bias):
        return cosine(x, kernel, bias, self.centered, self.epsilon)

    def compute_output_shape(self, input_shape):
        """The input's shape with `units` in place of the channels."""
        return (*input_shape[:-1], self.units)


@register
class CosineConv1D(BaseCosineConvolution):
    """A convolution over time whose outputs are cosines between windows and filters.

        y = activation(scale · ⟨x, w⟩ / (√(|x|² + ε) · √(|w|² + ε)))

    x is the window that a filter w covers. With a bias b they are [x, 1] and [w, b]: |y| ≤ 1 holds
    with it too, before scale and activation. With `centered=True` x and w are taken less their
    means, and y is the Pearson correlation. Padding counts for nothing: it is 0, or the mean of
    what the window covers of the input, so that a constant added to x changes no centred output.

    Statistics over the window and C/G, per sample; kernel and bias per filter, one scale for all.

    Use it in place of `keras.layers.Conv1D` on signals whose loudness varies and says nothing.
    Where size does carry information use `keras.layers.Conv1D`.

    Args:
        filters: Number of outputs at each position.
        kernel_size: Integer or list of one, the number of taps of a filter.
        strides: Integer or list of one, the steps between outputs.
        padding: "valid", "same", or "causal": no output sees a later input.
        data_format: "channels_last" or "channels_first", or `None` for Keras's present setting.
            Both run on every device.
        dilation_rate: Integer or list of one, the steps between taps; 1 with strides above 1.
        groups: Number G of groups of channels, a divisor of C and of `filters`.
        activation: Function or name of one, applied last; `None` for none.
        use_bias: If `True`, a bias is the weights' last coordinate, which meets a 1 in the input.
        kernel_initializer, bias_initializer: Initializers of `kernel` and `bias`.
        kernel_regularizer, bias_regularizer: Regularizers of `kernel` and `bias`.
        activity_regularizer: Regularizer of the output.
        kernel_constraint, bias_constraint: Constraints of `kernel` and `bias`.
        centered: If `True`, take windows and weights less their means.
        epsilon: Positive float added to the squares under both roots.
        scale_initializer: Initializer of `scale`, or `None` for no scale.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 3.

    Input shape:
        [B, T, C], or with "channels_first" [B, C, T]; all but C may be unknown.

    Output shape:
        [B, T', filters], or with "channels_first" [B, filters, T'].

    Weights:
        kernel [k, C/G, filters], bias [filters], and with an initializer scale [], trainable.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.
        TypeError: If the input is of the wrong type.

    Example:

    >>> CosineConv1D(8, 3, padding="same")(np.ones((2, 8, 3), "float32")).shape
    TensorShape([2, 8, 8])

    Reference:
        [Luo et al., 2017](https://arxiv.org/abs/1702.05870). Deviation: bias, scale and ε are
        added; what padding is.
    """

    space = 1
    paddings = ("valid", "same", "causal")


@register
class CosineConv2D(BaseCosineConvolution):
    """A convolution over images whose outputs are cosines between windows and filters.

        y = activation(scale · ⟨x, w⟩ / (√(|x|² + ε) · √(|w|² + ε)))

    x is the window that a filter w covers. With a bias b they are [x, 1] and [w, b]: |y| ≤ 1 holds
    with it too, before scale and activation. With `centered=True` x and w are taken less their
    means, and y is the Pearson correlation. Padding counts for nothing: it is 0, or the mean of
    what the window covers of the input, so that a constant added to x changes no centred output.

    Statistics over the window and C/G, per sample; kernel and bias per filter, one scale for all.

    Use it in place of `keras.layers.Conv2D` on images whose contrast varies and says nothing.
    Where size does carry information use `keras.layers.Conv2D`.

    Args:
        filters: Number of outputs at each position.
        kernel_size: Integer or list of two, the number of taps of a filter.
        strides: Integer or list of two, the steps between outputs.
        padding: "valid" or "same".
        data_format: "channels_last" or "channels_first", or `None` for Keras's present setting.
            Both run on every device.
        dilation_rate: Integer or list of two, the steps between taps; 1 with strides above 1.
        groups: Number G of groups of channels, a divisor of C and of `filters`.
        activation: Function or name of one, applied last; `None` for none.
        use_bias: If `True`, a bias is the weights' last coordinate, which meets a 1 in the input.
        kernel_initializer, bias_initializer: Initializers of `kernel` and `bias`.
        kernel_regularizer, bias_regularizer: Regularizers of `kernel` and `bias`.
        activity_regularizer: Regularizer of the output.
        kernel_constraint, bias_constraint: Constraints of `kernel` and `bias`.
        centered: If `True`, take windows and weights less their means.
        epsilon: Positive float added to the squares under both roots.
        scale_initializer: Initializer of `scale`, or `None` for no scale.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 4.

    Input shape:
        [B, H, W, C], or with "channels_first" [B, C, H, W]; all but C may be unknown.

    Output shape:
        [B, H', W', filters], or with "channels_first" [B, filters, H', W'].

    Weights:
        kernel [k, k, C/G, filters], bias [filters], and with an initializer scale [], trainable.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.
        TypeError: If the input is of the wrong type.

    Example:

    >>> CosineConv2D(8, 3, padding="same")(np.ones((2, 8, 8, 3), "float32")).shape
    TensorShape([2, 8, 8, 8])

    Reference:
        [Luo et al., 2017](https://arxiv.org/abs/1702.05870). Deviation: bias, scale and ε are
        added; what padding is.
    """

    space = 2


@register
class CosineConv3D(BaseCosineConvolution):
    """A convolution over volumes whose outputs are cosines between windows and filters.

        y = activation(scale · ⟨x, w⟩ / (√(|x|² + ε) · √(|w|² + ε)))

    x is the window that a filter w covers. With a bias b they are [x, 1] and [w, b]: |y| ≤ 1 holds
    with it too, before scale and activation. With `centered=True` x and w are taken less their
    means, and y is the Pearson correlation. Padding counts for nothing: it is 0, or the mean of
    what the window covers of the input, so that a constant added to x changes no centred output.

    Statistics over the window and C/G, per sample; kernel and bias per filter, one scale for all.

    Use it in place of `keras.layers.Conv3D` on volumes whose contrast varies and says nothing.
    Where size does carry information use `keras.layers.Conv3D`.

    Args:
        filters: Number of outputs at each position.
        kernel_size: Integer or list of three, the number of taps of a filter.
        strides: Integer or list of three, the steps between outputs.
        padding: "valid" or "same".
        data_format: "channels_last" or "channels_first", or `None` for Keras's present setting.
            Both run on every device.
        dilation_rate: Integer or list of three, the steps between taps; 1 with strides above 1.
        groups: Number G of groups of channels, a divisor of C and of `filters`.
        activation: Function or name of one, applied last; `None` for none.
        use_bias: If `True`, a bias is the weights' last coordinate, which meets a 1 in the input.
        kernel_initializer, bias_initializer: Initializers of `kernel` and `bias`.
        kernel_regularizer, bias_regularizer: Regularizers of `kernel` and `bias`.
        activity_regularizer: Regularizer of the output.
        kernel_constraint, bias_constraint: Constraints of `kernel` and `bias`.
        centered: If `True`, take windows and weights less their means.
        epsilon: Positive float added to the squares under both roots.
        scale_initializer: Initializer of `scale`, or `None` for no scale.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 5.

    Input shape:
        [B, D, H, W, C], or with "channels_first" [B, C, D, H, W]; all but C may be unknown.

    Output shape:
        [B, D', H', W', filters], or with "channels_first" [B, filters, D', H', W'].

    Weights:
        kernel [k, k, k, C/G, filters], bias [filters], and with an initializer scale [], trainable.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.
        TypeError: If the input is of the wrong type.

    Example:

    >>> CosineConv3D(8, 3, padding="same")(np.ones((2, 8, 8, 8, 3), "float32")).shape
    TensorShape([2, 8, 8, 8, 8])

    Reference:
        [Luo et al., 2017](https://arxiv.org/abs/1702.05870). Deviation: bias, scale and ε are
        added; what padding is.
    """

    space = 3
