"""The one layer of keras-contrib that none of ours computes."""

import keras
from keras import constraints, initializers, ops, regularizers

from keras_norm.arguments import register

_AFFINE = ("beta", "gamma")
_KINDS = {"initializer": initializers, "regularizer": regularizers, "constraint": constraints}


@register
class ContribInstanceNormalization(keras.layers.Layer):
    """keras-contrib's `InstanceNormalization`, whose ε is added to the standard deviation.

        y = gamma · (x - mean) / (√variance + ε) + beta

    Only `load_foreign` makes it, so that old models keep their outputs; for new ones there is
    `keras_norm.InstanceNormalization`, with ε under the root. Masks are passed on and not used.

    Args:
        axis: The channel axis, or `None` for moments of a whole sample and one gamma and beta.
        epsilon: Non-negative float.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        **kwargs: `beta_initializer` and so on, for gamma too, and base layer keyword arguments.
    """

    def __init__(self, axis=None, epsilon=1e-3, center=True, scale=True, **kwargs):
        self._how = {
            f"{weight}_{kind}": module.get(kwargs.pop(f"{weight}_{kind}", None))
            for weight in _AFFINE
            for kind, module in _KINDS.items()
        }
        super().__init__(**kwargs)
        self.axis, self.epsilon, self.center, self.scale = axis, epsilon, center, scale
        self.supports_masking = True
        self.autocast = False
        self.gamma = self.beta = None

    def build(self, input_shape):
        """Creates gamma and beta."""
        shape = (1,) if self.axis is None else (input_shape[self.axis],)
        for name, wanted, start in (("gamma", self.scale, "ones"), ("beta", self.center, "zeros")):
            if wanted:
                how = {kind: self._how[f"{name}_{kind}"] for kind in _KINDS}
                how["initializer"] = how["initializer"] or start
                setattr(self, name, self.add_weight(name=name, shape=shape, autocast=False, **how))

    def call(self, inputs):
        """Normalizes in float32 or wider."""
        dtype = keras.backend.result_type(inputs.dtype, self.variable_dtype, "float32")
        x, rank = ops.cast(inputs, dtype), len(inputs.shape)
        kept = {0} if self.axis is None else {0, self.axis % rank}
        over = [axis for axis in range(rank) if axis not in kept]
        x = x - ops.mean(x, over, keepdims=True)
        variance = ops.mean(x * x, over, keepdims=True)
        # The root has no slope at 0, where a channel is constant.
        root = ops.sqrt(ops.maximum(variance, 1e-30))
        shape = [-1 if axis in kept - {0} else 1 for axis in range(rank)]
        y = x / (root + self.epsilon)
        if self.gamma is not None:
            y = y * ops.reshape(ops.cast(self.gamma, dtype), shape)
        if self.beta is not None:
            y = y + ops.reshape(ops.cast(self.beta, dtype), shape)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return tuple(input_shape)

    def get_config(self):
        """All arguments."""
        names = "axis", "epsilon", "center", "scale"
        written = {
            name: _KINDS[name.rpartition("_")[2]].serialize(value)
            for name, value in self._how.items()
        }
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, **written}
