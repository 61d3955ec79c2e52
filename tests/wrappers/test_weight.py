"""Data-dependent initialization by the paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_norm
from tests.wrappers.conftest import LAYERS, Case, fits

BY_DATA = [name for name in LAYERS if fits("data init", name)]


def batch(shape, seed=0):
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype("float32")


def assert_standard(y, axis=-1):
    y = np.moveaxis(np.asarray(y, "float64"), axis, -1).reshape(-1, y.shape[axis])
    assert np.abs(y.mean(0)).max() < 1e-5
    assert np.abs(y.std(0) - 1).max() < 1e-4


def with_data_init(layer):
    return keras_norm.WeightNormalization(layer, data_init=True)


def stack(**compile_arguments):
    """Three layers, each of which needs the output below to be initialized before it is."""
    parts = [
        with_data_init(layers.Conv1D(5, 2, activation="relu", dilation_rate=2)),
        with_data_init(layers.DepthwiseConv1D(2, activation="tanh")),
        with_data_init(layers.Dense(3)),
    ]
    model = keras.Sequential([keras.Input((9, 4)), *parts])
    model.compile(keras.optimizers.SGD(0.0), "mse", **compile_arguments)
    return model


@pytest.mark.parametrize("name", BY_DATA)
def test_the_first_batch_gives_units_mean_zero_and_deviation_one(name):
    make, shape, _ = LAYERS[name]
    config = {**make().get_config(), "activation": "linear", "use_bias": True}
    layer = with_data_init(type(make()).from_config(config))
    x = batch((16, *shape[1:]))
    before = layer(x)
    assert np.abs(before - layer.layer(x)).max() < 1e-5 * np.abs(before).max()
    first = layer(x, training=True)
    assert_standard(first)
    assert_standard(layer(x))
    again = layer(batch(x.shape, 1) * 5, training=True)
    with pytest.raises(AssertionError):
        assert_standard(again)
    np.testing.assert_allclose(layer(x), first, rtol=0, atol=1e-5)


def test_the_papers_numbers():
    """t = v·x / ‖v‖, g = 1 / std(t), b = -mean(t) / std(t); v does not change."""
    layer, x = with_data_init(layers.Dense(3, activation="relu")), batch((64, 5))
    layer.build(x.shape)
    v = layer.layer.kernel.numpy().astype("float64")
    y = layer(x, training=True)
    t = x @ (v / np.sqrt((v**2).sum(0)))
    np.testing.assert_allclose(layer.g + layer.data_g, 1 / t.std(0), rtol=1e-5)
    np.testing.assert_allclose(layer.layer.bias + layer.data_bias, -t.mean(0) / t.std(0), rtol=1e-4)
    np.testing.assert_allclose(y, np.maximum((t - t.mean(0)) / t.std(0), 0), atol=1e-5)
    np.testing.assert_array_equal(layer.layer.kernel, v.astype("float32"))
    assert int(layer.initialized) == 1


def test_a_layer_without_bias_keeps_its_mean():
    layer, x = with_data_init(layers.Conv2D(3, 2, use_bias=False)), batch((8, 5, 5, 2))
    y = np.asarray(layer(x, training=True), "float64")
    assert np.abs(y.std((0, 1, 2)) - 1).max() < 1e-4
    assert np.abs(y.mean((0, 1, 2))).min() > 1e-3
    assert "data_bias" not in {w.name for w in layer.weights}


def test_channels_first():
    """Convolutions in that order need a GPU; their moments do not."""
    conv = layers.Conv1D(3, 1, data_format="channels_first")
    layer, x = with_data_init(conv), batch((8, 4, 6))
    layer.build(x.shape)
    mean, variance, number = tf.function(
        lambda x: layer._moments(x, layer.stored_weights()[0]), jit_compile=True
    )(x)
    v = conv.kernel.numpy()[0] / np.sqrt((conv.kernel.numpy()[0] ** 2).sum(0))
    t = np.einsum("bct,cd->btd", x, v)
    np.testing.assert_allclose(mean, t.mean((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, t.var((0, 1)), rtol=1e-4)
    assert float(number) == 48


@pytest.mark.parametrize(
    "how", [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}]
)
def test_layers_initialize_in_order_in_fit(how, tmp_path):
    model, x = stack(**how), batch((32, 9, 4))
    model.fit(x, np.zeros((32, 6, 3)), batch_size=32, epochs=2, verbose=0)
    assert_standard(model.predict(x, verbose=0))
    pre = model.layers[0].layer
    assert_standard(keras.Model(model.inputs, linear(model.layers[0])(model.inputs[0]))(x))
    assert pre.activation is keras.activations.relu
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.fit(10 * x, np.zeros((32, 6, 3)), batch_size=32, verbose=0)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def linear(wrapper):
    """The wrapper's plain layer, less its activation."""
    layer = keras_norm.bake(wrapper)
    layer.activation = keras.activations.linear
    return layer


