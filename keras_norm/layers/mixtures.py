"""Learned mixtures of the statistics of several norms."""

from keras import ops

from keras_norm.arguments import check_flag, register
from keras_norm.layers.base import BaseBatchNormalization
from keras_norm.ops import axes, blend, mean, merge, standardize_by


@register
class SwitchableNormalization(BaseBatchNormalization):
    """Normalizes with a learned mixture of instance, layer and batch statistics.

        y = gamma · (x - Σ w_k mean_k) / √(Σ w'_k variance_k + ε) + beta,   k in IN, LN, BN
        w = softmax(mean_logits),   w' = softmax(variance_logits)

    The input is read for the instance moments alone; layer and batch moments are merged from them.
    In inference the batch term uses moving moments. With `momentum=None` these are the average
    over all training batches since `reset_moving_moments()` (the authors' "batch average"): after
    training, reset them and run some batches with `training=True`.

    Statistics over H, W, T (IN), also C (LN), and B with H, W, T (BN); gamma and beta per channel.
    Inputs of rank 2 have no positions: the mixture is LN and BN. The variance is biased, so that
    maps of 1×1 have variance 0 and finite outputs.

    Use it where one does not know which norm suits which layer. Where that is known, the norm
    itself is simpler. `gamma_initializer="zeros"` makes a residual block start as the identity.

    Args:
        axis: Integer, the channel axis: -1 for channels last, 1 for channels first.
        momentum: Share of the moving moments that a batch leaves as it is, from 0 to 1. `None` is
            the plain average of all batches since `reset_moving_moments()`.
        epsilon: Positive float added to the mixed variance under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer, gamma_initializer: Initializers of `beta` and `gamma`.
        moving_mean_initializer, moving_variance_initializer: Initializers of the moving moments.
        beta_regularizer, gamma_regularizer: Regularizers of `beta` and `gamma`.
        beta_constraint, gamma_constraint: Constraints of `beta` and `gamma`.
        synchronized: If `True`, batch moments run over all replicas of a `tf.distribute` strategy,
            with masks too. TensorFlow only.
        freeze_statistics: If `True`, the batch term is that of the moving moments in training too,
            which leaves them as they are; gamma, beta and the shares train on.
        using_bn: If `False`, mix IN and LN only; there are no moving moments then.
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
        gamma [C], beta [C], mean_logits [K], variance_logits [K], trainable, K = 3 (2 for rank 2 or
        without BN); moving_mean [C], moving_variance [C], not trainable. With `momentum=None` also
        moving_count [C], not trainable.

    Raises:
        ValueError: If an argument's value, the input's shape or the mask's shape does not fit, or
            if the mixture would have one part only.
        TypeError: If `axis` or the input is of the wrong type.

    Example:

    >>> layer = SwitchableNormalization()
    >>> layer(np.ones((2, 4, 4, 3), "float32"), training=True).shape
    TensorShape([2, 4, 4, 3])

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1806.10779). Deviation: the variance is biased; the
        moving variance starts at 1, not 0.
    """

    single_axis = True

    def __init__(self, axis=-1, momentum=0.9, epsilon=1e-5, *args, using_bn=True, **kwargs):
        super().__init__(axis, momentum, epsilon, *args, **kwargs)
        self.using_bn = check_flag("using_bn", using_bn)

    def check_features(self, input_shape):
        self._parts = [name for name, wanted in self._wanted(len(input_shape)) if wanted]
        if len(self._parts) < 2:
            raise ValueError(
                "`using_bn` must be True for an input of rank 2: nothing is left to mix. Received: "
                f"using_bn={self.using_bn} (input shape {tuple(input_shape)}). "
                "Use `keras_norm.LayerNormalization`."
            )

    def _wanted(self, rank):
        return ("IN", rank > 2), ("LN", True), ("BN", self.using_bn)

    def build(self, input_shape):
        super().build(input_shape)
        for name in ("mean_logits", "variance_logits"):
            shape = (len(self._parts),)
            weight = self.add_weight(name=name, shape=shape, initializer="ones", autocast=False)
            setattr(self, name, weight)

    def keeps_moving_moments(self):
        return self.using_bn

    def normalize(self, x, gamma, beta, training, mask):
        space = axes.others((0, *self.axes_of(x)), len(x.shape))
        weights = None if mask is None else mean(ops.cast(mask, x.dtype), space)
        uses_batch = self.using_bn and self.uses_batch(training)
        moving = self.moving_moments(x) if self.using_bn else None

        def batch_of(instance):
            return merge(instance, (0,), weights=weights, synchronized=self.synchronized)

        def mix(instance, moving, *shares):
            parts = {"IN": instance, "LN": merge(instance, self.axes_of(x), weights=weights)}
            parts["BN"] = batch_of(instance) if uses_batch else moving
            return blend([parts[name] for name in self._parts], *shares)

        logits = (ops.cast(one, x.dtype) for one in (self.mean_logits, self.variance_logits))
        how = {"mask": mask, "training": training and not self.synchronized}
        shares = [ops.softmax(one) for one in logits]
        affine = gamma, beta, self.epsilon
        y, instance = standardize_by(x, space, mix, moving, shares, *affine, **how)
        if uses_batch:
            self.update_moving_moments(batch_of(instance), x, mask)
        return y
