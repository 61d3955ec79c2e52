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


def is_masked(inputs):
    """Whether a mask comes with a tensor of a graph, or with one of several."""
    tensors = keras.tree.flatten(inputs)
    return any(getattr(tensor, "_keras_mask", None) is not None for tensor in tensors)


def norms_within(layer):
    """Names of the norms that a layer is or holds, and that count masks."""
    return [one.name for one in layer._flatten_layers() if isinstance(one, COUNTED)]


def is_mended(layer):
    """Whether `call_unmasked` returns what Addons's layer did: for a norm, and one in each step."""
    if isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
    return isinstance(layer, COUNTED)


def call_unmasked(layer, tensor, calls):
    """What Addons's layer returned for a tensor with a mask: all counted, the mask passed on.

    Args:
        layer: A norm, or one in `TimeDistributed`.
        tensor: A tensor of a graph.
        calls: How often the layer was called before, for the names of what is put around it.

    Returns:
        A tensor with the mask of the other.
    """
    name = f"{layer.name}_{calls}" if calls else layer.name
    plain = ops.copy(tensor)  # operations, other than layers, drop masks
    plain._keras_history.operation.name = f"{name}_all_counted"
    return MaskOf(name=f"{name}_mask")([layer(plain), tensor])
