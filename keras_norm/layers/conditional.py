"""Norms whose gamma and beta come from a second input."""

from keras import ops
from keras.backend import result_type
from keras.layers import InputSpec

from keras_norm.arguments import check_epsilon, check_integer, register
from keras_norm.layers.base_conditional import BaseConditional, BaseModulation
from keras_norm.ops import axes, mean_and_deviation, resize_nearest, standardize, visible


@register
class ConditionalNormalization(BaseModulation):
    """Normalizes with any norm and takes gamma and beta from a second input.

        y = norm(x) · (1 + gamma(condition)) + beta(condition)
        gamma(c) = h(c) · W_gamma + b_gamma,   beta(c) = h(c) · W_beta + b_beta

    h(c) is the condition itself or, with `hidden_units`, activation(c · W_hidden + b_hidden).
    Around a `BatchNormalization` this is conditional batch normalization (with FiLM, its layer),
    around a `LayerNormalization` the adaptive layer norm of transformers. The kernels start at
    zero, so that training begins with the plain norm. The adaLN-Zero of diffusion transformers
    has a gate besides, which belongs to the residual branch: multiply the branch by a `Dense` of
    the condition whose kernel starts at zero.

    Statistics over what the inner norm takes them over, by its masks and its training mode; gamma
    and beta per sample and channel or, if the condition has positions, per position and channel.
    Statistics, prediction and affine part are computed in float32 or wider.

    Use it where one network serves many classes, styles, steps of a diffusion or questions. Class
    labels become features first, by `keras.layers.Embedding` or `keras.ops.one_hot`. Where a
    picture of the wanted style is the condition, use `AdaptiveInstanceNormalization`; where a map
    of labels is, `SpatiallyAdaptiveNormalization`.

    Args:
        layer: The inner norm, any norm of activations of this package, built with `center=False,
            scale=False`. The two share one dtype policy: `dtype` if given, else the inner norm's.
        hidden_units: Number of hidden features of a two-layer perceptron, or `None` for one layer.
        activation: Activation of the hidden features.
        use_bias: If `True`, add `hidden_bias`, `gamma_bias` and `beta_bias`.
        kernel_initializer: Initializer of `gamma_kernel` and `beta_kernel`.
        bias_initializer: Initializer of the biases. A pretrained gamma g is `gamma_bias` = g - 1.
        hidden_kernel_initializer: Initializer of `hidden_kernel`.
        kernel_regularizer, bias_regularizer: Regularizers of all kernels and of all biases.
        kernel_constraint, bias_constraint: Constraints of all kernels and of all biases.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: List `[x, condition]`; x a floating or integer tensor, the condition a floating one.
        training: Whether it is a training step; handed to the inner norm.
        mask: List of two masks. The first is the inner norm's; the second is not used.

    Input shape:
        x [B, ..., C] as the inner norm takes it. The condition is [B, D] or, per position, of x's
        rank: [B, ..., D] with its features on the axis of x's and every other size x's or 1.

    Output shape:
        That of x.

    Weights:
        gamma_kernel [D, C], gamma_bias [C], beta_kernel [D, C], beta_bias [C], trainable; with
        `hidden_units` H also hidden_kernel [D, H] and hidden_bias [H], and the other kernels are
        [H, C]. C is the product of the sizes of the inner norm's `axis`. The inner norm's own
        (moving_mean, moving_variance, ...) come after these.

    Raises:
        ValueError: If an argument's value, a shape or a mask does not fit, or if the inner norm has
            a gamma or beta of its own.
        TypeError: If `layer` is no norm, or the condition holds integers.

    Example:

    >>> import keras
    >>> norm = BatchNormalization(center=False, scale=False)
    >>> image, label = keras.Input((8, 8, 6)), keras.Input((), dtype="int32")
    >>> features = keras.layers.Embedding(10, 4)(label)
    >>> model = keras.Model([image, label], ConditionalNormalization(norm)([image, features]))
    >>> model([np.ones((2, 8, 8, 6), "float32"), np.array([3, 7])]).shape
    TensorShape([2, 8, 8, 6])

    Reference:
        [Perez et al., 2018](https://arxiv.org/abs/1709.07871). Deviation: gamma is predicted as its
        distance from 1, as their code does.
    """

    def __init__(self, layer, hidden_units=None, *args, **kwargs):
        super().__init__(layer, *args, **kwargs)
        given = hidden_units is not None
        self.hidden_units = check_integer("hidden_units", hidden_units) if given else None

    def hidden_size(self):
        return self.hidden_units

    def kernel_shape(self, inputs, outputs):
        return (inputs, outputs)

    def transform(self, values, kernel):
        return ops.matmul(values, kernel)

    def check_pair(self, x_shape, condition_shape):
        over, rank = self.axes_of(x_shape), len(condition_shape)
        if rank != 2 and (rank != len(x_shape) or len(over) > 1):
            also = " or the rank of x" if len(over) == 1 else ""
            fix = "Reshape it to one vector per sample; labels need an `Embedding` first."
            self.refuse_pair(f"be [B, D]{also}", x_shape, condition_shape, fix)
        self.check_sizes(x_shape, condition_shape, (self.feature_axis(x_shape, condition_shape),))


