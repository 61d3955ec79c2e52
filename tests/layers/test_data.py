"""What `adapt` learns, from any source and in any portions, and the maps that follow from it."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import keras_norm
from keras_norm import MinMaxNormalization, StandardNormalization, WhiteningNormalization, streams
from keras_norm.layers.base_data import BaseDataNormalization

LAYERS = (StandardNormalization, MinMaxNormalization, WhiteningNormalization)


def table(rows=200, seed=0, features=6):
    """Correlated features, each with a mean and a spread of its own."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(features, features)) + 2 * np.eye(features)
    return generator.standard_normal((rows, features)) @ mixing + generator.normal(size=features)


def images(number=150, seed=0):
    """Images whose neighbouring pixels are alike."""
    rough = np.random.default_rng(seed).uniform(0, 1, (number, 5, 5, 2))
    return (rough[:, 1:, 1:] + rough[:, :-1, 1:] + rough[:, 1:, :-1] + rough[:, :-1, :-1]) / 4


def adapted(layer, data, **arguments):
    layer.adapt(data, **arguments)
    return layer


def assert_same_statistics(layer, other, bound=1e-13):
    """Equal up to a bound over the size of each statistic."""
    for name, expected in other.statistics().items():
        actual, size = layer.statistics()[name], np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=bound, atol=bound * size)


# What is learned, and the maps


