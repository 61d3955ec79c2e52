"""Norms joined with an activation, and what stands in place of norms."""

import numbers

from keras import initializers, ops

from keras_norm.arguments import check_groups, check_number, register
from keras_norm.layers.base import AFFINE, BaseBatchNormalization, BaseNormalization
from keras_norm.ops import (
    affine,
    axes,
    larger,
    mean,
    mean_and_deviation,
    merge,
    moments,
    rescale,
)


@register
class EvoNormB0(BaseBatchNormalization):
    """Divides by the larger of the batch's deviation and one that grows with the input itself.

        y = gamma · x / max(√(batch variance + ε), v · x + √(instance variance + ε)) + beta

    It is norm and activation in one, found by a search over both: no activation follows it. In
    inference the batch variance is a moving one; the instance variance stays the input's own. No
    mean is subtracted and none is kept. Where the two sides of the maximum are equal, as for flat
    inputs of zeros, the gradient is that of the batch's side.

    Statistics over B, H, W, T (batch variance) and H, W, T (instance variance), per channel; gamma,
    beta and v per channel. Both variances are biased.

    Use it in place of batch normalization with its activation in convolutional networks with
    batches of 16 and more. For small batches use `EvoNormS0`.

    Args:
        axis: Integer or list of integers, the axes that gamma, beta and v span: -1 for channels
            last, 1 for channels first.
        momentum: Share of the moving variance that a batch leaves as it is, from 0 to 1. `None` is
            the plain average of the batches' variances since `reset_moving_moments()`.
        epsilon: Positive float added to both variances under the roots.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, gamma_initializer, v_initializer: Initializers of `beta`, `gamma`, `v`.
        moving_variance_initializer: Initializer of the moving variance.
        beta_regularizer, gamma_regularizer, v_regularizer: Regularizers of `beta`, `gamma`, `v`.
        beta_constraint, gamma_constraint, v_constraint: Constraints of `beta`, `gamma`, `v`.
        synchronized: If `True`, the batch variance runs over all replicas of a `tf.distribute`
            strategy, with masks too. TensorFlow only.
        freeze_statistics: If `True`, training too uses the moving variance and leaves it as it is;
            gamma, beta and v train on.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 3 or higher.
        training: Whether to use and record the variance of the batch.
        mask: Booleans of the input's shape without `axis`; elements with `False` do not count.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], v [C], trainable; moving_variance [C], not trainable. With
        `momentum=None` also moving_count [C], not trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> layer = EvoNormB0()
    >>> layer(np.ones((8, 4, 4, 3), "float32"), training=True).shape
    TensorShape([8, 4, 4, 3])

    Reference:
        [Liu et al., 2020](https://arxiv.org/abs/2004.02967). Deviation: ε is 1e-3 as in timm, the
        paper's is 1e-5; the moving variance is biased.
    """

    minimum_rank = 3
    without = frozenset({"moving_mean_initializer"})

    def __init__(
        self,
        axis=-1,
        momentum=0.9,
        epsilon=1e-3,
        center=True,
        scale=True,
        *,
        v_initializer="ones",
        v_regularizer=None,
        v_constraint=None,
        **kwargs,
    ):
        super().__init__(axis, momentum, epsilon, center, scale, **kwargs)
        self.keep_weight_arguments("v", v_initializer, v_regularizer, v_constraint)

    def build(self, input_shape):
        super().build(input_shape)
        self.v = self.add_affine("v")

    def moving_shapes(self):
        return {"moving_variance": self._feature_shape}

    def normalize(self, x, gamma, beta, training, mask):
        space = axes.others((0, *self.axes_of(x)), len(x.shape))
        if not self.uses_batch(training):
            variance = self.broadcast(self.moving_variance, x)
            _, deviation = mean_and_deviation(x, space, self.epsilon, mask=mask)
            return self._divide(x, variance, deviation, gamma, beta)
        instance = moments(x, space, mask=mask)
        weights = None if mask is None else mean(ops.cast(mask, x.dtype), space)
        batch = merge(instance, (0,), weights=weights, synchronized=self.synchronized)
        deviation = ops.sqrt(instance.variance + self.epsilon)
        y = self._divide(x, batch.variance, deviation, gamma, beta)
        self.update_moving_moments(batch, x, mask)
        return y

    def _divide(self, x, batch_variance, deviation, gamma, beta):
        own = self.broadcast(self.v, x) * x + deviation
        return affine(x / larger(ops.sqrt(batch_variance + self.epsilon), own), gamma, beta)


