"""Moments after recalibration are those of all data, in NumPy's float64."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_norm
from tests.surgery.conftest import trained

BN = layers.BatchNormalization
DATA = (np.random.default_rng(0).normal(size=(37, 4, 3, 6)) * [1, 2, 3, 4, 5, 6] + 10).astype(
    "float32"
)


def recalibrated(model, data, **arguments):
    """The new model, after checks that nothing but moving statistics is another."""
    before = [np.array(v) for v in model.variables]
    new = keras_norm.recalibrate(model, data, verbose=0, **arguments)
    for now, then in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(now, then)
    for mine, its in zip(model.variables, new.variables, strict=True):
        assert mine is not its and mine.trainable == its.trainable
        if not any(part in mine.name for part in ("moving", "renorm")):
            np.testing.assert_array_equal(its, mine)
    for one, twin in zip(model._flatten_layers(), new._flatten_layers(), strict=True):
        assert type(one) is type(twin) and one.name == twin.name
        assert one._layers or one.get_config() == twin.get_config()
    return new


def assert_moments(norm, rows, tolerance=1e-6):
    """The norm's moving moments are those of rows of float64."""
    rows = np.float64(rows).reshape(-1, rows.shape[-1])
    mean, variance = rows.mean(0), rows.var(0)
    known = {
        "moving_mean": mean,
        "moving_variance": variance,
        "renorm_mean": mean,
        "moving_stddev": np.sqrt(variance + norm.epsilon) if hasattr(norm, "epsilon") else None,
        "renorm_stddev": np.sqrt(variance + norm.epsilon) if hasattr(norm, "epsilon") else None,
        "moving_count": np.full(mean.shape, len(rows)),
    }
    found = {w.name: w for w in norm.weights if w.name in known}
    assert found
    for name, weight in found.items():
        np.testing.assert_allclose(weight, known[name], rtol=tolerance, atol=tolerance)


NORMS = {
    "batch": keras_norm.BatchNormalization,
    "keras": BN,
    "keras_renorm": lambda: BN(renorm=True),
    "renorm": keras_norm.BatchRenormalization,
    "ghost": lambda: keras_norm.GhostBatchNormalization(virtual_batch_size=4),
    "mean_only": keras_norm.MeanOnlyBatchNormalization,
    "switchable": keras_norm.SwitchableNormalization,
    "evonorm": keras_norm.EvoNormB0,
    "average": lambda: keras_norm.BatchNormalization(momentum=None),
    "frozen": lambda: keras_norm.BatchNormalization(trainable=False),
    "frozen_statistics": lambda: keras_norm.BatchNormalization(freeze_statistics=True),
    "synchronized": lambda: keras_norm.BatchNormalization(synchronized=True),
}


@pytest.mark.parametrize(
    ("norm", "batch_size"), [*((norm, 10) for norm in NORMS), ("batch", 1), ("batch", 37)]
)
def test_moments_are_those_of_the_data_however_it_is_cut(norm, batch_size):
    model = trained(keras.Sequential([keras.Input(DATA.shape[1:]), NORMS[norm]()]))
    new = recalibrated(model, DATA, batch_size=batch_size)
    assert_moments(new.layers[0], DATA)


@pytest.mark.parametrize(
    ("norm", "tolerance"),
    [
        (functools.partial(keras_norm.DecorrelatedBatchNormalization, epsilon=1e-5), 1e-4),
        (functools.partial(keras_norm.IterativeNormalization, iterations=12), 1e-4),
    ],
)
def test_whitening_norms_whiten_the_data(norm, tolerance):
    """The matrix of the whole covariance, where an average of those of batches would not do."""
    mixed = DATA @ np.random.default_rng(1).normal(size=(6, 6)).astype("float32")
    mixed[:20] *= 3.0
    model = keras.Sequential([keras.Input(DATA.shape[1:]), norm(group_size=3)])
    new = recalibrated(model, mixed, batch_size=5)
    rows = np.float64(new.predict(mixed, verbose=0)).reshape(-1, 6)
    np.testing.assert_allclose(rows.mean(0), 0.0, atol=tolerance)
    for group in (rows[:, :3], rows[:, 3:]):
        np.testing.assert_allclose(np.cov(group.T, bias=True), np.eye(3), atol=tolerance)


def test_a_large_mean_does_not_hide_the_variance():
    data = (DATA + 1000.0).astype("float32")
    model = keras.Sequential([keras.Input(data.shape[1:]), keras_norm.BatchNormalization()])
    assert_moments(recalibrated(model, data, batch_size=4).layers[0], data, 1e-5)


def deep():
    """A norm, dropout, weights whose training would change them, and a norm behind all that."""
    stack = [
        keras.Input(DATA.shape[1:]),
        BN(name="first"),
        layers.Dropout(0.5),
        keras_norm.SpectralNormalization(layers.Dense(5), name="dense"),
        keras_norm.BatchRenormalization(name="second"),
    ]
    return trained(keras.Sequential(stack))


