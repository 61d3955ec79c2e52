"""What norms compute in inference, as one product and one sum, and how linear layers take it in."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_norm.layers.batch import (
    BatchNormalization,
    BatchRenormalization,
    GhostBatchNormalization,
    MeanOnlyBatchNormalization,
)
from keras_norm.layers.data import StandardNormalization
from keras_norm.layers.mixtures import SwitchableNormalization
from keras_norm.layers.whitening import DecorrelatedBatchNormalization, IterativeNormalization
from keras_norm.ops.whitening import block_diagonal

NO_SHARE = 1e-8
"""A share of a mixture that no output in float32 shows."""


class Affine(NamedTuple):
    """The map y = x · factor + shift along the channels, in float64.

    Attributes:
        factor: [C], or a matrix [C, C] that row vectors are multiplied by.
        shift: [C].
    """

    factor: np.ndarray
    shift: np.ndarray

    @property
    def mixes(self):
        """Whether an output channel depends on more than its own input channel."""
        return self.factor.ndim == 2

    def of(self, table):
        """table [..., C] after the product."""
        return table @ self.factor if self.mixes else table * self.factor

    def into(self, table):
        """table [..., C, N] in front of which the product stands."""
        return self.factor @ table if self.mixes else self.factor[:, None] * table


def static_axis(norm, rank):
    """The axis of channels of a norm that is an `Affine` in inference; `None` if of any.

    Raises:
        ValueError: If it has several.
    """
    given = norm.axis if isinstance(norm.axis, (list, tuple)) else [norm.axis]
    if norm.axis is None or not given:
        return None
    if len(given) > 1:
        raise ValueError("its statistics span several axes")
    return given[0] % rank


def static_affine(norm, channels):
    """What a norm of a class in `STATIC` computes in inference, as an `Affine` of some channels.

    Raises:
        ValueError: If it depends on its input, for the reason that the error says.
    """
    factor, shift = STATIC[type(norm)](norm)
    shift = np.broadcast_to(shift, (channels,))
    return Affine(factor if factor.ndim == 2 else np.broadcast_to(factor, (channels,)), shift)


def _number(weight, otherwise):
    if weight is None:
        return np.float64(otherwise)
    return ops.convert_to_numpy(weight).astype("float64")


def _of_moments(norm):
    """(x - moving mean) / √(moving variance + ε) · gamma + beta."""
    deviation = np.sqrt(_number(norm.moving_variance, 1.0) + norm.epsilon)
    factor = _number(norm.gamma, 1.0) / deviation
    return factor, _number(norm.beta, 0.0) - _number(norm.moving_mean, 0.0) * factor


def _of_mean(norm):
    shift = _number(norm.beta, 0.0) - _number(norm.moving_mean, 0.0)
    return np.ones_like(shift), shift


def _of_mixture(norm):
    for name in ("mean", "variance"):
        logits = _number(getattr(norm, f"{name}_logits"), 0.0)
        powers = np.exp(logits - logits.max())
        # The batch's part is the last one, where there is one.
        share = 1.0 - powers[-1] / powers.sum() if norm.using_bn else 1.0
        if share > NO_SHARE:
            raise ValueError(f"{share:.2g} of its {name} is that of the sample (instance or layer)")
    return _of_moments(norm)


def _of_matrices(norm):
    matrix = _number(block_diagonal(ops.convert_to_tensor(norm.moving_matrix)), 0.0)
    matrix = matrix * _number(norm.gamma, 1.0)
    return matrix, _number(norm.beta, 0.0) - _number(norm.moving_mean, 0.0) @ matrix


def _of_data(norm):
    known = norm.statistics()
    return _of_scores(norm, known["mean"], np.where(known["variance"] > 0, known["variance"], 1.0))


def _of_keras_data(norm):
    smallest = keras.config.epsilon() ** 2
    mean, variance = (_number(one, 0.0).ravel() for one in (norm.mean, norm.variance))
    return _of_scores(norm, mean, np.maximum(variance, smallest))


def _of_scores(norm, mean, variance):
    """(x - mean) / √variance, or the inverse of that."""
    deviation = np.sqrt(variance)
    return (deviation, mean) if norm.invert else (1.0 / deviation, -mean / deviation)


STATIC: dict[Any, Any] = {
    layers.BatchNormalization: _of_moments,
    layers.Normalization: _of_keras_data,
    BatchNormalization: _of_moments,
    BatchRenormalization: _of_moments,
    GhostBatchNormalization: _of_moments,
    MeanOnlyBatchNormalization: _of_mean,
    SwitchableNormalization: _of_mixture,
    IterativeNormalization: _of_matrices,
    DecorrelatedBatchNormalization: _of_matrices,
    StandardNormalization: _of_data,
}
"""The norms that are an `Affine` in inference, and the function from each to its two parts."""

DATA = (layers.Normalization, StandardNormalization)
"""Those whose mean is not that of a batch, in training either."""

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
LINEAR = (layers.Dense, *CONVOLUTIONS, *DEPTHWISE, *SEPARABLE, *TRANSPOSED)
"""The layers that take a norm in, and no class derived from them."""


def channel_axis(linear, rank):
    """The axis of a linear layer's channels, those of input and output alike."""
    return 1 if getattr(linear, "data_format", "") == "channels_first" else rank - 1