def test_z_scores_are_those_of_scikit_learn():
    x = table()
    x[3, 1] = x[7, 1] = x[5, 4] = np.nan
    x[:, 2] = 7.3
    layer, scaler = adapted(StandardNormalization(dtype="float64"), x), StandardScaler().fit(x)
    found = layer.statistics()
    np.testing.assert_allclose(found["mean"], scaler.mean_, rtol=1e-13)
    np.testing.assert_allclose(found["variance"], scaler.var_, rtol=1e-12, atol=1e-29)
    np.testing.assert_array_equal(found["count"], scaler.n_samples_seen_)
    np.testing.assert_allclose(layer(x), scaler.transform(x), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(layer.inverse()(layer(x)), x, rtol=1e-12)


def test_ranges_are_those_of_scikit_learn():
    x = table()
    x[3, 1] = x[7, 1] = x[5, 4] = np.nan
    x[:, 2] = -7.3
    beyond = np.concatenate([x, 3 * x])
    for arguments in ({}, {"feature_range": (-1, 2)}, {"feature_range": (-1, 2), "clip": True}):
        layer = adapted(MinMaxNormalization(dtype="float64", **arguments), x)
        scaler = MinMaxScaler(**arguments).fit(x)
        np.testing.assert_array_equal(layer.statistics()["minimum"], scaler.data_min_)
        np.testing.assert_array_equal(layer.statistics()["maximum"], scaler.data_max_)
        np.testing.assert_allclose(layer(beyond), scaler.transform(beyond), rtol=0, atol=1e-13)
        np.testing.assert_allclose(layer.inverse()(layer(x)), x, rtol=1e-12, atol=1e-14)


def test_the_ends_of_the_data_become_the_ends_of_the_range():
    x = table().astype("float32")
    y = adapted(MinMaxNormalization(feature_range=(-1, 2)), x)(x).numpy()
    np.testing.assert_array_equal(y.min(0), np.full(6, -1))
    np.testing.assert_allclose(y.max(0), np.full(6, 2), rtol=2e-7)


@pytest.mark.parametrize("components", [None, 1, 4])
def test_principal_components_are_those_of_scikit_learn(components):
    x = table()
    layer = WhiteningNormalization(
        kind="pca", components=components, epsilon=1e-13, dtype="float64"
    )
    y = adapted(layer, x)(x).numpy()
    pca = PCA(components, whiten=True).fit(x)
    biased = np.sqrt(len(x) / (len(x) - 1))
    np.testing.assert_allclose(y, pca.transform(x) * biased, rtol=0, atol=1e-10)
    back = layer.inverse()(y)
    np.testing.assert_allclose(back, pca.inverse_transform(pca.transform(x)), rtol=0, atol=1e-10)


def test_zca_is_that_of_keras_2():
    """As `ImageDataGenerator(zca_whitening=True)` computed it, with its ε."""
    x = images()
    flat = x.reshape(len(x), -1)
    centred = flat - flat.mean(0)
    u, s, _ = np.linalg.svd(centred.T @ centred / len(x))
    expected = centred @ (u @ np.diag(1 / np.sqrt(s + 1e-6)) @ u.T)
    layer = adapted(WhiteningNormalization(axis=[1, 2, 3]), x)
    np.testing.assert_allclose(layer(x), expected.reshape(x.shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("axis", [-1, 1, [-1], [1, 2], [2, 3], [1, 3], [1, 2, 3]])
@pytest.mark.parametrize(("kind", "components"), [("zca", None), ("pca", None), ("pca", 2)])
def test_whitened_data_has_identity_covariance_and_comes_back(axis, kind, components):
    x = images(400)
    layer = WhiteningNormalization(axis, kind, components, epsilon=1e-12)
    y = adapted(layer, x)(x.astype("float32"))
    axes = sorted(a % 4 for a in (axis if isinstance(axis, list) else [axis]))
    shape = [n for a, n in enumerate(x.shape) if a not in axes]
    features = int(np.prod([x.shape[a] for a in axes]))
    if kind == "pca":
        shape.insert(axes[0], components or features)
    assert y.shape == (x.shape if kind == "zca" else tuple(shape))
    assert tuple(layer.compute_output_shape((None, *x.shape[1:])))[1:] == y.shape[1:]
    places = axes if kind == "zca" else axes[:1]
    rows = np.moveaxis(y.numpy(), places, range(-len(places), 0))
    rows = rows.reshape(-1, components or features)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(rows.T, bias=True), np.eye(rows.shape[1]), atol=2e-5)
    inverse = layer.inverse()
    assert inverse(y).shape == x.shape == tuple(inverse.compute_output_shape(y.shape))
    if components is None:
        np.testing.assert_allclose(inverse(y), x, rtol=0, atol=2e-6)
    np.testing.assert_allclose(inverse.inverse()(x.astype("float32")), y, rtol=0, atol=2e-5)


def test_one_feature_is_whitened_to_its_z_score():
    x = table(features=1)
    expected = adapted(StandardNormalization(dtype="float64"), x)(x)
    for kind in ("zca", "pca"):
        layer = adapted(WhiteningNormalization(kind=kind, epsilon=1e-14, dtype="float64"), x)
        np.testing.assert_allclose(layer(x), expected, rtol=1e-12)


def test_zca_stays_closer_to_the_data_than_pca():
    x = images()
    standard = adapted(StandardNormalization(axis=[1, 2, 3]), x)(x).numpy()
    zca = adapted(WhiteningNormalization([1, 2, 3]), x)(x).numpy()
    pca = adapted(WhiteningNormalization([1, 2, 3], "pca"), x)(x).numpy().reshape(zca.shape)
    assert (zca * standard).mean() > 0.6 > 0.2 > np.abs((pca * standard).mean())


@pytest.mark.parametrize("axis", [-1, None, (1,), (1, 3), (-1, 1)])
def test_as_the_layer_of_keras(axis):
    x = images().astype("float32") * 3 + 1
    ours, theirs = StandardNormalization(axis), keras.layers.Normalization(axis)
    for layer in (ours, theirs):
        layer.adapt(x)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=0, atol=1e-5)
    given = {"mean": float(x.mean()), "variance": float(x.var()), "axis": axis}
    for invert in (False, True):
        ours = StandardNormalization(**given, invert=invert)
        theirs = keras.layers.Normalization(**given, invert=invert)
        np.testing.assert_allclose(ours(x), theirs(x), rtol=0, atol=2e-6)


def test_one_statistic_for_everything_takes_vectors():
    layer = adapted(StandardNormalization(axis=None), np.arange(5.0))
    np.testing.assert_allclose(layer(np.float32([2, 4])), [0, np.sqrt(2)], rtol=1e-7)
    assert adapted(MinMaxNormalization(axis=None), np.arange(5))(np.float32([4])) == 1


@pytest.mark.parametrize("layer_class", LAYERS)
def test_what_is_learned_from_a_table_serves_sequences(layer_class):
    x = table().astype("float32")
    layer = adapted(layer_class(), x)
    expected = layer(x).numpy()
    y = layer(x.reshape(20, 10, 6))
    np.testing.assert_allclose(y.numpy().reshape(-1, 6), expected, rtol=0, atol=2e-6)
    back = layer.inverse()(y).numpy()
    np.testing.assert_allclose(back, x.reshape(20, 10, 6), rtol=0, atol=1e-5)


# Digits


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "float16"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_statistics_are_float64_under_every_policy(layer_class, policy):
    """Keras casts the data to the compute dtype first: in float16 these means are off by 0.5."""
    x = (table(2000) + 1000.0).astype("float32")
    layer = adapted(layer_class(dtype=policy), x)
    wide = x.astype("float64")
    exact = {
        "mean": wide.mean(0),
        "variance": wide.var(0),
        "covariance": np.cov(wide.T, bias=True),
        "minimum": wide.min(0),
        "maximum": wide.max(0),
    }
    for name, value in layer.statistics().items():
        if name != "count":
            np.testing.assert_allclose(value, exact[name], rtol=1e-12)
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    y = layer(x)
    assert y.dtype == layer.compute_dtype
    expected = adapted(layer_class(dtype="float64"), x)(x)
    ulp = 8e-3 if "bfloat16" in policy else 1e-3 if "16" in policy else 2e-6
    np.testing.assert_allclose(y.numpy().astype("float64"), expected, rtol=0, atol=8 * ulp)


@pytest.mark.parametrize("mean", [1e3, 1e5, 1e6])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla", "litert"])
def test_a_large_mean_is_taken_out_to_the_last_digit(mean, mode, tmp_path):
    """The mean as one float32 number leaves 0.03 standard deviations at 1e6."""
    x = (np.random.default_rng(0).standard_normal((1000, 4)) + mean).astype("float32")
    layer = adapted(StandardNormalization(), x)
    wide = x.astype("float64")
    expected = (wide - wide.mean(0)) / wide.std(0)
    if mode == "litert":
        model = keras.Sequential([keras.Input((4,)), layer])
        path = keras_norm.export_litert(model, tmp_path / "model.tflite")
        interpreter = tf.lite.Interpreter(str(path))
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(source["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], x)
        interpreter.invoke()
        y = interpreter.get_tensor(target["index"])
    else:
        call = layer if mode == "eager" else tf.function(layer, jit_compile=mode == "xla")
        y = call(tf.constant(x)).numpy()
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(layer.inverse()(y), x, rtol=2e-7)


def test_whitening_takes_out_a_large_mean():
    x = (table(1000) + 1e6).astype("float32")
    layer = adapted(WhiteningNormalization(), x)
    wide = x.astype("float64")
    matrix = layer.weights[-1].numpy().astype("float64")
    expected = (wide - wide.mean(0)) @ matrix
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=5e-6 * np.abs(expected).max())


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 60), max_size=6),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 1.0, 1e6]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from(LAYERS),
)
def test_statistics_do_not_depend_on_the_batches(cuts, seed, mean, missing, layer_class):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((60, 3)) * [1, 1e-3, 1e3] + mean
    x[generator.random(x.shape) < missing] = np.nan
    whole = adapted(layer_class(dtype="float64"), x).statistics()
    parts = np.split(x, sorted(cuts))
    for name, value in adapted(layer_class(dtype="float64"), parts).statistics().items():
        scale = np.sqrt(np.outer(*2 * [np.diag(whole[name])])) if name == "covariance" else 1.0
        # A spread of 1e-3 beside a mean of 1e6 is itself known to 1e-7 in float64.
        bound = 1e-12 if mean < 1e6 else 1e-6
        bound = bound if name in ("variance", "covariance") else 1e-12
        error = np.abs(value - whole[name]) / np.maximum(np.abs(whole[name]), scale)
        assert np.max(error) < bound, name


