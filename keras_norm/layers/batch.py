"""Statistics over the batch and all positions: one mean and one variance per channel."""

from keras import ops

from keras_norm.arguments import check_integer, check_number, check_ramp, register
from keras_norm.layers.base import BaseBatchNormalization
from keras_norm.ops import affine, axes, centre, location, mean, merge, moments, normalize


@register
class BatchNormalization(BaseBatchNormalization):
    """Normalizes each channel with the mean and variance of the batch.

        y = gamma · (x - mean) / √(variance + ε) + beta

    In training the moments are the batch's; in inference they are moving averages,
    `moving = momentum · moving + (1 - momentum) · batch`.

    Statistics over B and all of H, W, T; gamma and beta per channel. The variance is biased, the
    moving one too. A drop-in for `keras.layers.BatchNormalization`: same arguments, defaults,
    weights and order, and `trainable=False` means inference mode.

    Use it for convolutional networks with batches of 16 and more. With small batches the moments
    are noisy: use `GroupNormalization` or `BatchRenormalization`. A bias before it is redundant.

    Args:
        axis: Integer or list of integers, the axes that gamma and beta span: -1 for channels last,
            1 for channels first.
        momentum: Share of the moving moments that a batch leaves as it is, from 0 to 1. `None` is
            the plain average of all batches since `reset_moving_moments()`.
        epsilon: Positive float added to the variance under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, beta_regularizer, beta_constraint: What `beta` starts at and must obey.
        gamma_initializer, gamma_regularizer, gamma_constraint: Likewise for `gamma`.
        moving_mean_initializer, moving_variance_initializer: Initializers of the moving moments.
        synchronized: If `True`, moments run over all replicas of a `tf.distribute` strategy, with
            masks too. TensorFlow only.
        freeze_statistics: If `True`, training too normalizes with the moving moments and leaves
            them as they are; gamma and beta train on.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Whether to use and record moments of the batch.
        mask: Booleans of the input's shape without `axis`; elements with `False` do not count.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], trainable; moving_mean [C], moving_variance [C], not trainable.
        With `momentum=None` also moving_count [C], not trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit, or
            if Keras's `renorm` is asked for (use `BatchRenormalization`).
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> layer = BatchNormalization(momentum=0.9)
    >>> layer(np.ones((8, 4, 4, 3), "float32"), training=True).shape
    TensorShape([8, 4, 4, 3])

    Reference:
        [Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167). Deviation: the moving variance
        is the biased one, as in Keras.
    """

    def __init__(self, *args, **kwargs):
        clipping = kwargs.pop("renorm_clipping", None)
        kwargs.pop("renorm_momentum", None)
        if kwargs.pop("renorm", False) or clipping is not None:
            raise ValueError(
                "`renorm` must be False and `renorm_clipping` None in BatchNormalization. "
                f"Received: renorm_clipping={clipping!r} or renorm=True. "
                "Use `keras_norm.BatchRenormalization(rmax=..., dmax=...)`."
            )
        super().__init__(*args, **kwargs)

    def normalize(self, x, gamma, beta, training, mask):
        if not self.uses_batch(training):
            return normalize(x, self.moving_moments(x), gamma, beta, self.epsilon)
        y, batch = self.standardize_batch(x, gamma, beta, mask)
        self.update_moving_moments(batch, x, mask)
        return y


