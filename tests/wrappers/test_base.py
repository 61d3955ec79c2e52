"""Every wrapper around every layer: the formula's weights in it, the stored ones untouched."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_norm
from keras_norm.wrappers.base import StoredWeight
from tests.wrappers.conftest import LAYERS, WRAPPERS, Case


def units(weight, axes):
    """Index tuples that select one unit of a weight each."""
    axes = [axis % weight.ndim for axis in axes]
    for entry in itertools.product(*(range(weight.shape[axis]) for axis in axes)):
        index = [slice(None)] * weight.ndim
        for axis, place in zip(axes, entry, strict=True):
            index[axis] = place
        yield entry, tuple(index)


def formula(layer, own, stored, axes):
    """The effective weight by the papers, unit by unit, in float64."""
    result = np.empty(stored.shape)
    for entry, index in units(stored, axes):
        unit = stored[index].astype("float64")
        if isinstance(layer, keras_norm.WeightNormalization):
            length = own["g"][entry] + (own["data_g"][entry] if "data_g" in own else 0.0)
            result[index] = length * unit / np.sqrt((unit**2).sum())
        elif isinstance(layer, keras_norm.WeightStandardization):
            result[index] = (unit - unit.mean()) / np.sqrt(unit.var() + 1e-10)
            if layer.scaled:
                result[index] *= own["gain"][entry] * 1.7 / np.sqrt(unit.size)
        else:
            result[index] = unit
    if isinstance(layer, keras_norm.SpectralNormalization):
        matrix = np.stack([stored[index].ravel() for _, index in units(stored, axes)], -1)
        sigma = own["v"].astype("float64") @ matrix @ own["u"]
        bound = layer.norm_bound
        result = result / sigma if bound is None else result * min(1.0, bound / sigma)
    return result


def plain_twin(case, wrapper):
    """A model of the bare layer with the weights that the formula gives."""
    twin, layer = case.model(case.make())
    values = {weight.name: weight.numpy() for weight in wrapper.weights}
    for target in layer.weights:
        value = values[target.name]
        if target.name in case.axes:
            prefix = "" if target.name == "embeddings" else target.name.removesuffix("kernel")
            own = {name.removeprefix(prefix): v for name, v in values.items() if prefix in name}
            value = formula(wrapper, own, value, case.axes[target.name])
        elif target.name == "bias" and "data_bias" in values:
            value = value + values["data_bias"]
        target.assign(value)
    return twin


def assert_same(actual, expected, bound=2e-6):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert np.abs(actual - expected).max() <= bound * max(1.0, np.abs(expected).max())


def test_the_layer_runs_with_the_formulas_weights_and_keeps_its_own(case, tmp_path):
    model, wrapper = case.randomized()
    x, before = case.inputs(), [w.numpy() for w in model.variables]
    expected = plain_twin(case, wrapper)(x)
    first = model.predict(x, verbose=0)
    assert_same(first, expected)
    np.testing.assert_array_equal(model.predict(x, verbose=0), first)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert_same(keras_norm.bake(model)(x), first, 1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), first)


def test_shapes_masks_and_weights_are_the_layers(case):
    model, wrapper = case.model()
    twin, plain = case.model(case.make())
    assert model.output_shape == twin.output_shape
    assert model.outputs[0].dtype == twin.outputs[0].dtype
    assert wrapper.supports_masking == plain.supports_masking
    assert [w.shape for w in wrapper.layer.weights] == [w.shape for w in plain.weights]
    mask = getattr(model(case.inputs()), "_keras_mask", None)
    assert (mask is None) == (getattr(twin(case.inputs()), "_keras_mask", None) is None)


def test_gradients_reach_the_stored_weights(case):
    model, wrapper = case.randomized()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(model(case.inputs(), training=True)))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        gradient = tf.convert_to_tensor(gradient)
        assert np.isfinite(gradient).all()
        # Standardized kernels of one entry are zero whatever is stored.
        assert np.abs(gradient).max() > 0 or wrapper.name == "", weight.path


HOWS = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "xla": {"jit_compile": True},
}
FITS = [("eager", "Conv1D"), ("graph", "Conv2DTranspose"), ("graph", "LSTM"), ("graph", "LSTMCell")]
FITS += [("graph", "Embedding"), ("xla", "SeparableConv1D"), ("xla", "Conv1DTranspose")]


@pytest.mark.parametrize("fit", FITS, ids=" ".join)
@pytest.mark.parametrize("name", ["weight", "spectral", "standardized, scaled"])
def test_fit(name, fit):
    how, layer = fit
    case = Case(*WRAPPERS[name], *LAYERS[layer])
    model, wrapper = case.model()
    model.compile(keras.optimizers.Adam(0.02), "mse", **HOWS[how])
    before = {w.name: w.numpy() for w in wrapper.weights}
    x = case.inputs(16)
    y = np.tanh(model.predict(x, verbose=0)) - 0.5
    losses = model.fit(x, y, batch_size=8, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for weight in wrapper.weights:
        assert not np.array_equal(weight, before[weight.name]), weight.name


class Kitchen(layers.Layer):
    """A kernel, and everything else a layer may have: state, seeds, losses, sublayers."""

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], 4))
        self.calls = self.add_weight(
            name="calls", shape=(), initializer="zeros", trainable=False, aggregation="mean"
        )
        self.norm = layers.BatchNormalization(momentum=0.5)
        self.norm.build((None, 4))
        self.dropout = layers.Dropout(0.5, seed=3)
        self.inner = layers.Activation("linear", activity_regularizer="l1")

    def call(self, x, training=False):
        self.calls.assign(self.calls + 1.0)
        self.calls.assign(self.calls + 1.0)
        y = self.norm(keras.ops.matmul(x, self.kernel), training=training)
        self.add_loss(keras.ops.mean(y * y) * self.calls)
        return self.inner(self.dropout(y, training=training))


def wrapped_kitchen(wrapper, build=True):
    """The layer alone and wrapped, with equal kernels."""
    if wrapper(layers.Dense(2)).get_config().get("data_init"):
        pytest.skip("not for layers of one's own")
    return wrapper(Kitchen(), axis=-1)
