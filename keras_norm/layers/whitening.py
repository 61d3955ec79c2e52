"""Statistics over the batch and all positions: the covariance of each group of channels."""

import numpy as np
from keras import ops

from keras_norm.arguments import check_integer, register
from keras_norm.layers.base import BaseBatchNormalization
from keras_norm.ops import whitening


def _identities(shape, dtype=None):
    """Initializer of [G, D, D]: no group is changed."""
    return ops.convert_to_tensor(np.broadcast_to(np.eye(shape[-1]), shape), dtype=dtype)


class BaseWhitening(BaseBatchNormalization):
    """Base of every layer that multiplies groups of channels by a whitening matrix.

    A layer states `inverse_root`, how it makes the matrix from the covariance.
    """

    single_axis = True
    without = frozenset({"moving_variance_initializer"})
    moving_matrix_initializer = staticmethod(_identities)

    def __init__(
        self,
        axis=-1,
        momentum=0.9,
        epsilon=1e-5,
        center=True,
        scale=True,
        *,
        group_size=64,
        **kwargs,
    ):
        super().__init__(axis, momentum, epsilon, center, scale, **kwargs)
        self.group_size = check_integer("group_size", group_size)

    def inverse_root(self, covariances):
        """Matrices [G, D, D] from covariances [G, D, D]."""
        raise NotImplementedError

    def check_features(self, input_shape):
        (channels,) = self._feature_shape
        size = min(self.group_size, channels)
        if channels % size:
            divisors = [str(d) for d in range(1, size) if channels % d == 0]
            raise ValueError(
                "`group_size` must divide the number of channels, or be no less than it. Received: "
                f"group_size={self.group_size} ({channels} channels on axis {self.axis}, input "
                f"shape {tuple(input_shape)}). Use one of {', '.join(divisors)}, or {channels} for "
                "one group."
            )
        self._matrix_shape = (channels // size, size, size)

    def moving_shapes(self):
        return {"moving_mean": self._feature_shape, "moving_matrix": self._matrix_shape}

    def normalize(self, x, gamma, beta, training, mask):
        (channel,) = self.axes_of(x)
        if not self.uses_batch(training):
            mean = self.broadcast(self.moving_mean, x)
            matrices = ops.cast(self.moving_matrix, x.dtype)
            return whitening.apply_matrices(x, mean, matrices, channel, gamma, beta)
        if mask is not None:  # a position counts as a whole
            mask = ops.all(mask, axis=channel, keepdims=True)
        mean, matrices, grouped = whitening.batch_whitening(
            x,
            channel,
            self._matrix_shape[0],
            self.epsilon,
            self.inverse_root,
            mask=mask,
            synchronized=self.synchronized,
        )
        y = whitening.apply_grouped(grouped, matrices, x, channel, gamma, beta)
        self.update_moving({"moving_mean": self._flat(mean), "moving_matrix": matrices}, x, mask)
        return y

    def move(self, old, new, rate):
        matrix_rate = rate
        if self.momentum is None:  # a rate for each channel: here, for each row of the matrices
            groups, size, _ = self._matrix_shape
            matrix_rate = ops.reshape(rate * ops.ones_like(old["moving_mean"]), (groups, size, 1))
        rates = {"moving_mean": rate, "moving_matrix": matrix_rate}
        return {name: old[name] + rates[name] * (new[name] - old[name]) for name in old}


@register
class IterativeNormalization(BaseWhitening):
    """Whitens groups of channels with a few Newton–Schulz iterations (IterNorm).

        y = gamma · (x - mean) P_T / √tr Σ + beta,      Σ = covariance + ε · I
        P_0 = I,   P_{k+1} = ½ (3 P_k - P_k³ Σ / tr Σ)

    Channels of a group leave it uncorrelated and of like variance: with T iterations the large
    directions of Σ are whitened and the small ones, mostly noise, only in part. In training mean
    and Σ are the batch's; in inference the moving mean and the moving average of the matrix are
    used, a convolution of size 1 with constant weights.

    Statistics over B and all of H, W, T, per group of channels; gamma and beta per channel. Its
    gradients are finite for any batch, of fewer samples than channels too.

    Use it as the first norm of a network, before the first skip connection or before the
    classifier, in place of `BatchNormalization`; everywhere it costs more than it gives. A batch
    should have several times more positions than a group has channels: use a smaller `group_size`
    where it has not.

    Args:
        axis: Integer, the channel axis: -1 for channels last, 1 for channels first.
        momentum: Share of the moving statistics that a batch leaves as it is, from 0 to 1. `None`
            is the plain average of all batches since `reset_moving_moments()`.
        epsilon: Positive float added to the covariance's diagonal.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        group_size: Number of neighbouring channels that are whitened together, a divisor of the
            channels; all of them where there are fewer.
        iterations: Number of iterations T; the paper searches from 3 to 8.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        moving_mean_initializer: Initializer of the moving mean; the matrices begin as identities.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        synchronized: If `True`, statistics run over all replicas of a `tf.distribute` strategy,
            with masks too. TensorFlow only.
        freeze_statistics: If `True`, training too uses the moving statistics and leaves them as
            they are; gamma and beta train on.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Whether to use and record statistics of the batch.
        mask: Booleans of the input's shape without `axis`; positions with `False` do not count. A
            mask with `axis` counts the positions of which all channels do.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], trainable; moving_mean [C], moving_matrix [G, D, D] of G groups of D
        channels, not trainable. With `momentum=None` also moving_count [C], not trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit, or
            if the groups do not divide the channels.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> layer = IterativeNormalization(group_size=2)
    >>> layer(np.ones((8, 4, 4, 6), "float32"), training=True).shape
    TensorShape([8, 4, 4, 6])

    Reference:
        [Huang et al., 2019](https://arxiv.org/abs/1904.03441), with the authors' ε, T and
        momentum, and 64 channels to a group as they advise. Deviation: channels that `group_size`
        does not divide are an error; the authors halve the size until it does.
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.9,
        epsilon=1e-5,
        center=True,
        scale=True,
        *,
        group_size=64,
        iterations=5,
        **kwargs,
    ):
        super().__init__(axis, momentum, epsilon, center, scale, group_size=group_size, **kwargs)
        self.iterations = check_integer("iterations", iterations)

    def inverse_root(self, covariances):
        return whitening.newton_schulz(covariances, [1.0] * self.iterations)


@register
class DecorrelatedBatchNormalization(BaseWhitening):
    """Whitens groups of channels exactly, by the rotation-free (ZCA) whitening matrix.

        y = gamma · (x - mean) Σ^(-1/2) + beta,      Σ = covariance + ε · I

    The covariance of a group's channels becomes the identity. Of all matrices that achieve it
    Σ^(-1/2) = U Λ^(-1/2) Uᵀ changes the data the least; PCA's Λ^(-1/2) Uᵀ swaps axes from step to
    step, which prevents learning. In training mean and Σ are the batch's; in inference the moving
    mean and the moving average of the matrix are used, a convolution of size 1 with constant
    weights.

    Statistics over B and all of H, W, T, per group of channels; gamma and beta per channel. The
    matrix comes from an iteration of products that differentiates to any order, so gradients are
    finite where eigenvalues coincide and where samples are fewer than channels.

    Use it where whitening has to be exact; `IterativeNormalization` trains as well or better and
    costs a fifth. A batch should have several times more positions than a group has channels: with
    fewer, directions without data are scaled by 1/√ε in inference.

    Args:
        axis: Integer, the channel axis: -1 for channels last, 1 for channels first.
        momentum: Share of the moving statistics that a batch leaves as it is, from 0 to 1. `None`
            is the plain average of all batches since `reset_moving_moments()`.
        epsilon: Positive float added to the covariance's diagonal.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        group_size: Number of neighbouring channels that are whitened together, a divisor of the
            channels; all of them where there are fewer.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        moving_mean_initializer: Initializer of the moving mean; the matrices begin as identities.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        synchronized: If `True`, statistics run over all replicas of a `tf.distribute` strategy,
            with masks too. TensorFlow only.
        freeze_statistics: If `True`, training too uses the moving statistics and leaves them as
            they are; gamma and beta train on.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Whether to use and record statistics of the batch.
        mask: Booleans of the input's shape without `axis`; positions with `False` do not count. A
            mask with `axis` counts the positions of which all channels do.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], trainable; moving_mean [C], moving_matrix [G, D, D] of G groups of D
        channels, not trainable. With `momentum=None` also moving_count [C], not trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit, or
            if the groups do not divide the channels.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> layer = DecorrelatedBatchNormalization(group_size=3)
    >>> layer(np.ones((8, 4, 4, 6), "float32"), training=True).shape
    TensorShape([8, 4, 4, 6])

    Reference:
        [Huang et al., 2018](https://arxiv.org/abs/1804.08450), with 16 channels to a group and the
        moving average of the matrix, not of Σ, as theirs. Deviation: Σ^(-1/2) is computed without
        an eigendecomposition, to the same precision; γ begins at 1; ε is Keras's.
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.9,
        epsilon=1e-3,
        center=True,
        scale=True,
        *,
        group_size=16,
        **kwargs,
    ):
        super().__init__(axis, momentum, epsilon, center, scale, group_size=group_size, **kwargs)

    def inverse_root(self, covariances):
        return whitening.inverse_sqrt(covariances)
