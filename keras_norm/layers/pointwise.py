"""Statistics over the channels of one pixel, with nothing to learn."""

from keras_norm.arguments import register
from keras_norm.layers.base import BaseNormalization
from keras_norm.ops import mean_square, normalize_by_root


@register
class PixelNormalization(BaseNormalization):
    """Divides the feature vector of each pixel by its root mean square.

        y = x / √(mean_c(x²) + ε)

    Statistics over `axis`; no gamma and no beta, unless asked for. Training and inference are the
    same. The arithmetic is float32 or wider: ε = 1e-8 is zero in float16.

    Use it in generators, after the activation of each convolution, and on latent vectors. For a
    learned scale, or in transformers, use `RMSNormalization`.

    Args:
        axis: Integer or list of integers, the axes to normalize over.
        epsilon: Positive float added to the mean square under the root.
        center: If `True`, add `beta`. Off by default.
        scale: If `True`, multiply by `gamma`. Off by default.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Not used.
        mask: Not used: a pixel's channels are masked together.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        None. With `scale=True` gamma [C], with `center=True` beta [C], trainable.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> PixelNormalization()(np.full((1, 2, 2, 4), 3.0, "float32")).numpy().max()
    np.float32(1.0)

    Reference:
        [Karras et al., 2018](https://arxiv.org/abs/1710.10196). Deviation: none.
    """

    any_rank = True

    def __init__(self, axis=-1, epsilon=1e-8, center=False, scale=False, *args, **kwargs):
        super().__init__(axis, epsilon, center, scale, *args, **kwargs)

    def normalize(self, x, gamma, beta, training, mask):
        square = mean_square(x, self.axes_of(x))
        return normalize_by_root(x, square, gamma, beta, self.epsilon)
