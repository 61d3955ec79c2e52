"""What a model has to fill: its weights, layer by layer, and what each of them is."""

from collections import Counter
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_norm.surgery.copying import children
from keras_norm.wrappers.base import BaseWeightWrapper, StoredWeight
from keras_norm.wrappers.spectral import SpectralNormalization
from keras_norm.wrappers.weight import WeightNormalization

TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_WITH_KERNEL = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    *TRANSPOSED,
    *DEPTHWISE,
)
# Where training is in a schedule. The other libraries' layers have none.
_KEPT = frozenset({"step"})


class Slot(NamedTuple):
    """A weight to fill.

    Attributes:
        label: Layer and weight, as messages name it.
        role: What the weight is: its name, for stored weights of a wrapper "weight norm kernel" or
            "spectral norm kernel".
        variable: The weight itself.
        layer: The layer that has it; of a wrapper, the layer inside.
        stored: For a wrapper's own weights, the stored weight that they belong to.
    """

    label: str
    role: str
    variable: Any
    layer: Any
    stored: StoredWeight | None = None

    @property
    def shape(self):
        """The weight's shape."""
        return tuple(self.variable.shape)


class Target(NamedTuple):
    """A layer with weights of its own, or a wrapper and the layer in it.

    Attributes:
        path: Names of layers from the model down to it, joined by "/".
        layer: The layer, of a wrapper the layer inside.
        slots: Its weights.
    """

    path: str
    layer: Any
    slots: list[Slot]


def targets(model) -> list[Target]:
    """The layers of a model that have weights, each once, in the model's order."""
    found: list[Target] = []
    _collect(model, "", found, set())
    twice = [path for path, count in Counter(one.path for one in found).items() if count > 1]
    if twice:
        raise ValueError(
            "`model` must have a name of its own for each layer with weights. "
            f"Received: {twice[0]!r} for several. Give the layers other names."
        )
    return found


def _collect(layer, path, found, seen):
    if id(layer) in seen:
        return
    seen.add(id(layer))
    target = _target(layer, path or layer.name)
    if target.slots:
        found.append(target)
    if isinstance(layer, BaseWeightWrapper):
        seen.add(id(layer.layer))
        layer = layer.layer
    for child in children(layer).values():
        _collect(child, f"{path}/{child.name}" if path else child.name, found, seen)


def _target(layer, path):
    if not isinstance(layer, BaseWeightWrapper):
        return Target(path, layer, [Slot(f"{path}/{v.name}", v.name, v, layer) for v in own(layer)])
    inner = layer.layer
    kind = {WeightNormalization: "weight norm ", SpectralNormalization: "spectral norm "}
    prefix = kind.get(type(layer), "")
    stored = {id(weight.variable): weight for weight in layer.stored_weights()}
    slots = [
        Slot(f"{path}/{v.name}", f"{prefix}kernel" if id(v) in stored else v.name, v, inner)
        for v in own(inner)
    ]
    # Of two stored weights the second one's have prefixes, and so names that no format knows.
    first = next(iter(stored.values()))
    slots += [Slot(f"{path}/{v.name}", v.name, v, inner, first) for v in own(layer)]
    return Target(path, inner, slots)


def own(layer):
    """A layer's own weights, without those of layers in it and those that it keeps to itself."""
    variables = layer._trainable_variables + layer._non_trainable_variables
    return [v for v in variables if v.name not in _KEPT]


def has_kernel_rule(slot):
    """Whether the layout of a weight that is a kernel is known."""
    if not slot.role.endswith("kernel"):
        return True
    if isinstance(slot.layer, keras.layers.Embedding):
        return True
    return isinstance(slot.layer, _WITH_KERNEL) and slot.variable.name == "kernel"


def along(slot, array) -> Any:
    """An array in the layout of the stored kernel, with size 1 where the weight does not vary.

    Args:
        slot: One of a wrapper's own weights: g or u, which span the output axes, or v, which spans
            the others.
        array: The values in the layout of the kernel.

    Returns:
        The values in the shape of the weight, or the array as it is where the sizes differ.
    """
    assert slot.stored is not None
    spans = [(axis in slot.stored.axes) != (slot.role == "v") for axis in range(array.ndim)]
    pairs = zip(slot.stored.shape, spans, strict=True)
    wanted = tuple(size if spanned else 1 for size, spanned in pairs)
    return np.reshape(array, slot.shape) if array.shape == wanted else array