@register
class EvoNormS0(BaseNormalization):
    """Joins the Swish activation with division by the deviation of groups of channels.

        y = gamma · x · sigmoid(v · x) / √(variance + ε) + beta

    It is norm and activation in one, found by a search over both: no activation follows it. No mean
    is subtracted. Training and inference are the same.

    Statistics over H, W, T and the C/G channels of a group, per sample; gamma, beta and v per
    channel. The variance is that of x, and biased.

    Use it in place of group normalization with its activation, where batches are small. For plain
    group normalization, after which any activation may stand, use `GroupNormalization`.

    Args:
        groups: Number of groups, a divisor of the channels, or -1 for one group per channel.
        axis: Integer, the channel axis: -1 for channels last, 1 for channels first.
        epsilon: Positive float added to the variance under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, gamma_initializer, v_initializer: Initializers of `beta`, `gamma`, `v`.
        beta_regularizer, gamma_regularizer, v_regularizer: Regularizers of `beta`, `gamma`, `v`.
        beta_constraint, gamma_constraint, v_constraint: Constraints of `beta`, `gamma`, `v`.
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
        gamma [C], beta [C], v [C], trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit, or
            if the groups do not divide the channels.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> EvoNormS0(groups=2)(np.ones((2, 4, 4, 6), "float32")).shape
    TensorShape([2, 4, 4, 6])

    Reference:
        [Liu et al., 2020](https://arxiv.org/abs/2004.02967). Deviation: none.
    """

    single_axis = True

    def __init__(
        self,
        groups=32,
        axis=-1,
        epsilon=1e-5,
        *args,
        v_initializer="ones",
        v_regularizer=None,
        v_constraint=None,
        **kwargs,
    ):
        super().__init__(axis, epsilon, *args, **kwargs)
        self.groups = check_groups("groups", groups)
        self.keep_weight_arguments("v", v_initializer, v_regularizer, v_constraint)

    def check_features(self, input_shape):
        (channels,) = self._feature_shape
        if self.groups != -1:
            axes.check_divisor("groups", self.groups, channels, self.axis, input_shape)

    def build(self, input_shape):
        super().build(input_shape)
        self.v = self.add_affine("v")

    def normalize(self, x, gamma, beta, training, mask):
        (channel,) = self.axes_of(x)
        space = axes.others((0, channel), len(x.shape))
        groups = x.shape[channel] if self.groups == -1 else self.groups
        how = {"mask": mask, "group_axis": channel, "groups": groups}
        _, deviation = mean_and_deviation(x, space, self.epsilon, **how)
        swish = x * ops.sigmoid(self.broadcast(self.v, x) * x)
        return rescale(swish, 1.0 / deviation, gamma, beta)


@register
class ThresholdedLinearUnit(BaseNormalization):
    """Replaces what lies below a learned threshold by the threshold.

        y = max(x, tau)

    At a tie the gradient is that of x.

    Statistics over nothing: each element by itself; tau spans `axis`. Training and inference are
    the same.

    Use it after filter response normalization, whose output has no mean of 0 that a fixed threshold
    would suit. After norms with a beta it adds little to ReLU. `axis=[1, 2, 3]` learns a
    threshold for each position of an image too, as TensorFlow Addons's `TLU` does.

    Args:
        axis: Integer or list of integers, the axes that tau spans: -1 for channels last, 1 for
            channels first.
        tau_initializer: Initializer of `tau`.
        tau_regularizer: Regularizer of `tau`.
        tau_constraint: Constraint of `tau`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Not used.
        mask: Passed on; no element needs another.

    Input shape:
        [B, ..., C]; every size but those of `axis` may be unknown.

    Output shape:
        The input's.

    Weights:
        tau of the shape of `axis`, sorted, trainable.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> layer = ThresholdedLinearUnit(tau_initializer="ones")
    >>> layer(np.array([[-2.0, 0.5, 3.0]], "float32")).numpy()
    array([[1., 1., 3.]], dtype=float32)

    Reference:
        [Singh and Krishnan, 2019](https://arxiv.org/abs/1911.09737). Deviation: none.
    """

    any_rank = True
    affine_last = False
    without = AFFINE | {"epsilon"}

    def __init__(
        self, axis=-1, tau_initializer="zeros", tau_regularizer=None, tau_constraint=None, **kwargs
    ):
        super().__init__(axis, center=False, scale=False, **kwargs)
        self.keep_weight_arguments("tau", tau_initializer, tau_regularizer, tau_constraint)

    def build(self, input_shape):
        super().build(input_shape)
        self.tau = self.add_affine("tau")

    def normalize(self, x, gamma, beta, training, mask):
        return larger(x, self.broadcast(self.tau, x))


@register
class DynamicTanh(BaseNormalization):
    """Squashes each element by a tanh of learned slope, in place of a norm.

        y = gamma · tanh(alpha · x) + beta

    Layer normalization in trained transformers maps its input much like a tanh does; this layer is
    that map without the statistics.

    Statistics over nothing: each element by itself; gamma and beta span `axis`, alpha is one number
    for the layer. Training and inference are the same.

    Use it in transformers in place of `LayerNormalization` or `RMSNormalization` where a reduction
    over features is dear. It does not replace batch normalization in convolutional networks. Wide
    language models want a smaller alpha, and a larger one where attention reads the output.

    Args:
        axis: Integer or list of integers, the axes that gamma and beta span: -1 for channels last,
            1 for channels first.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        alpha_initializer: Initializer of `alpha`, or the number it starts at.
        alpha_regularizer: Regularizer of `alpha`.
        alpha_constraint: Constraint of `alpha`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Not used.
        mask: Passed on; no element needs another.

    Input shape:
        [B, ..., C]; every size but those of `axis` may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma and beta of the shape of `axis`, sorted, alpha [], trainable.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> DynamicTanh()(np.array([[0.0, 1.0, 100.0]], "float32")).numpy().round(3)
    array([[0.   , 0.462, 1.   ]], dtype=float32)

    Reference:
        [Zhu et al., 2025](https://arxiv.org/abs/2503.10622). Deviation: none.
    """

    any_rank = True
    without = frozenset({"epsilon"})

    def __init__(
        self,
        axis=-1,
        center=True,
        scale=True,
        *,
        alpha_initializer=0.5,
        alpha_regularizer=None,
        alpha_constraint=None,
        **kwargs,
    ):
        super().__init__(axis, center=center, scale=scale, **kwargs)
        if isinstance(alpha_initializer, numbers.Real):
            number = check_number("alpha_initializer", alpha_initializer)
            alpha_initializer = initializers.Constant(number)
        self.keep_weight_arguments("alpha", alpha_initializer, alpha_regularizer, alpha_constraint)

    def build(self, input_shape):
        super().build(input_shape)
        self.alpha = self.add_weight(
            name="alpha",
            shape=(),
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
            autocast=False,
        )

    def normalize(self, x, gamma, beta, training, mask):
        return affine(ops.tanh(ops.cast(self.alpha, x.dtype) * x), gamma, beta)