def test_one_batch_is_read_in_pieces(monkeypatch):
    """A batch of any size takes little memory in float64."""
    x = table(500)
    expected = adapted(WhiteningNormalization(), [x])
    monkeypatch.setattr(streams, "PIECE", 60)
    assert [len(piece) for piece in streams.batches([x])] == [10] * 50
    assert_same_statistics(adapted(WhiteningNormalization(), [x]), expected)


def test_counts_beyond_float32():
    layer = adapted(StandardNormalization(axis=None), np.array([[1.0, 3.0]]))
    layer.store({**layer.statistics(), "count": np.asarray(2.0**40)})
    layer.adapt(np.ones((1, 1)), reset=False)
    assert layer.statistics()["count"] == 2**40 + 1


# Sources


class Batches(keras.utils.PyDataset):
    """Batches of a table, with targets, or without an end."""

    def __init__(self, x, endless=False):
        super().__init__()
        self.x, self.endless = x, endless

    def __getitem__(self, index):
        start = 32 * index % len(self.x)
        return self.x[start : start + 32], np.zeros(1)

    @property
    def num_batches(self):
        return None if self.endless else -(-len(self.x) // 32)


class Uncounted(keras.utils.PyDataset):
    def __getitem__(self, index):
        return np.ones((2, 6))


SOURCES = {
    "tensor": tf.constant,
    "variable": lambda x: keras.Variable(x, dtype="float64"),
    "list": lambda x: [x[:50], x[50:]],
    "generator": lambda x: (x[i : i + 7] for i in range(0, len(x), 7)),
    "tuples": lambda x: ((x[i : i + 7], "target") for i in range(0, len(x), 7)),
    "dataset": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(32),
    "pairs": lambda x: tf.data.Dataset.from_tensor_slices((x, x[:, 0])).batch(32),
    "pydataset": Batches,
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("layer_class", LAYERS)
def test_every_source_says_the_same(layer_class, source):
    x = table()
    layer = adapted(layer_class(), SOURCES[source](x))
    assert_same_statistics(layer, adapted(layer_class(), x))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "bfloat16"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_data_of_every_dtype(layer_class, dtype):
    x = tf.cast(np.random.default_rng(0).integers(0, 200, (50, 6)), dtype)
    layer = adapted(layer_class(), x)
    assert_same_statistics(layer, adapted(layer_class(), tf.cast(x, "float64")))
    np.testing.assert_allclose(layer(x), layer(tf.cast(x, "float32")), rtol=1e-6)


ENDLESS = {
    "dataset": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(50).repeat(),
    "generator": lambda x: itertools.cycle(np.split(x, 4)),
    "pydataset": lambda x: Batches(x, endless=True),
}


@pytest.mark.parametrize("source", ENDLESS)
def test_data_without_end_is_read_for_some_steps(source):
    x = table()[:192]
    steps = 6 if source == "pydataset" else 4
    layer = adapted(StandardNormalization(), ENDLESS[source](x), steps=steps)
    assert layer.statistics()["count"].max() == len(x)


def test_steps_and_batch_size_of_an_array():
    x = table()
    for arguments, rows in (
        ({"steps": 2}, 64),
        ({"steps": 2, "batch_size": 10}, 20),
        ({"batch_size": 3}, 200),
    ):
        layer = adapted(StandardNormalization(), x, **arguments)
        assert_same_statistics(layer, adapted(StandardNormalization(), x[:rows]))


def test_a_progress_bar_appears_where_one_waits(capsys, monkeypatch):
    layer, batches = StandardNormalization(), np.split(table(), 10)
    layer.adapt(batches)
    layer.adapt(batches, verbose=False)
    assert not capsys.readouterr().out
    layer.adapt(batches, verbose=True)
    assert "10/10" in capsys.readouterr().out
    layer.adapt(iter(batches), verbose=1)
    assert "10/Unknown" in capsys.readouterr().out
    monkeypatch.setattr(streams, "PATIENCE", 1e-9)
    layer.adapt(batches)
    assert "10/10" in capsys.readouterr().out


# Going on


@pytest.mark.parametrize("saved", [None, "keras", "weights.h5"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_resumed_is_as_if_never_interrupted(layer_class, saved, tmp_path):
    x = table(300) + 1e3
    whole = adapted(layer_class(dtype="mixed_float16"), x)
    layer = adapted(layer_class(dtype="mixed_float16"), x[:110])
    if saved is not None:
        path, model = tmp_path / f"model.{saved}", keras.Sequential([keras.Input((6,)), layer])
        (model.save if saved == "keras" else model.save_weights)(path)
        again = keras.Sequential([keras.Input((6,)), layer_class(dtype="mixed_float16")])
        if saved == "keras":
            again = keras.saving.load_model(path)
        else:
            again.load_weights(path)
        np.testing.assert_array_equal(again(x), model(x))
        layer = again.layers[0]
    for start in range(110, 300, 38):
        layer.adapt(x[start : start + 38], reset=False)
    assert_same_statistics(layer, whole)
    np.testing.assert_allclose(layer(x), whole(x), rtol=0, atol=4e-3)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_adapt_starts_anew_unless_told_otherwise(layer_class):
    layer = adapted(layer_class(), table() * 9)
    layer.adapt(table(seed=1))
    assert_same_statistics(layer, adapted(layer_class(), table(seed=1)))
    fresh = adapted(layer_class(), table(seed=1), reset=False)
    assert_same_statistics(fresh, layer)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_a_layer_may_be_built_before_or_after(layer_class):
    x = table()
    layer = layer_class()
    layer.build((None, 6))
    layer.adapt(x)
    np.testing.assert_array_equal(layer(x), adapted(layer_class(), x)(x))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_a_compiled_model_sees_what_was_learned_since_and_fit_does_not_learn(
    layer_class, jit_compile
):
    x = table().astype("float32")
    layer = layer_class()
    model = keras.Sequential([keras.Input((6,)), layer])
    full = keras.Sequential([model, keras.layers.Dense(1)])
    full.compile("sgd", "mse", jit_compile=jit_compile)
    model.compile(jit_compile=jit_compile)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    layer.adapt(x)
    expected = adapted(layer_class(), x)(x).numpy()
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=0, atol=1e-5)
    before = layer.get_weights()
    full.fit(x, x[:, :1], epochs=2, verbose=0)
    for now, then in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert not layer.trainable_weights


# Values that are missing, constant or infinite


def test_what_was_never_seen_stays_as_it_is():
    x = table()
    x[:, 2] = np.nan
    new = np.full((1, 6), 5.0, "float32")
    for layer_class in (StandardNormalization, MinMaxNormalization):
        layer = adapted(layer_class(), x)
        assert layer(new)[0, 2] == 5.0
        assert layer.statistics()["count"][2] == 0
        layer.adapt(table(seed=1), reset=False)
        one = layer.statistics()
        expected = adapted(layer_class(), table(seed=1)).statistics()
        for name in one:
            np.testing.assert_allclose(one[name][2], expected[name][2], rtol=1e-12)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_missing_values_stay_missing(layer_class):
    x = table()
    layer = adapted(layer_class(), x)
    clean = layer(x).numpy()
    x[4, 2] = np.nan
    y = layer(x).numpy()
    assert np.isnan(y[4, 2])
    np.testing.assert_array_equal(np.delete(y, 4, 0), np.delete(clean, 4, 0))
    if layer_class is not WhiteningNormalization:
        assert np.isnan(y).sum() == 1


def test_samples_with_missing_values_do_not_enter_a_whitening():
    x = table()
    broken = np.concatenate([x, np.full((1, 6), np.nan), x[:1] * [1, 1, 1, np.nan, 1, 1]])
    layer = adapted(WhiteningNormalization(), np.split(broken, 2))
    assert_same_statistics(layer, adapted(WhiteningNormalization(), x))


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e6 + 0.1])
def test_a_constant_is_a_constant_in_any_portions(value):
    """Rounding must not pass for spread: 1e-17 of it would be blown up to 1."""
    x = np.tile([value, value + 0.25], (999, 1))
    for parts in ([x], np.split(x, 37), np.split(x, 999)):
        layer = adapted(StandardNormalization(), parts[:-1] or parts)
        layer.adapt(parts[-1], reset=False)
        assert not layer.statistics()["variance"].any()
        y = layer(x.astype("float32")).numpy()
        np.testing.assert_allclose(y, 0, atol=1e-7 * max(1, abs(value)))
    y = adapted(MinMaxNormalization(feature_range=(-2, 1)), x)(x.astype("float32"))
    np.testing.assert_array_equal(y, np.full(x.shape, -2))
    y = adapted(WhiteningNormalization(), x)(x)
    np.testing.assert_allclose(y, 0, atol=1e-3 * max(1, abs(value)))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_bad_data_leaves_the_layer_as_it_was(layer_class, value):
    layer = adapted(layer_class(), table())
    before = layer.get_weights()
    bad = table(seed=1)
    bad[60, 0] = value
    with pytest.raises(ValueError, match=r"`data` must be finite.*infinity in batch 3\. Clean"):
        layer.adapt(np.split(bad, 10))
    huge = [table(), np.full((1, 6), 1e60)]
    with pytest.raises(ValueError, match="must be of a size that float32 can hold"):
        layer.adapt(huge)
    for now, then in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


# Refused


@pytest.mark.parametrize(
    ("data", "arguments", "error", "text"),
    [
        (np.zeros((0, 6)), {}, ValueError, "at least one value that is not missing"),
        ([], {}, ValueError, "Is the data set empty or used up"),
        (np.full((3, 6), np.nan), {}, ValueError, "at least one value"),
        (np.zeros((3, 5)), {}, ValueError, r"`data` must have sizes \(6,\) on axis -1"),
        (np.zeros(6), {}, ValueError, "rank 2 or higher"),
        ([np.float32(1)], {}, ValueError, "must have a batch axis"),
        (np.zeros((3, 6), bool), {}, TypeError, "floating or integer dtype"),
        (np.zeros((3, 6), complex), {}, TypeError, "dtype=complex128 in batch 0"),
        (np.full((3, 6), "a"), {}, TypeError, "floating or integer dtype"),
        ([np.zeros((2, 6)), np.full((3, 6), None)], {}, TypeError, "dtype=object in batch 1"),
        ([[1.0, 2.0]], {}, TypeError, r"must yield arrays.*type list\. Pass one array"),
        ("file.csv", {}, TypeError, "must yield arrays"),
        ({"x": np.zeros((3, 6))}, {}, TypeError, "data of type dict"),
        (7, {}, TypeError, "data of type int"),
        (tf.ragged.constant([[1.0], [2.0, 3.0]]), {}, TypeError, "a ragged.*to_tensor"),
        ([tf.ragged.constant([[1.0], [2.0, 3.0]])], {}, TypeError, "a ragged.*to_tensor"),
        (tf.sparse.from_dense(np.eye(6)), {}, TypeError, "a sparse.*to_dense"),
        (table(), {"batch_size": 0}, ValueError, "`batch_size` must be an integer of at least 1"),
        (table(), {"steps": 2.5}, ValueError, "`steps` must be an integer of at least 1"),
        (table(), {"steps": 9}, ValueError, r"Received: steps=9, but the data ended after 7\."),
        (table(), {"verbose": "yes"}, ValueError, "`verbose` must be one of 'auto'"),
        ([table()], {"batch_size": 4}, ValueError, "`batch_size` must be None"),
        (Batches(table(), endless=True), {}, ValueError, "`steps` must be given"),
        (Uncounted(), {}, ValueError, "`steps` must be given"),
        (tf.data.Dataset.range(3).repeat(), {}, ValueError, "`steps` must be given"),
        (np.full((3, 6), [[0.0], [1e-30], [2e-30]]), {}, ValueError, "Multiply the data by"),
    ],
)
def test_data_that_cannot_be_learned_from(data, arguments, error, text):
    layer = StandardNormalization()
    layer.build((None, 6))
    before = layer.get_weights()
    with pytest.raises(error, match=text):
        layer.adapt(data, **arguments)
    for now, then in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("layer_class", "arguments", "text"),
    [
        (StandardNormalization, {"mean": 1.0}, "`mean` and `variance` must be given together"),
        (StandardNormalization, {"mean": "a", "variance": 1}, "`mean` must hold finite numbers"),
        (StandardNormalization, {"mean": 0, "variance": [np.nan]}, "`variance` must hold finite"),
        (StandardNormalization, {"mean": 0, "variance": -1.0}, "`variance` must not be negative"),
        (StandardNormalization, {"invert": 1}, "`invert` must be one of False, True"),
        (StandardNormalization, {"axis": []}, "must name at least one axis"),
        (MinMaxNormalization, {"feature_range": (1, 0)}, "two numbers, the lower first"),
        (MinMaxNormalization, {"feature_range": (1, 1)}, "two numbers, the lower first"),
        (MinMaxNormalization, {"feature_range": 1}, "two numbers, the lower first"),
        (MinMaxNormalization, {"feature_range": (0, 1, 2)}, "two numbers, the lower first"),
        (MinMaxNormalization, {"feature_range": (0, "1")}, "must be a finite number"),
        (MinMaxNormalization, {"minimum": 2, "maximum": [3, 1]}, "`minimum` must not exceed"),
        (MinMaxNormalization, {"maximum": 2}, "must be given together"),
        (MinMaxNormalization, {"clip": "yes"}, "`clip` must be one of False, True"),
        (WhiteningNormalization, {"kind": "lda"}, "`kind` must be one of 'zca', 'pca'"),
        (WhiteningNormalization, {"components": 3}, "`components` must be None with ZCA"),
        (WhiteningNormalization, {"kind": "pca", "components": 0}, "at least 1"),
        (WhiteningNormalization, {"epsilon": 0.0}, "`epsilon` must be a finite number above 0"),
        (WhiteningNormalization, {"feature_shape": [2.5]}, "`feature_shape` must be an integer"),
    ],
)
def test_arguments_that_are_refused(layer_class, arguments, text):
    with pytest.raises(ValueError, match=text):
        layer_class(**arguments)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: StandardNormalization(mean=[1, 2], variance=[1, 1]), r"`mean` must fit the sizes"),
        (lambda: WhiteningNormalization(kind="pca", components=9), "There are 6 features"),
        (lambda: WhiteningNormalization(feature_shape=[5]), "feature_shape=\\[5\\]"),
        (
            lambda: WhiteningNormalization([1, 2], "pca", invert=True),
            r"`feature_shape` must be given.*Use `layer.inverse\(\)`",
        ),
        (lambda: StandardNormalization(axis=0), "must not contain the batch axis"),
        (lambda: StandardNormalization(axis=[-1, 1]), "must not name an axis twice"),
    ],
)
def test_arguments_that_do_not_suit_the_input(layer, text):
    with pytest.raises(ValueError, match=text):
        layer()(np.ones((2, 6), "float32"))


