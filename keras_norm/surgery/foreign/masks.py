"""Masks behind norms that took no notice of them."""

import keras
from keras import ops

from keras_norm.arguments import register
from keras_norm.layers.groups import (
    FilterResponseNormalization,
    GroupNormalization,
    InstanceNormalization,
)

# Addons's layers of these names pass masks on and take no notice of them; ours count them.
COUNTED = FilterResponseNormalization, GroupNormalization, InstanceNormalization


@register
class MaskOf(keras.layers.Layer):
    """Returns the first of two tensors, with the mask of the second.

    Only `load_foreign` makes it, behind a norm that is told to count what a mask hides.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        """The first tensor."""
        return ops.cast(inputs[0], inputs[0].dtype)

    def compute_mask(self, inputs, previous_mask):
        """The second tensor's mask."""
        return previous_mask[1]

    def compute_output_shape(self, input_shape):
        """The first tensor's shape."""
        return tuple(input_shape[0])


def is_masked(tensor):
    """Whether a mask comes with a tensor of a graph."""
    return getattr(tensor, "_keras_mask", None) is not None


def call_unmasked(layer, tensor, calls):
    """What Addons's layer returned for a tensor with a mask: all counted, the mask passed on.

    Args:
        layer: A norm.
        tensor: A tensor of a graph.
        calls: How often the layer was called before, for the names of what is put around it.

    Returns:
        A tensor with the mask of the other.
    """
    name = f"{layer.name}_{calls}" if calls else layer.name
    one = ops.take(tensor, 0, axis=layer.axis)
    counted = ops.ones_like(one, dtype="bool")
    one._keras_history.operation.name = f"{name}_one_channel"
    counted._keras_history.operation.name = f"{name}_all_counted"
    return MaskOf(name=f"{name}_mask")([layer(tensor, mask=counted), tensor])