@register
class BatchRenormalization(BaseBatchNormalization):
    """Normalizes each channel with the batch's moments, corrected towards the moving ones.

        y = gamma · ((x - mean) / σ_batch · r + d) + beta,      σ = √(variance + ε)
        r = clip(σ_batch / σ_moving, 1/rmax, rmax)
        d = clip((mean - moving_mean) / σ_moving, -dmax, dmax)

    No gradient runs through r and d. Within the limits the output equals the inference output, so
    that training and inference agree even for small or dependent batches. With `rmax=1, dmax=0`
    the layer is batch normalization, which is how training begins: the limits grow linearly, from
    (1, 0) at the first step of a ramp to (rmax, dmax) at its last. The step is a weight, so the
    schedule runs in compiled graphs and goes on after loading.

    Statistics over B and all of H, W, T; gamma and beta per channel. The moving standard deviation
    is what is averaged; it is stored as `moving_variance` = σ² - ε, so that the weights are those
    of `BatchNormalization` and one more.

    Use it in place of `BatchNormalization` where batches are small or their samples alike. With
    batches of one sample of few positions, use `GroupNormalization`.

    Args:
        axis: Integer or list of integers, the axes that gamma and beta span: -1 for channels last,
            1 for channels first.
        momentum: Share of the moving moments that a batch leaves as it is, from 0 to 1. `None` is
            the plain average of all batches since `reset_moving_moments()`.
        epsilon: Positive float added to the variance under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, beta_regularizer, beta_constraint: What `beta` starts at and must obey.
        gamma_initializer, gamma_regularizer, gamma_constraint: Likewise for `gamma`.
        moving_mean_initializer, moving_variance_initializer: Initializers of the moving moments.
        synchronized: If `True`, moments run over all replicas of a `tf.distribute` strategy, with
            masks too. TensorFlow only.
        freeze_statistics: If `True`, training too normalizes with the moving moments and leaves
            them and the step as they are; gamma and beta train on.
        rmax: Upper limit of r at the end of its ramp, at least 1.
        dmax: Limit of |d| at the end of its ramp, at least 0.
        rmin: Lower limit of r at the end of its ramp, from 0 to 1. `None` ties it to 1/rmax.
        rmax_ramp: Pair of steps (first, last) between which r's limits grow, or `None` for full
            limits from the start.
        dmax_ramp: Likewise for d.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Whether to use and record moments of the batch.
        mask: Booleans of the input's shape without `axis`; elements with `False` do not count.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], trainable; moving_mean [C], moving_variance [C], step [] (int32), not
        trainable. With `momentum=None` also moving_count [C], not trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> layer = BatchRenormalization(rmax=3.0, dmax=5.0, rmax_ramp=(100, 800), dmax_ramp=(100, 500))
    >>> layer(np.ones((2, 4, 4, 3), "float32"), training=True).shape
    TensorShape([2, 4, 4, 3])

    Reference:
        [Ioffe, 2017](https://arxiv.org/abs/1702.03275): moments, moving averages and ramps are the
        paper's (r from step 5,000 to 40,000, d from 5,000 to 25,000). Deviation: the moving σ
        starts at √(1 + ε).
    """

    def __init__(
        self,
        *args,
        rmax=3.0,
        dmax=5.0,
        rmin=None,
        rmax_ramp=(5000, 40000),
        dmax_ramp=(5000, 25000),
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.rmax = check_number("rmax", rmax, low=1.0)
        self.dmax = check_number("dmax", dmax, low=0.0)
        self.rmin = None if rmin is None else check_number("rmin", rmin, low=0.0, high=1.0)
        self.rmax_ramp = check_ramp("rmax_ramp", rmax_ramp)
        self.dmax_ramp = check_ramp("dmax_ramp", dmax_ramp)

    def build(self, input_shape):
        super().build(input_shape)
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def limits(self, dtype="float32"):
        """The limits (rmin, rmax, dmax) that hold at the present step."""
        rmax = 1.0 + (self.rmax - 1.0) * self._grown(self.rmax_ramp, dtype)
        dmax = self.dmax * self._grown(self.dmax_ramp, dtype)
        if self.rmin is None:
            return 1.0 / rmax, rmax, dmax
        return 1.0 + (self.rmin - 1.0) * self._grown(self.rmax_ramp, dtype), rmax, dmax

    def _grown(self, ramp, dtype):
        """How far a ramp has come, from 0 to 1."""
        if ramp is None:
            return ops.ones((), dtype=dtype)
        first, last = ramp
        # The last step is reached also where it is the first: a ramp may be a jump.
        passed = ops.cast(self.step - first, dtype) / max(last - first, 1)
        return ops.where(self.step >= last, ops.ones_like(passed), ops.clip(passed, 0.0, 1.0))

    def normalize(self, x, gamma, beta, training, mask):
        moving = self.moving_moments(x)
        if not self.uses_batch(training):
            return normalize(x, moving, gamma, beta, self.epsilon)
        rmin, rmax, dmax = self.limits(x.dtype)
        deviation = ops.sqrt(moving.variance + self.epsilon)

        def correct(batch, gamma, beta):  # the batch's moments as constants
            r = ops.clip(ops.sqrt(batch.variance + self.epsilon) / deviation, rmin, rmax)
            # shift and moving_mean are close, their difference is exact; then comes the residual.
            d = ops.clip((batch.shift - moving.shift + batch.residual) / deviation, -dmax, dmax)
            return affine(r, gamma, None), affine(d, gamma, beta)

        y, batch = self.standardize_batch(x, gamma, beta, mask, correct)
        self.update_moving_moments(batch, x, mask)
        self.step.assign(self.step + 1)
        return y

    def move(self, old, new, rate):
        moving, batch = (
            ops.sqrt(statistics["moving_variance"] + self.epsilon) for statistics in (old, new)
        )
        moved = moving + rate * (batch - moving)
        variance = ops.maximum(moved * moved - self.epsilon, 0.0)
        return {**super().move(old, new, rate), "moving_variance": variance}


@register
class GhostBatchNormalization(BaseBatchNormalization):
    """Normalizes each channel with the moments of small parts of the batch.

        y = gamma · (x - mean_ghost) / √(variance_ghost + ε) + beta

    In training the batch is cut into ghost batches of neighbouring samples: as few as can be, of at
    most `virtual_batch_size` samples, none larger than another by more than one sample. Inference,
    weights and moving moments, those of whole batches, are `BatchNormalization`'s.

    Statistics over the samples of a ghost batch and all of H, W, T; gamma and beta per channel.

    Use it where large batches generalize worse than small ones: noisy moments regularize. Where
    small batches do harm, use `GroupNormalization`.

    Args:
        axis: Integer or list of integers, the axes that gamma and beta span: -1 for channels last,
            1 for channels first.
        momentum: Share of the moving moments that a batch leaves as it is, from 0 to 1. `None` is
            the plain average of all batches since `reset_moving_moments()`.
        epsilon: Positive float added to the variance under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, beta_regularizer, beta_constraint: What `beta` starts at and must obey.
        gamma_initializer, gamma_regularizer, gamma_constraint: Likewise for `gamma`.
        moving_mean_initializer, moving_variance_initializer: Initializers of the moving moments.
        freeze_statistics: If `True`, training too normalizes with the moving moments and leaves
            them as they are; gamma and beta train on.
        virtual_batch_size: Largest number of samples of a ghost batch.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Whether to use moments of ghost batches, and record those of the batch.
        mask: Booleans of the input's shape without `axis`; elements with `False` do not count.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        gamma [C], beta [C], trainable; moving_mean [C], moving_variance [C], not trainable.
        With `momentum=None` also moving_count [C], not trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> layer = GhostBatchNormalization(virtual_batch_size=32)
    >>> layer(np.ones((80, 4, 4, 3), "float32"), training=True).shape  # 27 + 27 + 26 samples
    TensorShape([80, 4, 4, 3])

    Reference:
        [Hoffer et al., 2017](https://arxiv.org/abs/1705.08741). Deviation: there one ghost after
        another enters the moving moments, here the whole batch, spread between ghosts included.
    """

    without = frozenset({"synchronized"})

    def __init__(self, *args, virtual_batch_size=128, **kwargs):
        super().__init__(*args, **kwargs)
        self.virtual_batch_size = check_integer("virtual_batch_size", virtual_batch_size)

    def normalize(self, x, gamma, beta, training, mask):
        if not self.uses_batch(training):
            return normalize(x, self.moving_moments(x), gamma, beta, self.epsilon)
        space = axes.others((0, *self.axes_of(x)), len(x.shape))
        samples = moments(x, space, mask=mask)
        weights = None if mask is None else mean(ops.cast(mask, x.dtype), space)
        ghosts = merge(samples, (), weights=weights, run=self.virtual_batch_size)
        y = normalize(x, ghosts, gamma, beta, self.epsilon)
        self.update_moving_moments(merge(samples, (0,), weights=weights), x, mask)
        return y


@register
class MeanOnlyBatchNormalization(BaseBatchNormalization):
    """Subtracts the mean of the batch from each channel.

        y = x - mean + beta

    In inference the mean is a moving average. Statistics over B and all of H, W, T; beta per
    channel. There is no variance, no ε and no gamma.

    Use it after a layer with normalized weights, which set the scale without the batch's noise.
    After any other layer use `BatchNormalization`.

    Args:
        axis: Integer or list of integers, the axes that beta spans: -1 or, channels first, 1.
        momentum: Share of the moving mean that a batch leaves as it is, from 0 to 1. `None` is the
            plain average of all batches since `reset_moving_moments()`.
        center: If `True`, add `beta`.
        beta_initializer, beta_regularizer, beta_constraint: What `beta` starts at and must obey.
        moving_mean_initializer: Initializer of the moving mean.
        synchronized: If `True`, the mean runs over all replicas of a `tf.distribute` strategy, with
            masks too. TensorFlow only.
        freeze_statistics: If `True`, training too subtracts the moving mean and leaves it as it is;
            beta trains on.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Whether to use and record the mean of the batch.
        mask: Booleans of the input's shape without `axis`; elements with `False` do not count.

    Input shape:
        [B, ..., C], or with `axis=1` [B, C, ...]; every size but C may be unknown.

    Output shape:
        The input's.

    Weights:
        beta [C], trainable; moving_mean [C], not trainable. With `momentum=None` also moving_count
        [C], not trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> MeanOnlyBatchNormalization()(np.array([[1.0], [3.0]]), training=True).numpy().tolist()
    [[-1.0], [1.0]]

    Reference:
        [Salimans and Kingma, 2016](https://arxiv.org/abs/1602.07868). Deviation: none.
    """

    affine_last = False
    without = frozenset({"epsilon", "scale", "moving_variance_initializer"}) | {
        f"gamma_{what}" for what in ("initializer", "regularizer", "constraint")
    }

    def __init__(self, axis=-1, momentum=0.9, center=True, **kwargs):
        super().__init__(axis, momentum, center=center, scale=False, **kwargs)

    def normalize(self, x, gamma, beta, training, mask):
        if not self.uses_batch(training):
            return centre(x, self.moving_moments(x), beta)
        batch = self.batch_moments(x, mask)
        y = centre(x, batch, beta)
        self.update_moving_moments(batch, x, mask)
        return y

    def moving_shapes(self):
        return {"moving_mean": self._feature_shape}

    def batch_moments(self, x, mask):
        over = axes.others(self.axes_of(x), len(x.shape))
        return location(x, over, mask=mask, synchronized=self.synchronized)
