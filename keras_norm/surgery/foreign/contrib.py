"""The one layer of keras-contrib that none of ours computes."""

from keras import constraints, initializers, ops, regularizers

from keras_norm.arguments import register
from keras_norm.layers.base import BaseWideArithmetic


@register
class ContribInstanceNormalization(BaseWideArithmetic):
    """keras-contrib's `InstanceNormalization`, whose ε is added to the standard deviation.

        y = gamma · (x - mean) / (√variance + ε) + beta

    Only `load_foreign` makes it, so that old models keep their outputs; for new ones there is
    `keras_norm.InstanceNormalization`, with ε under the root. Masks are passed on and not used.

    Args:
        axis: The channel axis, or `None` for moments of a whole sample and one gamma and beta.
        epsilon: Non-negative float.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer: Initializer of `beta`.
        gamma_initializer: Initializer of `gamma`.
        beta_regularizer: Regularizer of `beta`.
        gamma_regularizer: Regularizer of `gamma`.
        beta_constraint: Constraint of `beta`.
        gamma_constraint: Constraint of `gamma`.
        **kwargs: Base layer keyword arguments.
    """

    def __init__(
        self,
        axis=None,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.axis, self.epsilon, self.center, self.scale = axis, epsilon, center, scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.supports_masking = True
        self.gamma = self.beta = None

    def build(self, input_shape):
        """Creates gamma and beta."""
        shape = (1,) if self.axis is None else (input_shape[self.axis],)
        for name, wanted in (("gamma", self.scale), ("beta", self.center)):
            if wanted:
                kinds = "initializer", "regularizer", "constraint"
                how = {kind: getattr(self, f"{name}_{kind}") for kind in kinds}
                setattr(self, name, self.add_weight(name=name, shape=shape, autocast=False, **how))

    def call(self, inputs):
        """Normalizes in float32 or wider."""
        x, rank = self.cast_up(inputs), len(inputs.shape)
        kept = {0} if self.axis is None else {0, self.axis % rank}
        over = [axis for axis in range(rank) if axis not in kept]
        x = x - ops.mean(x, over, keepdims=True)
        variance = ops.mean(x * x, over, keepdims=True)
        # The root has no slope at 0, where a channel is constant.
        root = ops.sqrt(ops.maximum(variance, 1e-30))
        shape = [-1 if axis in kept - {0} else 1 for axis in range(rank)]
        y = x / (root + self.epsilon)
        if self.gamma is not None:
            y = y * ops.reshape(ops.cast(self.gamma, x.dtype), shape)
        if self.beta is not None:
            y = y + ops.reshape(ops.cast(self.beta, x.dtype), shape)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return tuple(input_shape)