def values_of(linear):
    """A linear layer's weights in float64, by name."""
    return {weight.name: _number(weight, 0.0) for weight in linear.weights}


def behind(linear, values, affine):
    """The weights of a linear layer that does what an `Affine` behind it did.

    Args:
        linear: A layer of a class in `LINEAR`.
        values: Its weights by name; no bias means zeros.
        affine: What follows it.

    Returns:
        The new weights by name, a bias among them.

    Raises:
        ValueError: If no weights of such a layer do.
    """
    kind = type(linear)
    if affine.mixes and (kind in DEPTHWISE or getattr(linear, "groups", 1) > 1):
        raise ValueError(f"it mixes channels, which {linear.name} keeps apart")
    name = "pointwise_kernel" if kind in SEPARABLE else "kernel"
    kernel = values[name]
    if kind in TRANSPOSED:  # [..., outputs, inputs]
        new = np.swapaxes(affine.of(np.swapaxes(kernel, -1, -2)), -1, -2)
    elif kind in DEPTHWISE:  # [..., channels, outputs of each]
        new = affine.of(kernel.reshape(*kernel.shape[:-2], -1)).reshape(kernel.shape)
    else:
        new = affine.of(kernel)
    bias = affine.of(values.get("bias", np.zeros_like(affine.shift))) + affine.shift
    return {**values, name: new, "bias": bias}


def in_front(linear, values, affine):
    """The weights of a linear layer that does what an `Affine` in front of it did.

    Args, Returns, Raises: As in `behind`.
    """
    kind, groups = type(linear), getattr(linear, "groups", 1)
    if affine.mixes and (kind in DEPTHWISE + SEPARABLE or groups > 1):
        raise ValueError(f"it mixes channels, which {linear.name} keeps apart")
    if np.any(affine.shift):
        _check_borders(linear)
    name = "depthwise_kernel" if kind in SEPARABLE else "kernel"
    kernel = values[name]
    if kind in TRANSPOSED:  # [..., outputs, inputs]
        kernel = np.swapaxes(kernel, -1, -2)
    parts = np.split(kernel, groups, -1)
    own = [Affine(*rows) for rows in _split(affine, groups)]
    new = np.concatenate([a.into(part) for a, part in zip(own, parts, strict=True)], -1)
    if kind in DEPTHWISE + SEPARABLE:  # [..., channels, outputs of each]
        added = (_taps(kernel) * affine.shift[:, None]).ravel()
    else:
        added = np.concatenate([a.shift @ _taps(p) for a, p in zip(own, parts, strict=True)])
    if kind in SEPARABLE:
        added = added @ _taps(values["pointwise_kernel"])
    new = np.swapaxes(new, -1, -2) if kind in TRANSPOSED else new
    return {**values, name: new, "bias": values.get("bias", 0.0) + added}


def _split(affine, groups):
    """Factor and shift of each group of channels."""
    if groups == 1:
        return [affine]
    return zip(np.split(affine.factor, groups), np.split(affine.shift, groups), strict=True)


def _taps(kernel):
    """A kernel [..., inputs, outputs], summed over its places."""
    return kernel.reshape(-1, *kernel.shape[-2:]).sum(0)


def _check_borders(linear):
    """Refuses a layer behind which a shift in front of it is not the same everywhere."""
    if type(linear) is layers.Dense:
        return
    single = all(size == 1 for size in linear.kernel_size)
    if type(linear) in TRANSPOSED:
        if not single or any(stride > 1 for stride in linear.strides):
            raise ValueError(f"its shift is not the same everywhere behind {linear.name}")
    elif not single and linear.padding != "valid":
        raise ValueError(f"its shift does not reach the zeros that {linear.name} pads with")
