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
from tests.wrappers.conftest import LAYERS, WRAPPERS, Case, fits


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
    x, before = case.inputs(), model.get_weights()
    expected = plain_twin(case, wrapper)(x)
    first = model.predict(x, verbose=0)
    assert_same(first, expected)
    np.testing.assert_array_equal(model.predict(x, verbose=0), first)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert_same(keras_norm.bake(model)(x), first, 1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


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
    model, _ = case.randomized()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(model(case.inputs(), training=True)))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        gradient = tf.convert_to_tensor(gradient)
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, weight.path


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
    model.compile(keras.optimizers.SGD(0.3, global_clipnorm=1.0), "mse", **HOWS[how])
    before = {w.name: w.numpy() for w in wrapper.weights}
    x = case.inputs(16)
    y = np.tanh(model.predict(x, verbose=0)) - 0.5
    losses = model.fit(x, y, batch_size=8, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for weight in wrapper.weights:
        assert not np.array_equal(weight, before[weight.name]), weight.name


class Kitchen(layers.Layer):
    """A kernel, and everything else a layer may have: state, seeds, losses, layers of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = keras_norm.BatchNormalization(momentum=0.5)
        self.dropout = layers.Dropout(0.5, seed=3)
        self.inner = layers.Activation("linear", activity_regularizer="l1")

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], 4), regularizer="l2", initializer="ones"
        )
        self.calls = self.add_weight(
            name="calls", shape=(), initializer="zeros", trainable=False, aggregation="mean"
        )
        self.norm.build((None, 4))

    def call(self, x, training=False):
        self.calls.assign(self.calls + 1.0)
        self.calls.assign(self.calls + 1.0)
        y = self.norm(keras.ops.matmul(x, self.kernel), training=training)
        self.add_loss(keras.ops.mean(y * y) * self.calls)
        return self.inner(self.dropout(y, training=training))


def kitchens():
    """Models of the layer and of the wrapped layer; wrapping it changes nothing."""
    wrapped = keras_norm.WeightNormalization(Kitchen(), axis=-1)
    return [keras.Sequential([keras.Input((3,)), one]) for one in (Kitchen(), wrapped)]


def state_of(model):
    """What must be alike: moving moments, counters, seeds."""
    wanted = ("calls", "moving_mean", "moving_variance", "seed_generator_state")
    return {v.name: v.numpy() for v in model.variables if v.name in wanted}


def test_state_seeds_and_losses_of_the_layer_are_as_without_the_wrapper():
    plain, wrapped = kitchens()
    x = tf.constant(np.random.default_rng(0).normal(size=(8, 3)).astype("float32"))
    for _ in range(2):
        outputs = [model(x, training=True) for model in (plain, wrapped)]
        losses = [model.losses for model in (plain, wrapped)]
        assert_same(outputs[1], outputs[0])
        assert len(losses[0]) == len(losses[1]) == 3
        assert float(sum(losses[1])) == pytest.approx(float(sum(losses[0])), rel=1e-5)
    for _ in range(2):
        outputs = [tf.function(model)(x, training=True) for model in (plain, wrapped)]
        assert_same(outputs[1], outputs[0])
    states = [state_of(model) for model in (plain, wrapped)]
    assert len(states[0]) == 4 and states[0]["calls"] == 8
    for name, value in states[0].items():
        np.testing.assert_allclose(states[1][name], value, rtol=1e-5, atol=1e-6)


def test_a_stateless_call_returns_state_and_losses():
    """What JAX's `fit` is made of, with a scope around the wrapper's own."""
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    answers = []
    for model in kitchens():
        before = [v.numpy() for v in model.variables]
        trainable = [2.0 * v.value for v in model.trainable_variables]
        fixed = [v.value for v in model.non_trainable_variables]
        y, after, losses = model.stateless_call(
            trainable, fixed, x, training=True, return_losses=True
        )
        for variable, value in zip(model.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)
        names = [v.name for v in model.non_trainable_variables]
        assert len(losses) == 3
        answers.append((y, dict(zip(names, after, strict=True)), sum(losses)))
    (y, state, loss), (wrapped_y, wrapped_state, wrapped_loss) = answers
    assert_same(wrapped_y, y)
    assert float(wrapped_loss) == pytest.approx(float(loss), rel=1e-5)
    for name, value in state.items():
        np.testing.assert_allclose(wrapped_state[name], value, rtol=1e-5, atol=1e-6)


def test_fit_on_replicas_keeps_them_together(strategy):
    x = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    with strategy.scope():
        kitchen = keras_norm.WeightNormalization(Kitchen(), axis=-1)
        critic = keras_norm.SpectralNormalization(layers.Dense(2))
        model = keras.Sequential([keras.Input((3,)), kitchen, critic])
        model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    before = [w.numpy() for w in model.weights]
    model.fit(x, x[:, :2], batch_size=4, epochs=2, verbose=0)
    for weight, value in zip(model.weights, before, strict=True):
        copies = [v.numpy() for v in strategy.experimental_local_results(weight.value)]
        np.testing.assert_array_equal(*copies)
        assert not np.array_equal(copies[0], value), weight.path
    assert kitchen.layer.calls.numpy() == 12


def test_effective_weights_come_from_the_stored_ones_unrounded(wrapper):
    """As float16 these kernels are zero, or infinite."""
    kernel = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    x = np.random.default_rng(1).normal(size=(5, 6)).astype("float16")
    for size in (1e-9, 1e9):
        answers = []
        for policy in ("mixed_float16", "float32"):
            initial = keras.initializers.Constant(size * kernel)
            layer = wrapper(layers.Dense(4, kernel_initializer=initial), dtype=policy)
            layer.build((None, 6))
            if hasattr(layer, "g"):
                layer.g.assign([1.0, 2.0, 3.0, 4.0])
                layer.g.assign(layer.g - getattr(layer, "data_g", 0.0))
            answers.append(layer(x))
        assert answers[0].dtype == "float16"
        assert_same(tf.cast(answers[0], "float32"), answers[1], 2e-3)


def test_zero_kernels_stay_finite(wrapper):
    layer = wrapper(layers.Dense(4, kernel_initializer="zeros", bias_initializer="ones"))
    x = tf.ones((3, 6))
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        loss = tf.reduce_sum(y * y)
    for gradient in tape.gradient(loss, [w.value for w in layer.trainable_weights]):
        assert np.isfinite(gradient).all()
    assert np.isfinite(y).all() and all(np.isfinite(w).all() for w in layer.weights)


def test_regularizers_and_constraints_act_on_the_stored_kernel(wrapper):
    constraint = keras.constraints.MaxNorm(0.1)
    dense = layers.Dense(4, kernel_regularizer="l2", kernel_constraint=constraint)
    model = keras.Sequential([keras.Input((6,)), wrapper(dense)])
    stored = float(tf.reduce_sum(dense.kernel * dense.kernel))
    assert [float(loss) for loss in model.losses] == pytest.approx([0.01 * stored])
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(np.ones((4, 6)), np.ones((4, 4)), verbose=0)
    assert np.linalg.norm(dense.kernel, axis=0).max() <= 0.1 + 1e-6


def test_a_built_layer_keeps_its_weights(wrapper):
    dense = layers.Dense(4)
    dense.build((None, 6))
    before = dense.get_weights()
    layer = wrapper(dense)
    layer(np.ones((3, 6)))
    for now, then in zip(dense.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_some_of_a_layers_weights_and_some_of_its_axes():
    lstm = layers.LSTM(3)
    layer = keras_norm.WeightNormalization(lstm, axis={"recurrent_kernel": (-1,)})
    layer(np.ones((2, 4, 6)))
    own = {w.name for w in layer.weights} - {w.name for w in lstm.weights}
    assert own == {"recurrent_g"}
    assert layer.get_config()["axis"] == {"recurrent_kernel": [-1]}
    rows = keras_norm.WeightNormalization(layers.Dense(4), axis=0)
    rows.build((None, 6))
    assert rows.g.shape == (6,)


def operations(path):
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return [detail["op_name"] for detail in interpreter._get_ops_details()]


@pytest.mark.parametrize("layer", ["Conv2DTranspose", "DepthwiseConv2D", "EinsumDense"])
@pytest.mark.parametrize("name", ["weight, data init", "spectral, bounded", "standardized, scaled"])
def test_litert_holds_the_plain_layer(name, layer, tmp_path):
    """Effective weights are constants there; not one operation computes them."""
    if not fits(name, layer):
        name = "weight"
    case = Case(*WRAPPERS[name], *LAYERS[layer])
    model, _ = case.randomized()
    for file, one in (("wrapped", model), ("plain", keras_norm.bake(model))):
        keras_norm.export_litert(one, tmp_path / f"{file}.tflite")
    wrapped, plain = (operations(tmp_path / f"{file}.tflite") for file in ("wrapped", "plain"))
    assert wrapped == plain
    result = keras_norm.verify(model, tmp_path / "wrapped.tflite", data=case.inputs())
    assert result.passed, str(result)


def test_dtype_is_that_of_the_layer_or_given_to_it(wrapper):
    layer = wrapper(layers.Dense(4, dtype="mixed_bfloat16"))
    assert layer.dtype_policy.name == "mixed_bfloat16"
    layer = wrapper(layers.Dense(4), dtype="float64")
    assert layer.layer.dtype_policy.name == "float64"
    dense = layers.Dense(4)
    dense.build((None, 6))
    with pytest.raises(ValueError, match=r"`dtype` of .* must be that of a layer that is built"):
        wrapper(dense, dtype="float64")


def test_frozen_wrappers_freeze_the_layer(wrapper):
    layer = wrapper(layers.Dense(4), trainable=False)
    model = keras.Sequential([keras.Input((6,)), layer])
    assert not model.trainable_weights and not layer.layer.trainable


@pytest.mark.parametrize("wrapped", [3, None, "dense", layers.Dense])
def test_what_is_no_layer(wrapper, wrapped):
    with pytest.raises(
        TypeError, match=r"`layer` of \w+Normalization|Standard.* must be a Keras l"
    ):
        wrapper(wrapped)


def test_layers_without_a_known_kernel():
    wrap = keras_norm.SpectralNormalization
    with pytest.raises(
        ValueError, match=r"`layer` of SpectralNormalization .* class Flatten\. Name"
    ):
        wrap(layers.Flatten())
    with pytest.raises(
        ValueError, match=r"must have one floating weight 'kernel'.*Dropout with wei"
    ):
        wrap(layers.Dropout(0.5), axis=-1).build((None, 3))
    pair = keras.Sequential([layers.Dense(3), layers.Dense(3)])
    with pytest.raises(ValueError, match="must have one floating weight 'kernel'"):
        wrap(pair, axis=-1).build((None, 3))
    for axis, error in ((2, ValueError), ([0, -2], ValueError), (0.5, TypeError), ([], ValueError)):
        with pytest.raises(error, match="`axis` must"):
            wrap(layers.Dense(3), axis=axis).build((None, 3))


def test_cells_with_dropout():
    """Keras looks for the mask of a cell in the cell itself, and would find an old one there."""
    with pytest.raises(
        ValueError, match=r"must be a cell without dropout.*Wrap the recurrent layer"
    ):
        keras_norm.WeightNormalization(layers.GRUCell(3, recurrent_dropout=0.5))


def test_a_stored_weight_knows_its_units():
    variable = keras.Variable(np.zeros((2, 3, 4)), dtype="bfloat16")
    weight = StoredWeight("", variable, (0, 2))
    assert weight.outputs == (2, 4)
    assert weight.spread(np.ones((2, 4))).shape == (2, 1, 4)
    assert weight.value().dtype == "float32"
