"""Kernels as lengths and directions."""

import keras
from keras import ops

from keras_norm.arguments import check_flag, register
from keras_norm.ops.axes import others
from keras_norm.ops.moments import Moments, count, merge, moments, replica_sum
from keras_norm.ops.weights import direction, norm
from keras_norm.wrappers.base import BaseWeightWrapper, Substitution

_HAS_DATA_INIT = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
# Replicas of a strategy must not drift apart: each assignment is averaged over them.
_KEPT = {"trainable": False, "autocast": False, "aggregation": "mean"}


@register
class WeightNormalization(BaseWeightWrapper):
    """Runs a layer with a kernel whose length and direction are weights of their own.

        y = layer(x) with w in place of v,   w = g · v / ‖v‖

    Statistics over all axes of the kernel v but the output axis, which g spans. g begins as ‖v‖, so
    that wrapping a layer changes nothing. Training and inference are the same. The stored v is
    never changed but by training.

    With `data_init=True` the first batch in training (one that the layer is called with while
    `training` is true, in `fit` or elsewhere) gives each unit, before its activation, mean 0 and
    standard deviation 1 over batch and space: with t = v·x / ‖v‖ the length becomes 1 / std(t) and
    the bias -mean(t) / std(t). They stand in weights of their own, to which training adds:
    w = (data_g + g) · v / ‖v‖ with g beginning as 0, and data_bias + bias. Each layer is
    initialized on the output of those below, which are so already. With replicas of `tf.distribute`
    it is the batch of all of them.

    Use it where batches are too small or too noisy for a norm of activations, in temporal
    convolutions, in generators and in reinforcement learning; with `data_init=True` in deep
    networks without such a norm. It does not bound activations as a norm of them does.

    Args:
        layer: The layer to wrap, built or not.
        data_init: If `True`, the first batch in training sets lengths and biases. For dense and
            convolutional layers; those without bias keep their mean.
        axis: Output axes of the weights. `None` knows the layers of Keras. Else an integer or a
            list of integers for `kernel`, or a dictionary from names of weights to those.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: As the wrapped layer's.
        training: Whether the batch may initialize (and `trainable` is `True`); handed to the
            wrapped layer.
        mask: Handed to the wrapped layer; not used by `data_init`.

    Input shape:
        The wrapped layer's.

    Output shape:
        The wrapped layer's.

    Weights:
        The wrapped layer's (kernel and bias, mostly), and for each kernel g [outputs], trainable;
        for a `recurrent_kernel` it is called `recurrent_g`, and so on. With `data_init=True` also
        data_g [outputs], data_bias [outputs] where there is a bias, and initialized (0 or 1), none
        of them trainable.

    Raises:
        TypeError: If `layer` is none, or `axis` is of the wrong type.
        ValueError: If an argument's value does not fit, the layer has no such weight, or no
            `data_init`.

    Example:

    >>> import keras
    >>> layer = WeightNormalization(keras.layers.Dense(2), data_init=True)
    >>> y = layer(np.random.default_rng(0).normal(size=(64, 3)), training=True)
    >>> bool(abs(np.std(y, axis=0) - 1).max() < 1e-4)
    True

    Reference:
        [Salimans and Kingma, 2016](https://arxiv.org/abs/1602.07868). Deviation: without
        `data_init` g begins as ‖v‖, and v as the wrapped layer has it. What the data say is kept
        apart from g and bias: gradients and functions are the same, only the decay of weights now
        pulls them to their initial values.
    """

    def __init__(self, layer, data_init=False, *args, **kwargs):
        super().__init__(layer, *args, **kwargs)
        self.data_init = check_flag("data_init", data_init)
        if data_init and not (self.axis is None and isinstance(layer, _HAS_DATA_INIT)):
            raise ValueError(
                "`data_init` must be False but for dense and convolutional layers with axis=None. "
                f"Received: data_init={data_init}, axis={self.axis} (layer {layer.name!r} of class "
                f"{type(layer).__name__}). Leave `data_init` out."
            )

    def build(self, input_shape):
        """Builds the wrapped layer, then g, and what the data will say."""
        super().build(input_shape)
        if not self.data_init:
            return
        if self._bias() is not None:
            self.data_bias = self.add_weight(
                name="data_bias", shape=self._bias().shape, initializer="zeros", **_KEPT
            )
        self.initialized = self.add_weight(
            name="initialized",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def build_for(self, weight):
        def length():
            return norm(weight.value(), weight.axes)

        if self._follows_data(weight):
            self.add_own(weight, "g", weight.outputs, lambda: ops.zeros(weight.outputs))
            self.add_own(weight, "data_g", weight.outputs, length, **_KEPT)
        else:
            self.add_own(weight, "g", weight.outputs, length)

    def _follows_data(self, weight):
        """Whether data set the length of this weight; of two kernels it is the second."""
        return self.data_init and weight.prefix != "depthwise_"

    def _bias(self):
        return getattr(self.layer, "bias", None)

    def effective_weight(self, weight, training):
        g = self.own(weight, "g")
        if self._follows_data(weight):
            g = g + self.own(weight, "data_g")
        return direction(weight.value(), weight.axes) * weight.spread(g)

    def effective_weights(self, inputs=None, training=False):
        """As in the base, and the bias where the data may have set one."""
        if self.data_init and training:
            self._initialize(inputs)
        pairs = super().effective_weights(inputs, training)
        if self.data_init and self._bias() is not None:
            pairs.append((self._bias(), self._bias() + self.data_bias))
        return pairs

    def _initialize(self, inputs):
        """Sets data_g and data_bias by the batch, unless that has been done."""
        weight = self.stored_weights()[-1]
        g, data_g = self.own(weight, "g"), self.own(weight, "data_g")
        flat, done = ops.reshape(g, (-1,)), self.initialized > 0
        mean, variance, number = ops.cond(
            done,
            lambda: (ops.zeros_like(flat), ops.ones_like(flat), ops.zeros((), flat.dtype)),
            lambda: self._moments(inputs, weight),
        )
        # Replicas cannot wait for one another within a condition; they join out here.
        parts = Moments(mean, ops.zeros_like(mean), variance)
        joined = merge(parts, (), weights=number, synchronized=True)
        (number,) = replica_sum(number)
        finite = ops.all(ops.isfinite(joined.mean) & ops.isfinite(joined.variance))
        first = ops.logical_not(done) & finite & (number > 0)
        # A unit whose t varies by rounding alone keeps its length.
        varies = joined.variance > 1e-10 * joined.mean * joined.mean
        deviation = ops.sqrt(ops.where(varies, joined.variance, ops.ones_like(flat)))
        length = ops.where(varies, 1.0 / deviation, ops.reshape(g + data_g, (-1,)))
        moved = ops.reshape(length, weight.outputs) - g
        getattr(self, f"{weight.prefix}data_g").assign(ops.where(first, moved, data_g))
        if self._bias() is not None:
            moved = -joined.mean * length - ops.cast(self._bias(), length.dtype)
            self.data_bias.assign(ops.where(first, moved, self.data_bias))
        self.initialized.assign(ops.maximum(self.initialized, ops.cast(first, "int32")))

    def _moments(self, inputs, weight):
        """Mean and variance of t = v·x / ‖v‖ for each unit, and what they stand on."""
        values = [(w.variable, self.effective_weight(w, False)) for w in self.stored_weights()[:-1]]
        values.append((weight.variable, direction(weight.value(), weight.axes)))
        if self._bias() is not None:
            values.append((self._bias(), ops.zeros_like(self._bias())))
        with Substitution(values):
            t = _without_activation(self.layer).call(ops.cast(inputs, weight.value().dtype))
        channels = 1 if getattr(self.layer, "data_format", None) == "channels_first" else -1
        over = others((channels % len(t.shape),), len(t.shape))
        mean, residual, variance = (ops.reshape(part, (-1,)) for part in moments(t, over))
        return mean + residual, variance, count(t, over)


def _without_activation(layer):
    """Another object with the layer's weights, whose output is the pre-activation."""
    twin = object.__new__(type(layer))
    vars(twin).update(vars(layer), activation=keras.activations.linear)
    return twin