@register
class SpatiallyAdaptiveNormalization(BaseModulation):
    """Normalizes with any norm and takes gamma and beta of each pixel from a map (SPADE).

        y = norm(x) · (1 + gamma(map)) + beta(map)

    The map, of labels or of anything else, is brought to the size of x by its nearest pixels; a
    convolution with an activation reads it, and one convolution each makes gamma and beta. So the
    map's content reaches the output although a norm removes it from x.

    Statistics over what the inner norm takes them over, by its masks and its training mode; gamma
    and beta per pixel and channel. Statistics, convolutions and affine part are computed in float32
    or wider.

    Use it in generators of images from maps: labels, depths, sketches. A condition without space
    belongs into `ConditionalNormalization`.

    Args:
        layer: The inner norm, any norm of activations of this package, built with `center=False,
            scale=False`; the paper has a `BatchNormalization` with `synchronized=True`. The two
            share one dtype policy: `dtype` if given, else the inner norm's.
        hidden_filters: Number of filters of the first convolution.
        kernel_size: Height and width of all kernels.
        activation: Activation after the first convolution.
        use_bias: If `True`, add `hidden_bias`, `gamma_bias` and `beta_bias`.
        kernel_initializer: Initializer of `gamma_kernel` and `beta_kernel`; with "zeros" training
            begins with the plain norm.
        bias_initializer: Initializer of the biases.
        hidden_kernel_initializer: Initializer of `hidden_kernel`.
        kernel_regularizer, bias_regularizer: Regularizers of all kernels and of all biases.
        kernel_constraint, bias_constraint: Constraints of all kernels and of all biases.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: List `[x, map]`; x a floating or integer tensor of rank 4, the map a floating one.
        training: Whether it is a training step; handed to the inner norm.
        mask: List of two masks. The first is the inner norm's; the second is not used.

    Input shape:
        x [B, H, W, C] and the map [B, h, w, D]; channels first where the inner norm has `axis=1`.
        Every size but C and D may be unknown.

    Output shape:
        That of x.

    Weights:
        hidden_kernel [k, k, D, F], hidden_bias [F], gamma_kernel [k, k, F, C], gamma_bias [C],
        beta_kernel [k, k, F, C], beta_bias [C], trainable, F = `hidden_filters`. The inner norm's
        own (moving_mean, moving_variance, ...) come after these.

    Raises:
        ValueError: If an argument's value, a shape or a mask does not fit, or if the inner norm has
            a gamma or beta of its own.
        TypeError: If `layer` is no norm, or the map holds integers.

    Example:

    >>> norm = BatchNormalization(center=False, scale=False)
    >>> layer = SpatiallyAdaptiveNormalization(norm, hidden_filters=8)
    >>> image, labels = np.ones((2, 4, 4, 6), "float32"), np.zeros((2, 16, 16), "int32")
    >>> layer([image, np.eye(3, dtype="float32")[labels]]).shape
    TensorShape([2, 4, 4, 6])

    Reference:
        [Park et al., 2019](https://arxiv.org/abs/1903.07291). Deviation: none.
    """

    names = ("x", "map")

    def __init__(
        self,
        layer,
        hidden_filters=128,
        kernel_size=3,
        activation="relu",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        *args,
        **kwargs,
    ):
        super().__init__(layer, activation, use_bias, kernel_initializer, *args, **kwargs)
        self.hidden_filters = check_integer("hidden_filters", hidden_filters)
        self.kernel_size = check_integer("kernel_size", kernel_size)

    def hidden_size(self):
        return self.hidden_filters

    def kernel_shape(self, inputs, outputs):
        return (self.kernel_size, self.kernel_size, inputs, outputs)

    def prepare(self, values, sizes):
        return resize_nearest(values, *sizes[1:])

    def transform(self, values, kernel):
        return ops.conv(values, kernel, padding="same", data_format="channels_last")

    def check_pair(self, x_shape, condition_shape):
        if len(x_shape) != 4 or len(condition_shape) != 4 or len(self.axes_of(x_shape)) > 1:
            fix = "Give both a height, a width and one axis of channels."
            self.refuse_pair("be of rank 4, as x", x_shape, condition_shape, fix)
        self.check_sizes(x_shape, condition_shape, (1, 2, 3))


