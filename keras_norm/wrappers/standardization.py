"""Kernels with zero mean and unit variance."""

from keras import ops

from keras_norm.arguments import check_epsilon, check_flag, check_number, register
from keras_norm.ops.weights import fan_in, standardize
from keras_norm.wrappers.base import BaseWeightWrapper


@register
class WeightStandardization(BaseWeightWrapper):
    """Runs a layer with a kernel whose units have mean 0 and variance 1 over their fan-in.

        y = layer(x) with W' in place of W,   W' = (W - mean) / √(variance + ε)

    With `scaled=True`, W' = gain · gamma · (W - mean) / √(fan_in · (variance + ε)), which keeps the
    variance of activations without any norm of them.

    Statistics over all axes of the kernel but the output axis; `gain` spans the output axis.
    Training and inference are the same. The stored kernel is never changed but by training.

    Use it around convolutions that a norm of activations follows, `GroupNormalization` above all;
    with `scaled=True` in networks without any. A layer that a norm does not follow loses the size
    of its output to `scaled=False`.

    Args:
        layer: The layer to wrap, built or not.
        scaled: If `True`, divide by the root of the fan-in, and multiply by `gain` and `gamma`.
        gamma: Positive float, with `scaled=True` the constant of the activation in front, e.g. 1.71
            for ReLU: what makes its output's variance 1 again.
        epsilon: Positive float added to the variance under the root.
        axis: Output axes of the weights. `None` knows the layers of Keras. Else an integer or a
            list of integers for `kernel`, or a dictionary from names of weights to those.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: As the wrapped layer's.
        training, mask: Handed to the wrapped layer.

    Input shape:
        The wrapped layer's.

    Output shape:
        The wrapped layer's.

    Weights:
        The wrapped layer's (kernel and bias, mostly), and with `scaled=True` for each kernel gain
        [outputs], trainable; for a `recurrent_kernel` it is called `recurrent_gain`, and so on.

    Raises:
        TypeError: If `layer` is none, or `axis` is of the wrong type.
        ValueError: If an argument's value does not fit, or the layer has no such weight.

    Example:

    >>> import keras
    >>> layer = WeightStandardization(keras.layers.Conv2D(4, 3, use_bias=False))
    >>> layer(np.ones((1, 5, 5, 2), "float32")).shape
    TensorShape([1, 3, 3, 4])

    Reference:
        [Qiao et al., 2019](https://arxiv.org/abs/1903.10520); `scaled=True` is [Brock et al.,
        2021](https://arxiv.org/abs/2101.08692). Deviation: ε stands under the root, where it keeps
        the gradient of a constant kernel finite; 1e-10 is the 1e-5 that the authors' code adds to
        the root. The variance is biased.
    """

    def __init__(self, layer, scaled=False, gamma=1.0, epsilon=1e-10, *args, **kwargs):
        super().__init__(layer, *args, **kwargs)
        self.scaled = check_flag("scaled", scaled)
        self.gamma = check_number("gamma", gamma, above=0.0)
        self.epsilon = check_epsilon(epsilon)

    def build_for(self, weight):
        if self.scaled:
            self.add_own(weight, "gain", weight.outputs, lambda: ops.ones(weight.outputs))

    def effective_weight(self, weight, training):
        standardized = standardize(weight.value(), weight.axes, self.epsilon)
        if not self.scaled:
            return standardized
        factor = self.gamma * fan_in(weight.shape, weight.axes) ** -0.5
        return standardized * weight.spread(factor * self.own(weight, "gain"))
