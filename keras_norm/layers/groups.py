"""Statistics over the positions of one sample, per channel or per group of channels."""

from keras_norm.arguments import check_groups, register
from keras_norm.layers.base import BaseNormalization
from keras_norm.ops import axes, moments, normalize


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
        statistics = moments(x, space, mask=mask, group_axis=channel, groups=self._groups)
        return normalize(x, statistics, gamma, beta, self.epsilon)


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
        return normalize(x, moments(x, space, mask=mask), gamma, beta, self.epsilon)
