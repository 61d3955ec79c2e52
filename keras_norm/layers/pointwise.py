"""Statistics over the channels of one pixel, with nothing to learn."""

import math

from keras import ops

from keras_norm.arguments import check_integer, check_number, register
from keras_norm.layers.base import AFFINE, BaseNormalization
from keras_norm.ops import root_and_quotient, window_sum

_SCALE = 256.0  # a power of two, so that it rounds nothing


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
        over = self.axes_of(x)
        return root_and_quotient(x, over, gamma, beta, self.epsilon, training=training)


@register
class LocalResponseNormalization(BaseNormalization):
    """Divides each channel by a power of the energy of its neighbouring channels.

        y = x / (bias + alpha · Σ x²)^power

    The sum runs over the channel itself and `depth_radius` channels on each side, fewer at the
    edges. It is a sum, as in the paper and in `tf.nn.local_response_normalization`, whose defaults
    are others, and whose gradient cannot be differentiated again. PyTorch's layer takes the mean:
    its alpha is `alpha · (2 · depth_radius + 1)`, and its size `2 · depth_radius + 1`.

    Statistics over a window of `axis`; no gamma and no beta. Training and inference are the same.

    Use it to run or to port networks of the time before batch normalization: AlexNet, GoogLeNet.
    In new networks use `BatchNormalization` or `GroupNormalization`.

    Args:
        axis: Integer, the channel axis: -1 for channels last, 1 for channels first.
        depth_radius: Number of neighbours on each side, an integer of at least 0.
        bias: Positive float added to the weighted sum.
        alpha: Weight of the sum, at least 0.
        power: Exponent of the divisor, at least 0.
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
        None.

    Raises:
        ValueError: If an argument's value or the input's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> layer = LocalResponseNormalization(depth_radius=1, bias=1.0, alpha=1.0, power=0.5)
    >>> layer(np.array([[0.0, 0.0, 0.0, 3.0, 4.0]], "float32")).numpy().round(3)
    array([[0.   , 0.   , 0.   , 0.588, 0.784]], dtype=float32)

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks).
        Deviation: none.
    """

    single_axis = True
    any_rank = True
    affine_last = False
    without = AFFINE | {"epsilon"}

    def __init__(self, axis=-1, depth_radius=2, bias=2.0, alpha=1e-4, power=0.75, **kwargs):
        super().__init__(axis, center=False, scale=False, **kwargs)
        self.depth_radius = check_integer("depth_radius", depth_radius, low=0)
        self.bias = check_number("bias", bias, above=0.0)
        self.alpha = check_number("alpha", alpha, low=0.0)
        self.power = check_number("power", power, low=0.0)

    def normalize(self, x, gamma, beta, training, mask):
        (channel,) = self.axes_of(x)
        # x is scaled before it is squared, and the power is taken by logarithms: the gradients of
        # alpha · x² and of `ops.power` hold numbers that underflow at x = 1e17.
        scaled = x * (math.sqrt(self.alpha) / _SCALE)
        divisor = self.bias / _SCALE**2 + window_sum(scaled * scaled, channel, self.depth_radius)
        return x * ops.exp(-self.power * (ops.log(divisor) + 2.0 * math.log(_SCALE)))