@pytest.mark.parametrize("cut", [16, 31, 32])
def test_replicas_initialize_by_the_batch_of_all(strategy, cut):
    """Uneven shards, and an empty one."""
    x = batch((32, 4))
    with strategy.scope():
        layer = with_data_init(layers.Dense(3))
        layer.build(x.shape)

    def shard(context):
        return tf.constant(np.split(x, [cut])[context.replica_id_in_sync_group])

    @tf.function
    def run(x):
        return strategy.run(lambda x: layer(x, training=True), (x,))

    y = run(strategy.experimental_distribute_values_from_function(shard))
    assert_standard(np.concatenate(strategy.experimental_local_results(y)))
    for weight in layer.weights:
        copies = [v.numpy() for v in strategy.experimental_local_results(weight.value)]
        np.testing.assert_array_equal(*copies)


def test_fit_on_replicas(strategy):
    x = batch((32, 9, 4))
    with strategy.scope():
        model = stack(jit_compile=False)
    model.fit(x, np.zeros((32, 6, 3)), batch_size=32, verbose=0)
    assert_standard(model.predict(x, verbose=0))


@pytest.mark.parametrize("batch_of_nothing", [np.zeros((0, 4)), np.full((8, 4), np.nan)])
def test_batches_that_say_nothing_leave_it_to_the_next(batch_of_nothing):
    layer, x = with_data_init(layers.Dense(3)), batch((16, 4))
    layer(batch_of_nothing.astype("float32"), training=True)
    assert int(layer.initialized) == 0 and all(np.isfinite(w).all() for w in layer.weights)
    assert_standard(layer(x, training=True))


def test_only_training_initializes():
    layer, x = with_data_init(layers.Dense(3)), batch((16, 4))
    layer(x)
    layer(x, training=False)
    layer.trainable = False
    layer(x, training=True)
    assert int(layer.initialized) == 0
    layer.trainable = True
    assert_standard(layer(x, training=True))


def test_a_unit_that_does_not_vary_keeps_its_length():
    layer = with_data_init(layers.Dense(2, kernel_initializer="identity"))
    x = np.stack([np.full(16, 3.0), np.arange(16.0)], -1).astype("float32")
    y = np.asarray(layer(x, training=True))
    np.testing.assert_allclose(y[:, 0], 0.0, atol=1e-6)
    assert float(layer.data_g[0]) == 1.0
    assert_standard(y[:, 1:])


def test_the_first_step_has_the_gradients_of_the_initialized_layer():
    x, layer = batch((16, 4)), with_data_init(layers.Dense(3))
    gradients = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(layer(x, training=True)))
        gradients.append(tape.gradient(loss, [w.value for w in layer.trainable_weights]))
    for first, second in zip(*gradients, strict=True):
        assert np.abs(first).max() > 1e-3
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)


def test_a_shared_layer_initializes_on_its_first_call():
    layer, x = with_data_init(layers.Dense(4)), batch((16, 4))
    inputs = keras.Input((4,))
    first = layer(inputs)
    model = keras.Model(inputs, [first, layer(first)])
    assert_standard(model(x, training=True)[0])


def test_mixed_precision_measures_in_float32():
    layer = keras_norm.WeightNormalization(layers.Dense(3), data_init=True, dtype="mixed_float16")
    x = batch((64, 4))
    layer(x, training=True)
    wide = with_data_init(layers.Dense(3))
    wide.build(x.shape)
    wide.set_weights(layer.get_weights())
    assert_standard(wide(x))


@pytest.mark.parametrize(
    ("layer", "more"),
    [
        (layers.LSTMCell(3), {}),
        (layers.Embedding(3, 4), {}),
        (layers.EinsumDense("ab,bc->ac", 3), {}),
        (layers.Dense(3), {"axis": -1}),
    ],
)
def test_layers_that_data_cannot_initialize(layer, more):
    with pytest.raises(ValueError, match="`data_init` must be False but for dense and conv"):
        keras_norm.WeightNormalization(layer, data_init=True, **more)


def test_wrapping_changes_nothing_and_the_scale_of_v_means_nothing():
    case = Case(keras_norm.WeightNormalization, {}, *LAYERS["Conv2DTranspose"])
    model, layer = case.model()
    plain, twin = case.model(case.make())
    twin.set_weights(layer.layer.get_weights())
    x = case.inputs()
    np.testing.assert_allclose(model(x), plain(x), rtol=0, atol=1e-6)
    expected = model(x)
    layer.layer.kernel.assign(7.0 * layer.layer.kernel)
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=1e-6)


def test_the_gradient_of_v_is_orthogonal_to_v():
    """So that steps of gradient descent only ever lengthen v, as the paper says."""
    layer, x = keras_norm.WeightNormalization(layers.Dense(3)), batch((8, 4))
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(layer(x)))
    kernel = layer.layer.kernel
    gradient = tape.gradient(loss, kernel.value)
    along = tf.reduce_sum(gradient * kernel.value, 0) / tf.norm(kernel.value, axis=0)
    assert np.abs(along).max() < 1e-5 * np.abs(gradient).max()
