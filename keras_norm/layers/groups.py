"""Statistics over the positions of one sample, per channel or per group of channels."""

from keras import initializers, ops

from keras_norm.arguments import check_flag, check_groups, register
from keras_norm.layers.base import BaseNormalization
from keras_norm.ops import (
    affine,
    axes,
    relative_length,
    root_and_quotient,
    standardize,
)

_AUTHORS_EPSILON = initializers.Constant(1e-4)  # what a learned ε starts at


@register
class GroupNormalization(BaseNormalization):
    """Normalizes groups of channels of each sample with their mean and variance.

        y = gamma · (x - mean) / √(variance + ε) + beta

    Statistics over H, W, T and the C/G channels of a group, per sample; gamma and beta per channel.
    Training and inference are the same. Only tables of one number per channel are ever reshaped,
    so no tensor has a rank above the input's. A drop-in for `keras.layers.GroupNormalization`: same
    arguments, defaults, weights and order.

    Use it where batches are small: detection, segmentation, video, diffusion. With large batches
    of images `BatchNormalization` trains a little better and folds away in inference.

    Args:
        groups: Number of groups, a divisor of the channels, or -1 for one group per channel.
        axis: Integer, the channel axis: -1 for channels last, 1 for channels first.
        epsilon: Positive float added to the variance under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        group_size: Number of channels of a group, in place of `groups`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Not used.
        mask: Booleans of the input's shape without `axis`; elements with `False` do not count.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit, or
            if the groups do not divide the channels.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> GroupNormalization(groups=2)(np.ones((2, 4, 4, 6), "float32")).shape
    TensorShape([2, 4, 4, 6])

    Reference:
        [Wu and He, 2018](https://arxiv.org/abs/1803.08494). Deviation: none; ε is Keras's.
    """

    single_axis = True

    def __init__(self, groups=32, *args, group_size=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.groups = check_groups("groups", groups)
        self.group_size = group_size
        if group_size is not None:
            self.group_size = check_groups("group_size", group_size, per_channel=False)
        if group_size is not None and groups != 32:
            raise ValueError(
                "`groups` must be left at its default where `group_size` is given. Received: "
                f"groups={groups}, group_size={group_size}. Pass one of the two."
            )

    def check_features(self, input_shape):
        (channels,) = self._feature_shape
        argument = "groups" if self.group_size is None else "group_size"
        value = getattr(self, argument)
        if value != -1:
            axes.check_divisor(argument, value, channels, self.axis, input_shape)
        self._groups = channels if value == -1 else value
        if self.group_size is not None:
            self._groups = channels // self.group_size

    def normalize(self, x, gamma, beta, training, mask):
        (channel,) = self.axes_of(x)
        space = axes.others((0, channel), len(x.shape))
        how = {"mask": mask, "group_axis": channel, "groups": self._groups, "training": training}
        return standardize(x, space, gamma, beta, self.epsilon, **how)[0]


@register
class InstanceNormalization(BaseNormalization):
    """Normalizes each channel of each sample with its mean and variance over all positions.

        y = gamma · (x - mean) / √(variance + ε) + beta

    Statistics over H, W, T, per sample and channel; gamma and beta per channel. Training and
    inference are the same. It equals `GroupNormalization(groups=-1)` and takes the place of
    TensorFlow Addons's layer of the same name, whose defaults it has.

    Use it where contrast carries no information: style transfer, image translation, registration.
    For recognition, where it does, use `GroupNormalization`.

    Args:
        axis: Integer or list of integers, the axes that gamma and beta span: -1 for channels last,
            1 for channels first.
        epsilon: Positive float added to the variance under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 3 or higher.
        training: Not used.
        mask: Booleans of the input's shape without `axis`; elements with `False` do not count.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> InstanceNormalization()(np.ones((2, 4, 4, 3), "float32")).shape
    TensorShape([2, 4, 4, 3])

    Reference:
        [Ulyanov et al., 2016](https://arxiv.org/abs/1607.08022). Deviation: ε is Keras's 1e-3; the
        authors' code has 1e-5.
    """

    minimum_rank = 3

    def normalize(self, x, gamma, beta, training, mask):
        space = axes.others((0, *self.axes_of(x)), len(x.shape))
        return standardize(x, space, gamma, beta, self.epsilon, mask=mask, training=training)[0]


@register
class FilterResponseNormalization(BaseNormalization):
    """Divides each channel of each sample by its root mean square over all positions.

        y = gamma · x / √(mean(x²) + ε) + beta,      ε = epsilon + |learned_epsilon|

    Statistics over H, W, T, per sample and channel; gamma and beta per channel. Training and
    inference are the same. The learned part of ε is one number, and off by default.

    Use it in convolutional networks with small batches, followed by a thresholded linear unit,
    which takes the place of the ReLU; the authors raise the learning rate slowly at the start. For
    maps of one position, where the quotient is little more than a sign, learn ε or use
    `LayerNormalization`.

    Args:
        axis: Integer or list of integers, the axes that gamma and beta span: -1 for channels last,
            1 for channels first.
        epsilon: Positive float added to the mean square under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        learned_epsilon: If `True`, learn a number whose magnitude is added to `epsilon`.
        learned_epsilon_initializer: Initializer of that number.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 3 or higher.
        training: Not used.
        mask: Booleans of the input's shape without `axis`; elements with `False` do not count.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], trainable. With `learned_epsilon=True` also learned_epsilon [],
        trainable; it is the attribute `added_epsilon`.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> FilterResponseNormalization()(np.full((1, 2, 2, 1), -3.0)).numpy().min().round(3)
    np.float32(-1.0)

    Reference:
        [Singh and Krishnan, 2019](https://arxiv.org/abs/1911.09737). Deviation: none; the threshold
        is an activation of its own.
    """

    minimum_rank = 3

    def __init__(
        self,
        axis=-1,
        epsilon=1e-6,
        *args,
        learned_epsilon=False,
        learned_epsilon_initializer=_AUTHORS_EPSILON,
        **kwargs,
    ):
        super().__init__(axis, epsilon, *args, **kwargs)
        self.learned_epsilon = check_flag("learned_epsilon", learned_epsilon)
        self.learned_epsilon_initializer = initializers.get(learned_epsilon_initializer)
        self.added_epsilon = None

    def build(self, input_shape):
        super().build(input_shape)
        if self.learned_epsilon:
            self.added_epsilon = self.add_weight(
                name="learned_epsilon",
                shape=(),
                initializer=self.learned_epsilon_initializer,
                autocast=False,
            )

    def normalize(self, x, gamma, beta, training, mask):
        space = axes.others((0, *self.axes_of(x)), len(x.shape))
        epsilon = self.epsilon
        if self.added_epsilon is not None:
            epsilon = epsilon + ops.abs(ops.cast(self.added_epsilon, x.dtype))
        return root_and_quotient(x, space, gamma, beta, epsilon, mask=mask, training=training)


@register
class GlobalResponseNormalization(BaseNormalization):
    """Strengthens the channels of a sample that respond above its average, and adds the input.

        y = x + gamma · x · n + beta,      n = ‖x‖ / (mean_c ‖x‖ + ε)

    ‖x‖ is the root of the sum of squares of one channel over all positions. gamma and beta start at
    0, and the layer as the identity.

    Statistics over H, W, T, per sample and channel, then C; gamma and beta per channel. Training
    and inference are the same.

    Use it inside a block, between the activation of an expanding layer and the layer that contracts
    again, as ConvNeXt V2 does against channels that all say the same. It does not make the scale of
    activations uniform: for that, use `LayerNormalization` or `GroupNormalization`.

    Args:
        axis: Integer or list of integers, the axes that gamma and beta span: -1 for channels last,
            1 for channels first.
        epsilon: Positive float added to the mean of the channels' norms.
        center: If `True`, add `beta`.
        scale: If `True`, multiply x · n by `gamma`.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 3 or higher.
        training: Not used.
        mask: Booleans of the input's shape without `axis`; elements with `False` do not count.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> GlobalResponseNormalization()(np.full((1, 2, 2, 3), 5.0, "float32")).numpy().max()
    np.float32(5.0)

    Reference:
        [Woo et al., 2023](https://arxiv.org/abs/2301.00808). Deviation: none.
    """

    minimum_rank = 3
    affine_last = False

    def __init__(
        self,
        axis=-1,
        epsilon=1e-6,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="zeros",
        *args,
        **kwargs,
    ):
        super().__init__(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, *args, **kwargs
        )

    def normalize(self, x, gamma, beta, training, mask):
        channels = self.axes_of(x)
        space = axes.others((0, *channels), len(x.shape))
        share = relative_length(x, space, channels, self.epsilon, mask)
        return affine(x, 1.0 + affine(share, gamma, None), beta)
