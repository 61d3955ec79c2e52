"""Group equalisation: every group of channels at the same spread before it is quantized."""

import collections
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_norm.export import samples
from keras_norm.export.twins import reason_of, twin
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
    """The model's twin in which every group reaches its norm with mean 0 and spread 1.

    One step of int8 has to serve a whole tensor, so a quiet group beside a loud one is rounded to
    nothing. A norm of groups takes mean and spread out of each anyway, so constants m_g and s_g
    that the data say may be taken out beforehand, without a change of the function:

        (x - mean x) / √(var x + ε) = (z - mean z) / √(var z + ε / s_g²),
        z = (x - m_g) / s_g,   s_g² = mean of (x - m_g)² in the data, + ε

    z is computed where the layer before has its activation; a converter joins that with the kernel
    and bias. It is done for group and instance norms over the last axis that alone use what a
    convolution or dense layer without activation returns, wrapped in a norm of weights or not, in
    nested models too. All else stays as it is.

    Args:
        model: A built Functional or Sequential model in float32.
        batches: Inputs to measure m_g and s_g on, by input name.

    Returns:
        The twin, or the model itself where there is nothing to do. A model that its config does
        not describe is left as it is, with a warning.
    """
    if not any(_pairs(model)):
        return model
    new = _twin(model, batches[0])
    if new is None:
        return model
    found = [(pair[1], _Equalizer(*pair)) for pair in _pairs(new)]
    for batch in batches:
        samples.outputs(new, batch)
    for norm, equalizer in found:
        norm.epsilon = equalizer.finish()
    return new


def _twin(model: keras.Model, batch: Mapping[str, np.ndarray]) -> keras.Model | None:
    """The twin, or `None` with a warning where it would compute something else."""
    try:
        new = twin(model)
        pairs = zip(samples.outputs(model, batch), samples.outputs(new, batch), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.max(np.abs(one)))
        return new
    except Exception as error:  # whatever the constructors of others may raise
        warnings.warn(
            f"{model.name!r} is quantized without group equalisation, since its config does not "
            f"describe it: {reason_of(error)}",
            stacklevel=2,
        )
        return None


class _Equalizer:
    """The activation of a producer: measures the moments of each group, then takes them out."""

    def __init__(self, producer: Any, norm: Any, channels: int):
        self._channels = channels
        self._groups = _groups(norm, channels)
        self._epsilon = norm.epsilon
        # Keras's layer has a table [G, 1] of variances where ours has [C].
        self._by_group = isinstance(norm, layers.GroupNormalization)
        self._sums = np.zeros((3, self._groups))
        self._affine: Any = None
        producer.activation = self

    def __call__(self, x: Any) -> Any:
        if self._affine is not None:
            factor, offset = self._affine
            return x * factor + offset
        values = keras.ops.convert_to_numpy(x).astype("float64")
        values = values.reshape((-1, self._groups, self._channels // self._groups))
        self._sums += [(values**power).sum((0, 2)) for power in range(3)]
        return x

    def finish(self) -> np.ndarray:
        """Equalizes from now on; returns ε / s_g², as the norm adds it to its variances."""
        count, total, squares = self._sums
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0) + self._epsilon)
        self._affine = self._per_channel(1.0 / spread), self._per_channel(-mean / spread)
        epsilon = self._epsilon / spread**2
        table = epsilon[:, np.newaxis] if self._by_group else self._per_channel(epsilon)
        return table.astype("float32")

    def _per_channel(self, table: np.ndarray) -> np.ndarray:
        return np.repeat(table, self._channels // self._groups).astype("float32")


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
        norm = node.operation
        if type(norm) not in NORMS or calls[norm] > 1:
            continue
        tensor = node.input_tensors[0]
        maker = tensor._keras_history.operation
        producer = maker.layer if isinstance(maker, BaseWeightWrapper) else maker
        alone = uses[id(tensor)] == 1 and calls[maker] == 1
        if alone and _is_linear(producer) and _is_last(norm.axis, tensor):
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
