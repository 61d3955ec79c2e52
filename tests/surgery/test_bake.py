"""Baked models compute the same, without a wrapper in them."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_norm
from keras_norm.wrappers.base import BaseWeightWrapper

WN, SN = keras_norm.WeightNormalization, keras_norm.SpectralNormalization


def wrappers(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, BaseWeightWrapper)]


def large():
    """Shared layers, nested models, layers in layers, and recurrent ones around wrapped cells."""
    inputs = keras.Input((5, 6), name="x")
    shared = WN(layers.Dense(6), data_init=True, name="shared")
    inner = [SN(layers.Conv1D(6, 2, padding="same"), name="conv"), layers.BatchNormalization()]
    nested = keras.Sequential([keras.Input((5, 6)), *inner], name="nested")
    x = shared(shared(inputs))
    x = layers.Add(name="sum")([nested(x), x])
    x = layers.TimeDistributed(SN(layers.Dense(3)), name="each")(x)
    x = layers.Bidirectional(layers.RNN(WN(layers.LSTMCell(4)), return_sequences=True), name="b")(x)
    x = layers.RNN([WN(layers.GRUCell(3)), layers.LSTMCell(2)], name="two")(x)
    return keras.Model(inputs, {"y": x}, name="large")


def test_everything_at_once(tmp_path):
    model, x = large(), np.random.default_rng(0).normal(size=(8, 5, 6)).astype("float32")
    model(x, training=True)
    before = model.get_weights()
    baked = keras_norm.bake(model)
    assert wrappers(model) and not wrappers(baked)
    np.testing.assert_allclose(baked(x)["y"], model(x)["y"], rtol=0, atol=1e-6)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert [layer.name for layer in baked.layers] == [layer.name for layer in model.layers]
    assert baked.name == model.name
    assert [type(layer) for layer in baked.get_layer("nested").layers[:1]] == [layers.Conv1D]
    assert len(baked.get_layer("shared")._inbound_nodes) == 2
    baked.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x)["y"], baked(x)["y"])


def test_the_models_own_layers_stay_its_own():
    model = keras.Sequential([keras.Input((3,)), WN(layers.Dense(2)), layers.Dense(2)])
    model.layers[0].layer.bias.trainable = model.layers[1].kernel.trainable = False
    baked = keras_norm.bake(model)
    assert [weight.trainable for weight in baked.weights] == [True, False, False, True]
    baked.layers[1].kernel.assign(0.0 * baked.layers[1].kernel)
    assert np.abs(model.layers[1].kernel).max() > 0
    assert baked.layers[0].name == model.layers[0].name


def test_one_layer():
    wrapper, x = WN(layers.Dense(2, activation="relu", name="inner"), name="outer"), np.ones((4, 3))
    wrapper(x)
    wrapper.g.assign([3.0, 5.0])
    plain = keras_norm.bake(wrapper)
    assert type(plain) is layers.Dense and plain.name == "outer"
    np.testing.assert_allclose(plain(x), wrapper(x), atol=1e-6)
    recurrent = layers.RNN(SN(layers.GRUCell(3)))
    recurrent(np.ones((2, 4, 3)))
    baked = keras_norm.bake(recurrent)
    assert type(baked.cell) is layers.GRUCell
    np.testing.assert_allclose(baked(np.ones((2, 4, 3))), recurrent(np.ones((2, 4, 3))), atol=1e-6)


def test_mixed_precision_bakes_the_stored_precision():
    wrapper = WN(layers.Dense(2), dtype="mixed_float16")
    wrapper.build((None, 3))
    plain = keras_norm.bake(wrapper)
    assert plain.dtype_policy.name == "mixed_float16" and plain.kernel.dtype == "float32"
    ((_, effective),) = wrapper.effective_weights()
    np.testing.assert_array_equal(plain.kernel, effective)


def test_a_model_without_wrappers_is_copied():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.BatchNormalization()])
    baked = keras_norm.bake(model)
    for one, other in zip(model.get_weights(), baked.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_data_norm_has_learned_and_inputs_stay():
    data = layers.Normalization()
    data.adapt(np.array([[1.0, 2.0], [5.0, 3.0]]))
    inputs = keras.Input((2,)), keras.Input((4,), sparse=True, name="sparse")
    outputs = WN(layers.Dense(2))(data(inputs[0])), layers.Lambda(lambda x: np.pi * x)(inputs[1])
    model, x = keras.Model(inputs, outputs), [np.ones((3, 2)), np.ones((3, 4))]
    model.compile("sgd", lambda y, p: np.pi * (y - p))
    baked = keras_norm.bake(model)
    assert [i.name for i in baked.inputs] == [i.name for i in model.inputs]
    assert baked.inputs[1].sparse and baked.compiled
    for one, other in zip(model(x), baked(x), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def times(factor):
    def scaled(x):
        return factor * x

    return scaled


def test_functions_of_one_name_and_lambdas_stay_those_they_are():
    """Where Keras's own config has the name alone, or the code."""
    given = [times(2.0), times(3.0), lambda x: np.pi * x]
    inner = [WN(layers.Dense(3, activation=one, kernel_regularizer=one)) for one in given]
    inner = keras.Sequential([keras.Input((3,)), *inner, layers.Lambda(given[2])])
    outer = layers.TimeDistributed(inner)
    model = keras.Sequential([keras.Input((2, 3)), outer, layers.Dense(2, lambda x: np.e * x)])
    x = np.ones((1, 2, 3), "float32")
    verbs = (keras_norm.bake, keras_norm.fold, keras_norm.freeze, keras_norm.accelerate)
    for verb in verbs:
        new = verb(model) if verb is keras_norm.bake else verb(model, verbose=False)
        np.testing.assert_allclose(new(x), model(x), rtol=1e-5)
        dense = [one for one in new._flatten_layers() if type(one) is layers.Dense]
        found = {id(one.kernel.regularizer) for one in dense} - {id(None)}
        assert found == {id(one) for one in given}


class Hidden(keras.Model):
    """Makes its wrapper itself, as no config says."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = WN(layers.Dense(units), name="hidden_dense")

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        return {"units": self.units}


class Undescribed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = WN(layers.Dense(2), name="hidden_dense")

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("make", [Hidden, Undescribed])
def test_wrappers_that_no_config_describes(make):
    model = make()
    model(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"which makes \['hidden_dense'\] itself. Bake those"):
        keras_norm.bake(model)
    outer = keras.Sequential([keras.Input((3,)), model])
    with pytest.raises(ValueError, match="`model` must have each of its wrappers in a config"):
        keras_norm.bake(outer)
    plain = keras_norm.bake(model.dense)
    np.testing.assert_allclose(plain(np.ones((2, 3))), model(np.ones((2, 3))), atol=1e-6)


def test_what_cannot_be_baked():
    with pytest.raises(
        TypeError, match=r"`model` must be a Keras model or layer\. Received: .*int"
    ):
        keras_norm.bake(3)
    with pytest.raises(ValueError, match=r"`model` must be built.*WeightNormalization, not built"):
        keras_norm.bake(WN(layers.Dense(2)))
