"""Statistics over the features of one position: no batch, no moving moments."""

from keras_norm.arguments import check_flag, register
from keras_norm.layers.base import BaseNormalization
from keras_norm.ops import axes, root_and_quotient, standardize


@register
class LayerNormalization(BaseNormalization):
    """Normalizes each position of each sample with the mean and variance of its features.

        y = gamma · (x - mean) / √(variance + ε) + beta

    Statistics over `axis`; gamma and beta span `axis` too. Training and inference are the same. A
    drop-in for `keras.layers.LayerNormalization`: same arguments, defaults, weights and order.

    Use it in transformers and recurrent networks. For feature maps, where the channels of one
    position are too few to estimate moments from, use `GroupNormalization`.

    Args:
        axis: Integer or list of integers, the axes to normalize over.
        epsilon: Positive float added to the variance under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Not used.
        mask: Booleans of the input's shape without its last axis of `axis`; elements with `False`
            do not count. It matters only where `axis` spans more than the features.

    Input shape:
        [B, ..., C]; every size but those of `axis` may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma and beta of the shape of `axis`, sorted, trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit, or
            if Keras's deprecated `rms_scaling` is asked for (use `RMSNormalization`).
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> LayerNormalization()(np.ones((2, 5, 8), "float32")).shape
    TensorShape([2, 5, 8])

    Reference:
        [Ba et al., 2016](https://arxiv.org/abs/1607.06450). Deviation: none; ε is Keras's.
    """

    any_rank = True

    def __init__(self, *args, **kwargs):
        if kwargs.pop("rms_scaling", False):
            raise ValueError(
                "`rms_scaling` must be False: Keras deprecated it, it scales by the variance. "
                "Received: rms_scaling=True. Use `keras_norm.RMSNormalization`."
            )
        super().__init__(*args, **kwargs)

    def normalize(self, x, gamma, beta, training, mask):
        over = self.axes_of(x)
        how = {"mask": axes.varying(mask, over), "training": training}
        return standardize(x, over, gamma, beta, self.epsilon, **how)[0]


@register
class RMSNormalization(BaseNormalization):
    """Divides each position of each sample by the root mean square of its features.

        y = gamma · x / √(mean(x²) + ε)  (+ beta)

    Statistics over `axis`; gamma spans `axis` too. Training and inference are the same. A drop-in
    for `keras.layers.RMSNormalization`: same arguments, defaults and weight. That weight is called
    `scale` in files, as Keras calls it, and is the attribute `gamma` here.

    Use it in large transformers in place of `LayerNormalization`, which it matches at less work.
    Where the mean of the features carries no information, prefer `LayerNormalization`.

    Args:
        axis: Integer or list of integers, the axes to normalize over.
        epsilon: Positive float added to the mean square under the root.
        center: If `True`, add `beta`. Off by default.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        zero_centered_gamma: If `True`, the weight holds gamma - 1, as in Gemma's checkpoints.
            `gamma_initializer` still gives gamma itself; regularizer and constraint see the weight.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Not used.
        mask: Booleans of the input's shape without its last axis of `axis`; elements with `False`
            do not count. It matters only where `axis` spans more than the features.

    Input shape:
        [B, ..., C]; every size but those of `axis` may be unknown.

    Output shape:
        The input's.

    Weights:
        scale of the shape of `axis`, sorted, trainable. With `center=True` also beta.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> RMSNormalization()(np.full((1, 4), 2.0, "float32")).numpy().round(3)
    array([[1., 1., 1., 1.]], dtype=float32)

    Reference:
        [Zhang and Sennrich, 2019](https://arxiv.org/abs/1910.07467). Deviation: ε, which the paper
        has not, stands under the root, as in Keras.
    """

    any_rank = True

    def __init__(
        self, axis=-1, epsilon=1e-6, center=False, *args, zero_centered_gamma=False, **kwargs
    ):
        super().__init__(axis, epsilon, center, *args, **kwargs)
        self.zero_centered_gamma = check_flag("zero_centered_gamma", zero_centered_gamma)

    def add_affine(self, name):
        if name != "gamma":
            return super().add_affine(name)
        offset = 1.0 if self.zero_centered_gamma else 0.0
        return self.add_feature_weight(
            "scale",
            lambda shape, dtype: self.gamma_initializer(shape, dtype=dtype) - offset,
            regularizer=self.gamma_regularizer,
            constraint=self.gamma_constraint,
        )

    def normalize(self, x, gamma, beta, training, mask):
        if self.gamma is not None and self.zero_centered_gamma:  # one that is handed in is whole
            gamma = gamma + 1.0
        over = self.axes_of(x)
        how = {"mask": axes.varying(mask, over), "training": training}
        return root_and_quotient(x, over, gamma, beta, self.epsilon, **how)