def test_a_norm_behind_another_sees_what_that_makes_of_each_batch():
    """Each norm by the moments of the batch, all else as in inference."""
    model = deep()
    new = recalibrated(model, DATA, batch_size=8)
    first, dense = model.get_layer("first"), model.get_layer("dense")
    gamma, beta = (np.float64(w) for w in (first.gamma, first.beta))
    ((_, kernel),) = dense.effective_weights()
    seen = []
    for start in range(0, len(DATA), 8):
        x = np.float64(DATA[start : start + 8])
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = (x - mean) / np.sqrt(variance + first.epsilon) * gamma + beta
        seen.append(x @ np.float64(kernel) + np.float64(dense.layer.bias))
    assert_moments(new.get_layer("first"), DATA)
    assert_moments(new.get_layer("second"), np.concatenate(seen), 1e-5)
    assert new.get_layer("second").step == model.get_layer("second").step


def test_masked_steps_do_not_count():
    data = DATA[:, :, 0].copy()
    data[:, 2:] = 0.0
    norm = keras_norm.BatchNormalization()
    model = keras.Sequential([keras.Input(data.shape[1:]), layers.Masking(), norm])
    assert_moments(recalibrated(model, data, batch_size=7).layers[-1], data[:, :2])


def test_masked_steps_do_not_count_where_each_has_moments_of_its_own():
    data, lengths = DATA[:, :, 0].copy(), 1 + np.arange(len(DATA)) % 4
    data[np.arange(4) >= lengths[:, None]] = 0.0
    norm = keras_norm.BatchNormalization(axis=[1, 2])
    model = keras.Sequential([keras.Input(data.shape[1:]), layers.Masking(), norm])
    found = recalibrated(model, data, batch_size=7).layers[-1]
    for step in range(4):
        rows = np.float64(data[lengths > step, step])
        np.testing.assert_allclose(found.moving_mean[step], rows.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.moving_variance[step], rows.var(0), rtol=1e-5)


def two_inputs():
    inputs = [keras.Input((6,), name="a"), keras.Input((6,), name="b")]
    shared = BN(name="shared")
    inner = keras.Sequential([keras.Input((6,)), BN(name="within")], name="inner")
    return keras.Model(inputs, [shared(inputs[0]), inner(shared(inputs[1]))])


def pairs():
    flat = DATA.reshape(-1, 6)
    return {"a": flat[:200], "b": flat[200:400]}


@pytest.mark.parametrize("form", ["dict", "list", "dataset", "generator", "steps"])
def test_every_form_of_data_and_shared_layers(form):
    """A norm that is called twice has seen the data of both calls."""
    model, both = two_inputs(), pairs()
    steps, end = None, 200
    if form == "list":
        data = [both["a"], both["b"]]
    elif form == "dict":
        data = both
    else:
        data = tf.data.Dataset.from_tensor_slices((both, np.zeros(200))).batch(16)
    if form == "steps":
        data, steps, end = data.repeat(), 3, 48
    if form == "generator":
        dataset = data
        data = ((x, y) for x, y in dataset)
    model.compile("adam", "mse")
    new = recalibrated(model, data, steps=steps)
    seen = np.concatenate([both["a"][:end], both["b"][:end]])
    assert_moments(new.get_layer("shared"), seen)
    assert new.compiled and new.optimizer is not model.optimizer


def test_an_optimizer_goes_on():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3), BN()])
    model.compile("adam", "mse", run_eagerly=True)
    x = DATA.reshape(-1, 6)[:32]
    model.fit(x, x[:, :3], verbose=0)
    new = recalibrated(model, x)
    assert new.optimizer.iterations == 1
    new.fit(x, x[:, :3], verbose=0)


def test_the_bar_is_that_of_keras(capsys):
    model = keras.Sequential([keras.Input((6,)), BN()])
    keras_norm.recalibrate(model, DATA.reshape(-1, 6)[:64], verbose=1)
    assert "2/2" in capsys.readouterr().out


def test_what_is_no_moment_of_an_input_is_named():
    class Derived(BN):
        pass

    model = keras.Sequential([keras.Input((6,)), Derived(name="mine")])
    with pytest.warns(UserWarning, match="'mine' of class Derived keeps the moving moments"):
        keras_norm.recalibrate(model, DATA.reshape(-1, 6), verbose=0)


class Endless(keras.utils.PyDataset):
    num_batches = None


def test_bad_data_and_models():
    model = keras.Sequential([keras.Input((6,)), BN(name="norm")])
    x = DATA.reshape(-1, 6)
    x = np.where(np.arange(6) == 2, np.nan, x)
    with pytest.raises(
        ValueError, match=r"`data` must reach each norm.*NaN or infinity at.*'norm'"
    ):
        keras_norm.recalibrate(model, x, verbose=0)
    endless = tf.data.Dataset.from_tensor_slices(DATA).batch(4).repeat(), Endless()
    for data in endless:
        with pytest.raises(ValueError, match="`steps` must be given where the data never ends"):
            keras_norm.recalibrate(model, data)
    with pytest.raises(TypeError, match="`model` must be a Keras model or layer"):
        keras_norm.recalibrate(3, DATA)
