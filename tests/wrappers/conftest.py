"""Every layer of Keras that can be wrapped, and every wrapper."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_norm

WRAPPERS = {
    "weight": (keras_norm.WeightNormalization, {}),
    "weight, data init": (keras_norm.WeightNormalization, {"data_init": True}),
    "spectral": (keras_norm.SpectralNormalization, {}),
    "spectral, bounded": (keras_norm.SpectralNormalization, {"norm_bound": 1.5}),
    "standardized": (keras_norm.WeightStandardization, {}),
    "standardized, scaled": (keras_norm.WeightStandardization, {"scaled": True, "gamma": 1.7}),
}

KERNEL, RECURRENT = {"kernel": (-1,)}, {"kernel": (-1,), "recurrent_kernel": (-1,)}

# A layer, its input's shape, and the output axes of its weights.
LAYERS = {
    "Dense": (lambda: layers.Dense(3, "tanh"), (2, 6), KERNEL),
    "EinsumDense": (
        lambda: layers.EinsumDense("abc,dce->abde", (4, 3, 2)),
        (2, 4, 6),
        {"kernel": (0, 2)},
    ),
    "Conv1D": (lambda: layers.Conv1D(4, 2, groups=2, padding="causal"), (2, 5, 6), KERNEL),
    "Conv2D": (lambda: layers.Conv2D(3, (2, 3), strides=2, use_bias=False), (2, 5, 5, 2), KERNEL),
    "Conv3D": (lambda: layers.Conv3D(3, 2), (2, 3, 3, 3, 2), KERNEL),
    "Conv1DTranspose": (lambda: layers.Conv1DTranspose(3, 2), (2, 4, 6), {"kernel": (-2,)}),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(3, 2, 2), (2, 3, 3, 4), {"kernel": (-2,)}),
    "Conv3DTranspose": (lambda: layers.Conv3DTranspose(3, 2), (2, 2, 2, 2, 4), {"kernel": (-2,)}),
    "DepthwiseConv1D": (
        lambda: layers.DepthwiseConv1D(3, depth_multiplier=2),
        (2, 5, 3),
        {"kernel": (-2, -1)},
    ),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(2), (2, 4, 4, 3), {"kernel": (-2, -1)}),
    "SeparableConv1D": (
        lambda: layers.SeparableConv1D(4, 2),
        (2, 5, 3),
        {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)},
    ),
    "SeparableConv2D": (
        lambda: layers.SeparableConv2D(4, 2),
        (2, 4, 4, 3),
        {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)},
    ),
    "Embedding": (lambda: layers.Embedding(7, 4, mask_zero=True), (2, 5), {"embeddings": (0,)}),
    "SimpleRNN": (lambda: layers.SimpleRNN(3), (2, 4, 6), RECURRENT),
    "LSTM": (lambda: layers.LSTM(3, dropout=0.5, return_sequences=True), (2, 4, 6), RECURRENT),
    "GRU": (lambda: layers.GRU(3), (2, 4, 6), RECURRENT),
    "ConvLSTM1D": (lambda: layers.ConvLSTM1D(3, 2), (2, 3, 4, 2), RECURRENT),
    "LSTMCell": (lambda: layers.LSTMCell(3), (2, 4, 6), RECURRENT),
    "GRUCell": (lambda: layers.GRUCell(3), (2, 4, 6), RECURRENT),
}


class Case:
    """A wrapper around a layer, in a model, with weights that make every term count."""

    def __init__(self, wrapper, arguments, make, shape, axes):
        self.make, self.shape, self.axes = make, shape, axes
        self.new = lambda: wrapper(make(), **arguments, name="wrapped")

    @property
    def is_cell(self):
        """Whether a recurrent layer must run the layer."""
        return hasattr(self.make(), "state_size") and not hasattr(self.make(), "cell")

    def inputs(self, number=None, seed=0):
        """What the layer takes: ordinary data, or tokens."""
        generator, shape = np.random.default_rng(seed), (number or self.shape[0], *self.shape[1:])
        if "embeddings" in self.axes:
            return generator.integers(0, 7, shape).astype("float32")
        return generator.normal(0.5, 2.0, shape).astype("float32")

    def model(self, layer=None):
        """A model of the wrapper, or of another layer, and what it calls."""
        layer = layer or self.new()
        called = layers.RNN(layer) if self.is_cell else layer
        return keras.Sequential([keras.Input(self.shape[1:]), called]), layer

    def randomized(self):
        """The model and the wrapper, with random weights."""
        model, layer = self.model()
        generator = np.random.default_rng(1)
        for weight in model.weights:
            if "float" in weight.dtype:
                weight.assign(generator.normal(0.2, 1.0, weight.shape))
        return model, layer


def fits(wrapper, layer):
    """Whether data can initialize the layer, where they are to."""
    plain = ("EinsumDense", "Embedding", "SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "LSTMCell")
    return "data init" not in wrapper or layer not in (*plain, "GRUCell")


# Of two variants of a wrapper, the second goes around one layer alone.
VARIANTS = ("spectral, bounded", "standardized, scaled")
PAIRS = [
    (wrapper, layer)
    for wrapper in WRAPPERS
    for layer in LAYERS
    if fits(wrapper, layer) and (wrapper not in VARIANTS or layer == "Conv1DTranspose")
]


@pytest.fixture(params=PAIRS, ids=lambda pair: " around ".join(pair))
def case(request):
    """Each wrapper around each layer in turn."""
    wrapper, layer = request.param
    return Case(*WRAPPERS[wrapper], *LAYERS[layer])


@pytest.fixture(params=WRAPPERS.values(), ids=WRAPPERS)
def wrapper(request):
    """A function that wraps a layer, for each wrapper in turn."""
    cls, arguments = request.param
    return lambda layer, **more: cls(layer, **arguments, **more)