def test_whitening_needs_axes():
    with pytest.raises(TypeError, match="`axis` must be an integer"):
        WhiteningNormalization(axis=None)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_sizes_of_the_features_must_be_known(layer_class):
    with pytest.raises(ValueError, match="axis -1 must be defined"):
        layer_class()(keras.Input((4, None)))
    layer = adapted(layer_class(), table())
    with pytest.raises(ValueError, match="incompatible with the layer"):
        layer(np.ones((2, 5), "float32"))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_inverse_and_statistics_need_weights(layer_class):
    for method in ("inverse", "statistics"):
        with pytest.raises(ValueError, match=f"`{method}` needs a layer that has weights"):
            getattr(layer_class(), method)()


# Given statistics, files


def test_given_statistics_need_no_data():
    x = np.arange(6.0, dtype="float32").reshape(3, 2)
    layer = StandardNormalization(mean=np.array([0.1, 2.0]), variance=[4.0, 0.25])
    np.testing.assert_allclose(layer(x), (x - [0.1, 2]) / [2, 0.5], rtol=1e-6)
    assert layer.statistics()["mean"][0] == pytest.approx(0.1, rel=1e-14)
    np.testing.assert_allclose(layer.inverse()(layer(x)), x, rtol=1e-6)
    pixels = np.array([[0, 255]], "uint8")
    layer = MinMaxNormalization(feature_range=(-1, 1), minimum=0, maximum=255)
    np.testing.assert_array_equal(layer(pixels), [[-1, 1]])
    for fixed in (layer, StandardNormalization(mean=0, variance=1)):
        with pytest.raises(ValueError, match="must be None in a layer that is adapted"):
            fixed.adapt(x)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_the_inverse_may_be_adapted_itself(layer_class):
    """As `keras.layers.Normalization(invert=True)`: the data is what comes out."""
    x = table()
    layer = adapted(layer_class(invert=True), x)
    forward = adapted(layer_class(), x)
    np.testing.assert_allclose(layer(forward(x)), x, rtol=0, atol=1e-5)
    if layer_class is WhiteningNormalization:
        images_in = images()
        arguments = {"axis": [1, 2, 3], "kind": "pca", "components": 5}
        forward = adapted(layer_class(**arguments), images_in)
        layer = layer_class(**arguments, invert=True, feature_shape=(4, 4, 2))
        layer.adapt(images_in)
        y = forward(images_in)
        np.testing.assert_array_equal(layer(y), forward.inverse()(y))


