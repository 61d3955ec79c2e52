"""Group equalisation: the same function, even spreads, and hands off everything else."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_norm
from keras_norm.export import export_litert
from keras_norm.export.equalize import equalize

GROUPS = 2


def images(count=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 8, 8, 3)).astype("float32")


def group(**how):
    return keras_norm.GroupNormalization(GROUPS, name="norm", **how)


def graph(*path):
    inputs = x = keras.Input((8, 8, 3), name="image")
    for layer in path:
        x = layer(x)
    return keras.Model(inputs, x)


def convolution(**how):
    return layers.Conv2D(4, 3, name="linear", **{"bias_initializer": "random_normal", **how})


def nested():
    inner = keras.Sequential([convolution(), group()], name="inner")
    return keras.Sequential([keras.Input((8, 8, 3)), inner, layers.ReLU()])


def in_attributes():
    """A lambda that needs a variable around it, a norm that is not the first, two groups of 2."""
    factor = 3.0
    path = (convolution(), layers.ReLU(), layers.Dense(4, name="dense"), group())
    return graph(*path, layers.Lambda(lambda x: x * factor))


EQUALIZED = {
    "convolution": lambda: graph(convolution(), group()),
    "no bias": lambda: graph(convolution(use_bias=False), group()),
    "instance": lambda: graph(convolution(), keras_norm.InstanceNormalization(name="norm")),
    "keras": lambda: graph(convolution(), layers.GroupNormalization(GROUPS, name="norm")),
    "keras per channel": lambda: graph(convolution(), layers.GroupNormalization(-1, name="norm")),
    "group size": lambda: graph(
        convolution(), keras_norm.GroupNormalization(group_size=2, name="norm")
    ),
    "depthwise": lambda: graph(
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="linear"),
        keras_norm.GroupNormalization(3, name="norm"),
    ),
    "transposed": lambda: graph(layers.Conv2DTranspose(4, 3), group()),
    "dense": in_attributes,
    "wrapped": lambda: graph(keras_norm.WeightNormalization(convolution()), group()),
    "no affine": lambda: graph(convolution(), group(center=False, scale=False)),
    "nested": nested,
}


def uneven(model, spread=30.0):
    """Random weights, kernels and biases with channels between 1 and `spread`."""
    random = np.random.default_rng(2)
    for weight in model.weights:
        value = random.normal(size=weight.shape)
        if weight.name in ("kernel", "bias", "g"):
            loud = np.geomspace(1.0, spread, weight.shape[-1])
            value = value * (loud if weight.name != "bias" else 10 * loud)
        weight.assign(value)
    return model


def norms_of(model):
    return [layer for layer in model._flatten_layers() if layer.name == "norm"]


def norm_of(model):
    (norm,) = norms_of(model)
    return norm


def seen_by_norm(model, data):
    """What the norm of a model is given."""
    norm, seen = norm_of(model), []
    original = norm.call
    norm.call = lambda x, **how: seen.append(np.asarray(x)) or original(x, **how)
    model(data, training=False)
    norm.call = original
    (x,) = seen
    return x


@pytest.mark.parametrize("name", EQUALIZED)
def test_same_function_with_even_groups(name):
    model = uneven(EQUALIZED[name]())
    before = [weight.numpy() for weight in model.weights]
    data = images()
    expected = np.asarray(model(data))
    new = equalize(model, [{"image": data[:4]}, {"image": data[4:]}])
    assert new is not model
    np.testing.assert_allclose(new(data), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    others = images(seed=1)
    expected = np.asarray(model(others))
    np.testing.assert_allclose(new(others), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert isinstance(norm_of(model).epsilon, float)

    groups = {"instance": 4, "keras per channel": 4, "depthwise": 3}.get(name, GROUPS)
    x = seen_by_norm(new, data).astype("float64")
    x = x.reshape(-1, groups, x.shape[-1] // groups)
    np.testing.assert_allclose(x.mean((0, 2)), 0.0, rtol=0, atol=1e-4)
    np.testing.assert_allclose(x.std((0, 2)), 1.0, rtol=0, atol=2e-2)  # ε counts as spread
    x = seen_by_norm(model, data).astype("float64").reshape(x.shape)
    assert x.std((0, 2)).max() > 2 * x.std((0, 2)).min()


def used_twice():
    linear, norm = layers.Conv2D(3, 3, padding="same"), keras_norm.InstanceNormalization()
    return graph(linear, norm, linear, norm)


def used_beside():
    inputs = keras.Input((8, 8, 3))
    x = convolution()(inputs)
    return keras.Model(inputs, layers.Add()([group()(x), x]))


def used_as_output():
    inputs = keras.Input((8, 8, 3))
    x = convolution()(inputs)
    return keras.Model(inputs, [group()(x), x])


class Derived(keras_norm.GroupNormalization):
    """May compute something else."""


LEFT_ALONE = {
    "used twice": used_twice,
    "used beside the norm": used_beside,
    "used as output": used_as_output,
    "activation": lambda: graph(convolution(activation="relu"), group()),
    "another axis": lambda: graph(convolution(), keras_norm.GroupNormalization(2, axis=1)),
    "two axes": lambda: graph(convolution(), keras_norm.InstanceNormalization(axis=[2, 3])),
    "another norm": lambda: graph(convolution(), keras_norm.LayerNormalization()),
    "derived": lambda: graph(convolution(), Derived(2)),
    "something between": lambda: graph(convolution(), layers.ReLU(), group()),
    "input": lambda: graph(keras_norm.InstanceNormalization()),
}


@pytest.mark.parametrize("build", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(build):
    model = build()
    assert equalize(model, [{"image": images()}]) is model


def test_a_silent_group_stays_finite():
    model = uneven(graph(convolution(), group()))
    kernel, bias = model.get_layer("linear").weights
    kernel.assign(kernel.numpy() * [0, 0, 1, 1])
    bias.assign([5, 5, 1, 1])
    new = equalize(model, [{"image": images()}])
    np.testing.assert_allclose(new(images()), model(images()), rtol=0, atol=1e-4)
    assert np.abs(seen_by_norm(new, images())).max() < 10


class Changed(layers.Layer):
    """Does not stay what its config says."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor


class Refusing(Changed):
    def get_config(self):
        raise NotImplementedError("nobody knows")


@pytest.mark.parametrize("kind", [Changed, Refusing])
def test_a_model_that_its_config_does_not_describe_is_left_with_a_warning(kind):
    layer = kind()
    layer.factor = 2.0
    model = graph(convolution(), group(), layer)
    with pytest.warns(UserWarning, match="without group equalisation, since its config"):
        assert equalize(model, [{"image": images()}]) is model


def test_no_operation_is_added(tmp_path):
    def operations(model):
        path = export_litert(model, tmp_path / "model.tflite")
        return [one["op_name"] for one in Interpreter(str(path))._get_ops_details()]

    inputs = keras.Input((8, 8, 3), name="image")
    names = ("convolution", "depthwise", "transposed", "dense", "wrapped")
    model = uneven(keras.Model(inputs, [EQUALIZED[name]()(inputs) for name in names]))
    new = equalize(model, [{"image": images()}])
    assert sum(not isinstance(norm.epsilon, float) for norm in norms_of(new)) == len(names)
    assert operations(new) == operations(model)
