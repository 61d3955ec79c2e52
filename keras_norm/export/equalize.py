"""Group equalisation: every group of channels at the same spread before it is quantized."""

import collections
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_norm.export import signature
from keras_norm.export.twins import twin
from keras_norm.layers.groups import GroupNormalization, InstanceNormalization
from keras_norm.wrappers.base import BaseWeightWrapper

NORMS = (GroupNormalization, InstanceNormalization, layers.GroupNormalization)
"""Layers that take a factor and an offset per group out of their input."""

PRODUCERS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
    layers.Dense,
)
"""Layers into whose kernel the converter multiplies a factor per channel that follows them."""


def equalize(model: keras.Model, batches: Sequence[Mapping[str, np.ndarray]]) -> keras.Model:
    """The model's twin in which every group reaches its norm at spread 1.

    One step of int8 has to serve a whole tensor, so a quiet group beside a loud one is rounded to
    nothing. A norm of groups divides each by its own spread anyway, so its input may be divided
    beforehand, by a constant s_g that the data say, without a change of the function:

        x_g / √(var(x_g) + ε)  =  (x_g / s_g) / √(var(x_g / s_g) + ε / s_g²),    s_g² = E var + ε

    The division stands where the layer before has its activation; a converter multiplies it into
    the kernel and bias. It is done for group and instance norms over the last axis that alone
    use what a convolution or dense layer without activation returns, wrapped in a norm of weights
    or not, in nested models too. All else stays as it is.

    Args:
        model: A built Functional or Sequential model in float32.
        batches: Inputs to measure s_g on, by input name.

    Returns:
        The twin, or the model itself where there is nothing to do. A model that its config does
        not describe is left as it is, with a warning.
    """
    if not any(_pairs(model)):
        return model
    try:
        new = twin(model)
    except Exception as error:  # whatever the constructors of others may raise
        warnings.warn(
            f"{model.name!r} is quantized without group equalisation, since its config does not "
            f"describe it: {str(error).splitlines()[0]}",
            stacklevel=2,
        )
        return model
    found = [(norm, _Spread(producer, norm, channels)) for producer, norm, channels in _pairs(new)]
    for batch in batches:
        new(signature.packed(new, list(batch.values())), training=False)
    for norm, spread in found:
        norm.epsilon = spread.divide_from_now_on()
    return new


class _Spread:
    """The activation of a producer: measures each group's mean variance, later divides by s_g."""

    def __init__(self, producer: Any, norm: Any, channels: int):
        self._channels = channels
        self._groups = _groups(norm, channels)
        self._epsilon = norm.epsilon
        # Keras's layer has a table [G, 1] of variances where ours has [C].
        self._by_group = isinstance(norm, layers.GroupNormalization)
        self._sum: Any = 0.0
        self._count = 0
        self._factors: Any = None
        producer.activation = self

    def __call__(self, x: Any) -> Any:
        if self._factors is not None:
            return x * self._factors
        values = keras.ops.convert_to_numpy(x)
        grouped = values.reshape((len(values), -1, self._groups, self._channels // self._groups))
        self._sum = self._sum + grouped.var((1, 3), dtype="float64").sum(0)
        self._count += len(values)
        return x

    def divide_from_now_on(self) -> np.ndarray:
        """Returns ε / s_g², as the norm adds it to its variances."""
        square = (self._sum / self._count + self._epsilon).astype("float32")
        self._factors = self._per_channel(1.0 / np.sqrt(square))
        epsilon = np.float32(self._epsilon) / square
        return epsilon[:, np.newaxis] if self._by_group else self._per_channel(epsilon)

    def _per_channel(self, table: np.ndarray) -> np.ndarray:
        return np.repeat(table, self._channels // self._groups)


def _groups(norm: Any, channels: int) -> int:
    if isinstance(norm, InstanceNormalization):
        return channels
    return norm._groups if isinstance(norm, GroupNormalization) else norm.groups


def _pairs(model: keras.Model) -> Iterator[tuple[Any, Any, int]]:
    """Producer, norm and number of channels wherever the norm alone uses what the producer makes.

    The same layer in several places counts as used by others, in whatever models those are.
    """
    models = [getattr(one, "_functional", one) for one in model._flatten_layers()]
    graphs = {id(one): one for one in models if hasattr(one, "_nodes_by_depth")}.values()
    nodes = [node for one in graphs for depth in one._nodes_by_depth.values() for node in depth]
    calls = collections.Counter(node.operation for node in nodes)
    uses = collections.Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    uses.update(id(tensor) for one in graphs for tensor in one.outputs)
    for node in nodes:
        norm, tensor = node.operation, next(iter(node.input_tensors), None)
        if type(norm) not in NORMS or calls[norm] > 1 or uses[id(tensor)] > 1:
            continue
        maker = tensor._keras_history.operation
        producer = maker.layer if isinstance(maker, BaseWeightWrapper) else maker
        if calls[maker] == 1 and _is_linear(producer) and _is_last(norm.axis, tensor):
            yield producer, norm, tensor.shape[-1]


def _is_linear(layer: Any) -> bool:
    """Whether factors of the last axis can be multiplied into a layer's kernel."""
    return (
        type(layer) in PRODUCERS
        and layer.activation is keras.activations.linear
        and getattr(layer, "data_format", "channels_last") == "channels_last"
    )


def _is_last(axis: Any, tensor: Any) -> bool:
    given = axis if isinstance(axis, (list, tuple)) else [axis]
    return [one % len(tensor.shape) for one in given] == [len(tensor.shape) - 1]
