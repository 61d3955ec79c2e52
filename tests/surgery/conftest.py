"""Weights as after training, and random models."""

import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import layers

import keras_norm

POSITIVE = ("gamma", "moving_variance")
KEPT = ("step", "moving_count", "mean", "variance", "count")


def trained(model, seed=0):
    """The model with random weights that no two layers have in common."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        low, high = (0.6, 1.4) if weight.name in POSITIVE else (-0.5, 0.5)
        if weight.name == "moving_matrix":
            weight.assign_add(random.normal(size=weight.shape) * 0.1)
        elif weight.name.removesuffix("_residual") not in KEPT and "logits" not in weight.name:
            weight.assign(random.uniform(low, high, weight.shape))
    return model


@pytest.fixture
def said():
    """A function to print lines with, and the lines."""

    class Said(list):
        def __call__(self, line):
            self.append(line.strip())

        def of(self, start):
            return [line for line in self if line.startswith(start)]

    return Said()


def some(*shape, seed=0):
    """Random data."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


NORMS = (
    layers.BatchNormalization,
    keras_norm.BatchNormalization,
    keras_norm.BatchRenormalization,
    keras_norm.GhostBatchNormalization,
    keras_norm.MeanOnlyBatchNormalization,
    lambda: keras_norm.IterativeNormalization(group_size=2),
    lambda: keras_norm.InstanceNormalization(),
)
LINEAR = (
    lambda padding: layers.Conv1D(4, 2, padding=padding),
    lambda padding: layers.Conv1D(4, 1, padding=padding, use_bias=False),
    lambda padding: layers.Conv1D(4, 3, padding=padding, groups=2),
    lambda padding: layers.Conv1D(4, 2, padding=padding, activation="tanh"),
    lambda padding: layers.DepthwiseConv1D(2, padding=padding),
    lambda padding: layers.SeparableConv1D(4, 2, padding=padding),
    lambda padding: layers.Conv1DTranspose(4, 2, padding=padding),
    lambda padding: layers.Dense(4),
    lambda padding: keras_norm.WeightNormalization(layers.Dense(4)),
)


@st.composite
def models(draw):
    """Random graphs of norms and linear layers: branches, shared layers, nested models, outputs.

    All tensors are [B, T, 4], so that any layer may follow any other.
    """
    model = _graph(draw, draw(st.integers(2, 6)), [], top=True)
    return trained(model, draw(st.integers(0, 9)))


def _graph(draw, size, made, top):
    """A functional model of so many layers, new ones and some of those `made`."""
    inputs = keras.Input((24 if top else None, 4))
    tensors = [inputs]
    for _ in range(size):
        x = tensors[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(tensors))
        kind = draw(st.sampled_from(["nested", "branch", "shared", *["new"] * 5]))
        if kind == "branch":
            other = draw(st.sampled_from(tensors))
            pooled = layers.GlobalAveragePooling1D(keepdims=True)(other)
            tensors.append(layers.Add()([x, pooled]))
            continue
        if kind == "shared" and made:
            layer = draw(st.sampled_from(made))
        elif kind == "nested" and top:
            layer = _graph(draw, 2, made, top=False)
        else:
            layer = _layer(draw)
        made.append(layer)
        tensors.append(layer(x))
    outputs = tensors[-1]
    if top and draw(st.booleans()):
        outputs = [outputs, draw(st.sampled_from(tensors[1:]))]
    return keras.Model(inputs, outputs)


def _layer(draw):
    kind = draw(st.sampled_from(["norm", "norm", "linear", "linear", "other"]))
    if kind == "norm":
        return draw(st.sampled_from(NORMS))()
    if kind == "linear":
        return draw(st.sampled_from(LINEAR))(draw(st.sampled_from(["valid", "same"])))
    return draw(st.sampled_from([layers.ReLU, lambda: layers.Dropout(0.5)]))()