def there_and_back(layer, x):
    """A model of a layer and its inverse, both adapted."""
    inputs = keras.Input(x.shape[1:])
    layer = adapted(layer, x)
    return keras.Model(inputs, layer.inverse()(layer(inputs)))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: StandardNormalization(axis=[1, 2, 3]),
        lambda: MinMaxNormalization(clip=True),
        lambda: WhiteningNormalization([1, 2, 3]),
        lambda: WhiteningNormalization([1, 2, 3], "pca", 5),
        lambda: WhiteningNormalization(1, "pca", 3),
    ],
    ids=["z-score", "min-max", "zca", "pca", "pca of an inner axis"],
)
def test_layer_and_inverse_are_saved_and_leave_for_litert(layer, tmp_path):
    x = images().astype("float32")
    model = there_and_back(layer(), x)
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(x), model(x))
    # Keras's reader of .h5 forgets a list of axes, with its own layers too.
    for suffix in ("keras",) if isinstance(layer().axis, list) else ("keras", "h5"):
        model.save(tmp_path / f"model.{suffix}")
        loaded = keras.saving.load_model(tmp_path / f"model.{suffix}")
        np.testing.assert_array_equal(loaded(x), model(x))
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    check = keras_norm.verify(model, path, data=x)
    assert check.passed, str(check)
    interpreter = tf.lite.Interpreter(str(path))
    operations = {detail["op_name"] for detail in interpreter._get_ops_details()}
    assert operations <= {
        *("SUB", "ADD", "MUL", "MINIMUM", "MAXIMUM", "RELU", "FULLY_CONNECTED"),
        *("RESHAPE", "TRANSPOSE", "DELEGATE"),
    }


