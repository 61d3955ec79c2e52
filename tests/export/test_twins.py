"""Twins: the same function in other layers."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_norm.export import export_litert
from keras_norm.export.precision import in_float32
from keras_norm.export.twins import twin


def test_a_twin_computes_the_same_and_shares_nothing():
    data = np.random.default_rng(0).normal(3.0, 2.0, (8, 5)).astype("float32")
    seen = layers.Normalization()
    seen.adapt(data)
    offset = 2.0

    def shifted(x):
        return x + offset

    inner = keras.Sequential([layers.Dense(4, activation=shifted), layers.Dropout(0.5)])
    shared = layers.Dense(4)
    inputs = keras.Input((5,), name="x")
    x = shared(inner(seen(inputs)))
    model = keras.Model({"x": inputs}, [shared(x), layers.Lambda(lambda x: x * offset)(x)])
    model.compile("adam", "mse")
    new = twin(model)
    for one, other in zip(model({"x": data}), new({"x": data}), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [layer.name for layer in new._flatten_layers()] == [
        layer.name for layer in model._flatten_layers()
    ]
    assert not set(map(id, model._flatten_layers())) & set(map(id, new._flatten_layers()))
    for weight in new.weights:
        weight.assign(weight + 1)
    assert not new.compiled
    assert np.abs(np.asarray(new({"x": data})[0]) - model({"x": data})[0]).max() > 0.1


def test_a_change_reaches_every_dict():
    inner = keras.Sequential([layers.Dense(4, activation="relu")])
    model = keras.Sequential([keras.Input((5,)), inner, layers.Dense(4, activation="relu")])

    def linear(config):
        return {k: "linear" if k == "activation" else v for k, v in config.items()}

    dense = [one for one in twin(model, linear)._flatten_layers() if type(one) is layers.Dense]
    assert len(dense) == 2
    assert all(one.activation is keras.activations.linear for one in dense)


def plus(offset):
    def shifted(x):
        return x + offset

    return shifted


def network(*path):
    return keras.Sequential([keras.Input((4,)), *path], name="net")


def test_functions_of_one_name_are_not_mixed_up():
    """A config has nothing but their name, and of a lambda not what it refers to."""
    given = [plus(1.0), plus(2.0), lambda x: np.pi * x, keras.activations.relu, relu, "relu"]
    model = network(*[layers.Dense(4, to, dtype="mixed_float16") for to in given])
    given[-1] = keras.activations.relu
    assert [layer.activation for layer in in_float32(model).layers] == given
    assert [one.__name__ for one in given[:3]] == ["shifted", "shifted", "<lambda>"]


def relu(x):
    return 2.0 * keras.ops.relu(x)


def test_classes_of_one_name_are_refused(tmp_path):
    other = type("Dense", (Dense,), {})
    model = network(*[kind(4, dtype="mixed_float16") for kind in (Dense, other)])
    message = r"`model` must be .* Received: model='net', where two .* named 'Dense': register"
    with pytest.raises(ValueError, match=message):
        export_litert(model, tmp_path / "model.tflite")


class Dense(layers.Dense):
    """Named like Keras's, and registered nowhere."""

    def call(self, x):
        return 2.0 * super().call(x)


@pytest.mark.parametrize("order", [(Dense, layers.Dense), (layers.Dense, Dense)])
def test_classes_named_like_kerass_are_told_apart(order):
    model = network(*[kind(4, dtype="mixed_float16") for kind in order])
    assert tuple(map(type, in_float32(model).layers)) == order