@register
class AdaptiveInstanceNormalization(BaseConditional):
    """Gives each channel of the content the mean and standard deviation of the style's (AdaIN).

        y = σ(style) · (content - mean(content)) / σ(content) + mean(style),   σ = √(variance + ε)

    The two may have different sizes of space. There is nothing to learn: one layer serves every
    style, also one never seen in training. Training and inference are the same. The roots are
    those of positive numbers, so that gradients are finite for a constant style, too.

    Statistics over H, W, T, per sample and channel, of each input by its own mask; gamma and beta
    are the style's σ and mean, per sample and channel.

    Use it between an encoder and a decoder to transfer styles of pictures or of voices. Where the
    style is a vector that another network made, use `ConditionalNormalization` around an
    `InstanceNormalization`.

    Args:
        axis: Integer or list of integers, the axes that statistics are not taken over: -1 for
            channels last, 1 for channels first.
        epsilon: Positive float added to both variances under the roots.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: List `[content, style]`, floating or integer tensors of rank 3 or higher.
        training: Not used.
        mask: List of two masks, of the content and of the style, or `None` for either: booleans of
            its shape without `axis`; elements with `False` do not count.

    Input shape:
        Content [B, ..., C] and style [B, ..., C], or with `axis=1` [B, C, ...]; B may be 1 in the
        style. Sizes of space may differ, and every size but C may be unknown.

    Output shape:
        The content's.

    Weights:
        None.

    Raises:
        ValueError: If an argument's value, a shape or a mask does not fit.
        TypeError: If `axis` or an input is of the wrong type.

    Example:

    >>> content = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    >>> style = np.linspace([1, 2, 3], [3, 4, 5], 16, dtype="float32").reshape(1, 4, 4, 3)
    >>> AdaptiveInstanceNormalization()([content, style]).numpy().mean(axis=(0, 1, 2)).round(3)
    array([2., 3., 4.], dtype=float32)

    Reference:
        [Huang and Belongie, 2017](https://arxiv.org/abs/1703.06868). Deviation: the variance is
        biased; the authors' code divides by one less than the number of pixels.
    """

    names = ("content", "style")
    minimum_rank = 3

    def __init__(self, axis=-1, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        axes.check(axis)
        self.axis = [int(a) for a in axis] if isinstance(axis, (list, tuple)) else int(axis)
        self.epsilon = check_epsilon(epsilon)

    def check_pair(self, x_shape, condition_shape):
        over = axes.canonical(self.axis, x_shape, self.minimum_rank)
        channels = axes.sizes(over, x_shape, self.axis)
        same = len(x_shape) == len(condition_shape)
        if not same or channels != tuple(condition_shape[a] for a in over):
            fix = "Encode both with the same network."
            self.refuse_pair("have content's rank and channels", x_shape, condition_shape, fix)
        first = condition_shape[0], x_shape[0]
        if first[0] not in (1, None) and first[1] not in (first[0], None):
            fix = "Repeat the style, or pass one style."
            self.refuse_pair("have content's batch, or 1", x_shape, condition_shape, fix)

    def build_pair(self, x_shape, condition_shape):
        self.input_spec = [InputSpec(ndim=len(x_shape)), InputSpec(ndim=len(x_shape))]

    def normalize_pair(self, x, condition, training, mask, condition_mask):
        dtype = result_type(*(self._statistics_dtype(tensor) for tensor in (x, condition)))
        x, condition = ops.cast(x, dtype), ops.cast(condition, dtype)
        over = axes.canonical(self.axis, x.shape, self.minimum_rank)
        space = axes.others((0, *over), len(x.shape))
        given = axes.expand_mask(condition_mask, condition.shape, over)
        condition = visible(condition, given)
        beta, gamma = mean_and_deviation(condition, space, self.epsilon, mask=given)
        given = axes.expand_mask(mask, x.shape, over)
        x = visible(x, given)
        return standardize(x, space, gamma, beta, self.epsilon, mask=given)[0]