def test_layer_and_inverse_are_served(tmp_path):
    x = images().astype("float32")
    model = there_and_back(WhiteningNormalization([1, 2, 3], "pca", 5), x)
    path = keras_norm.export_saved_model(model, tmp_path / "model")
    check = keras_norm.verify(model, path, data=x)
    assert check.passed, str(check)


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_whitening_of_images_of_unknown_size(kind, tmp_path):
    x = images().astype("float32")
    layer = adapted(WhiteningNormalization(kind=kind), x)
    model = keras.Sequential([keras.Input((None, None, 2)), layer])
    np.testing.assert_allclose(model(x), layer(x), rtol=0, atol=1e-5)
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    interpreter = tf.lite.Interpreter(str(path))
    operations = {detail["op_name"] for detail in interpreter._get_ops_details()}
    assert operations <= {"SUB", "FULLY_CONNECTED", "DELEGATE"}
    inner = adapted(WhiteningNormalization(axis=[2, 3], kind=kind), x)
    call = tf.function(inner, input_signature=[tf.TensorSpec((None, None, 4, 2))])
    np.testing.assert_allclose(call(x[:, :3]), inner(x[:, :3]), rtol=0, atol=1e-5)
    assert call(x[:0]).shape[:2] == (0, 4)


def test_masks_pass_unless_their_axis_is_gone():
    embedding = keras.layers.Embedding(9, 6, mask_zero=True)(keras.Input((4,)))
    for layer in (
        StandardNormalization(),
        WhiteningNormalization([1, 2]),
        WhiteningNormalization(kind="pca", components=2),
    ):
        assert getattr(layer(embedding), "_keras_mask", None) is not None
    joined = WhiteningNormalization([1, 2], "pca")(embedding)
    assert getattr(joined, "_keras_mask", None) is None


def test_the_layers_serve_in_a_data_pipeline():
    x = table().astype("float32")
    for layer_class in LAYERS:
        layer = adapted(layer_class(), x)
        mapped = tf.data.Dataset.from_tensor_slices(x).batch(50).map(layer)
        whole = np.concatenate([batch.numpy() for batch in mapped])
        np.testing.assert_allclose(whole, layer(x), rtol=0, atol=1e-5)


def test_the_frame_states_what_a_layer_must():
    frame = BaseDataNormalization()
    for method in (frame.initial_statistics, lambda: frame.measure(table())):
        with pytest.raises(NotImplementedError):
            method()
