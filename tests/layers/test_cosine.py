"""What is peculiar to Dense and convolution by cosine."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import keras_norm
from keras_norm import CosineConv1D, CosineConv2D, CosineConv3D, CosineDense
from keras_norm.ops import Window, cosine, cosine_windows
from tests.conformance.support import (
    assert_close,
    backward,
    compiled,
    data,
    differences,
    randomize,
    weights_of,
)
from tests.conformance.test_export import UNWANTED
from tests.oracles import ORACLES

IMAGE = (2, 5, 6, 6)


def made(layer, shape):
    layer.build(shape)
    return randomize(layer)


def expected(layer, arguments, x):
    return ORACLES[type(layer).__name__](x.astype("float64"), weights_of(layer), arguments, False)[
        0
    ]


WINDOWS = [
    (CosineConv1D, {"kernel_size": 3}),
    (CosineConv1D, {"kernel_size": 2, "strides": 3, "padding": "causal"}),
    (CosineConv1D, {"kernel_size": 3, "dilation_rate": 2, "padding": "causal", "groups": 2}),
    (CosineConv2D, {"kernel_size": (2, 3), "strides": (2, 1)}),
    (CosineConv2D, {"kernel_size": 4, "strides": (3, 2), "padding": "same"}),
    (CosineConv2D, {"kernel_size": (3, 2), "dilation_rate": (1, 2), "padding": "same"}),
    (CosineConv2D, {"kernel_size": 3, "groups": 2, "padding": "SAME"}),
    (CosineConv2D, {"kernel_size": 2, "groups": 6, "dilation_rate": 2}),
    (CosineConv2D, {"kernel_size": 3, "data_format": "channels_first", "padding": "same"}),
    (CosineConv2D, {"kernel_size": 1, "use_bias": False}),
    (CosineConv3D, {"kernel_size": (2, 1, 3), "strides": (1, 2, 2), "padding": "same"}),
    (CosineConv3D, {"kernel_size": 2, "dilation_rate": 2, "groups": 3}),
    (CosineConv3D, {"kernel_size": 2, "data_format": "channels_first"}),
]


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(("layer_class", "arguments"), WINDOWS)
def test_windows_of_every_kind(layer_class, arguments, centered):
    arguments = {"filters": 6, "centered": centered, **arguments}
    x = data((*(2, 4, 5, 6)[: layer_class.space + 1], 6))
    x = np.moveaxis(x, -1, 1) if "data_format" in arguments else x
    layer = made(layer_class(**arguments), x.shape)
    y = layer(x)
    reference = expected(layer, {**arguments, "padding": layer.padding}, x)
    assert_close(y, reference, 2e-6)
    assert layer.compute_output_shape(x.shape) == y.shape
    unknown = tuple(n if n == 6 else None for n in x.shape)
    assert len(layer.compute_output_shape(unknown)) == y.ndim


@pytest.mark.parametrize("centered", [False, True])
def test_gradients_of_groups_in_a_graph(centered):
    arguments = {"filters": 4, "kernel_size": 2, "padding": "same", "groups": 2}
    arguments["centered"] = centered
    x, dy = data((2, 2, 3, 4)), data((2, 2, 3, 4), 3)
    layer = made(CosineConv2D(**arguments), x.shape)
    _, dx, dweights = backward(layer, "graph", True)(x, dy)
    weights = weights_of(layer)

    def loss(x, weights):
        return (ORACLES["CosineConv2D"](x, weights, arguments, True)[0] * dy).sum()

    assert_close(dx, differences(lambda value: loss(value, weights), x, 1e-5), 1e-5)
    for name, gradient in dweights.items():
        wanted = differences(lambda v, n=name: loss(x, {**weights, n: v}), weights[name], 1e-5)
        assert_close(gradient, wanted, 1e-5)


def test_centred_is_the_correlation_coefficient():
    x = data(IMAGE)
    layer = made(CosineConv2D(4, (2, 3), use_bias=False, centered=True), x.shape)
    y, kernel = layer(x).numpy(), layer.kernel.numpy()
    for b, i, j, f in itertools.product(range(2), range(4), range(4), range(4)):
        window = x[b, i : i + 2, j : j + 3]
        wanted = np.corrcoef(window.ravel(), kernel[..., f].ravel())[0, 1]
        assert y[b, i, j, f] == pytest.approx(wanted, abs=1e-6)
    dense = made(CosineDense(4, use_bias=False, centered=True), (9, 6))
    x = data((9, 6))
    wanted = np.corrcoef(x, dense.kernel.numpy().T)[:9, 9:]
    assert_close(dense(x), wanted, 1e-6)


def test_centred_padding_is_the_mean_of_what_the_window_covers():
    x = data((1, 4, 5, 6))
    layer = made(CosineConv2D(4, 3, padding="same", use_bias=False, centered=True), x.shape)
    kernel, y = layer.kernel.numpy(), layer(x).numpy()
    padded = np.full((6, 7, 6), np.nan)
    padded[1:-1, 1:-1] = x[0]
    for i, j, f in itertools.product(range(4), range(5), range(4)):
        window = padded[i : i + 3, j : j + 3]
        window = np.where(np.isnan(window), np.nanmean(window), window)
        wanted = np.corrcoef(window.ravel(), kernel[..., f].ravel())[0, 1]
        assert y[0, i, j, f] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_padding_is_zeros_where_nothing_is_centred(bias):
    x = data(IMAGE)
    same = made(CosineConv2D(4, 3, padding="same", use_bias=bias), x.shape)
    valid = made(CosineConv2D(4, 3, use_bias=bias), (2, 7, 8, 6))
    assert_close(same(x), valid(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))).numpy(), 1e-6)


def test_a_constant_added_changes_no_centred_output():
    x = data((2, 7, 6))
    for padding in ("same", "causal", "valid"):
        layer = made(CosineConv1D(4, 3, padding=padding, centered=True), x.shape)
        assert_close(layer(x + 8.0), layer(x).numpy(), 2e-6)


@pytest.mark.parametrize("centered", [False, True])
def test_a_window_of_padding_alone_leaves_the_bias(centered):
    """Two taps three apart around an image of one pixel: both lie outside."""
    layer = CosineConv2D(4, 2, padding="same", dilation_rate=3, centered=centered)
    x = data((2, 1, 1, 6))
    made(layer, x.shape)
    bias, kernel = layer.bias.numpy(), layer.kernel.numpy()
    kernel = kernel - kernel.mean((0, 1, 2)) if centered else kernel
    wanted = bias / np.sqrt((kernel**2).sum((0, 1, 2)) + bias**2)
    assert_close(layer(x)[:, 0, 0], np.stack([wanted, wanted]), 1e-6)


def test_causal_outputs_see_no_later_inputs():
    x = data((2, 8, 6))
    layer = made(CosineConv1D(4, 3, padding="causal", dilation_rate=2), x.shape)
    y, changed = layer(x).numpy(), x.copy()
    changed[:, 5:] = 9.0
    assert_close(layer(changed)[:, :5], y[:, :5], 1e-6)
    assert np.abs(layer(changed)[:, 5:] - y[:, 5:]).max() > 0.1


def test_what_equals_the_weights_is_1_and_the_opposite_minus_1():
    layer = made(CosineConv2D(4, (2, 3), use_bias=False), (1, 2, 3, 6))
    x = np.moveaxis(layer.kernel.numpy(), -1, 0)
    np.testing.assert_allclose(np.diag(layer(3.0 * x)[:, 0, 0]), 1.0, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.diag(layer(-x)[:, 0, 0]), -1.0, rtol=0, atol=1e-6)
    dense = CosineDense(2, use_bias=False)
    dense.build((1, 2))
    dense.set_weights([np.eye(2)])
    np.testing.assert_allclose(dense(np.float32([[0.0, 7.0]])), [[0.0, 1.0]], rtol=0, atol=1e-6)


def test_rounding_never_passes_1():
    """Inputs along the weights: without a limit every tenth quotient is 1 + 1e-7."""
    generator = np.random.default_rng(0)
    for centered in (False, True):
        layer = made(CosineDense(64, use_bias=False, centered=centered), (1, 50))
        x = layer.kernel.numpy().T * generator.uniform(0.1, 1e4, (64, 1))
        y = np.diag(layer(x.astype("float32")))
        assert y.max() <= 1.0 and y.min() > 1 - 1e-6


FLOATS = st.floats(-(2.0**56), 2.0**56, width=32)  # beyond 1e18 float32 has no squares


@given(
    x=hnp.arrays("float32", (2, 3, 4, 2), elements=FLOATS),
    kernel=hnp.arrays("float32", (2, 2, 2, 3), elements=FLOATS),
    bias=hnp.arrays("float32", 3, elements=FLOATS),
    centered=st.booleans(),
    padding=st.sampled_from(["same", "valid"]),
)
def test_outputs_lie_within_minus_1_and_1(x, kernel, bias, centered, padding):
    """For any input and any weights, and finite even where all of them are zero."""
    window = Window((2, 2), (1, 1), padding, (1, 1))
    for y in (
        cosine_windows(x, kernel, bias, centered, 1e-7, window),
        cosine(x, kernel[0, 0], bias, centered, 1e-7),
        cosine(x, kernel[0, 0], None, centered, 1e-7),
    ):
        assert np.isfinite(y).all()
        assert np.abs(y).max() <= 1.0


@pytest.mark.parametrize("centered", [False, True])
def test_factors_of_samples_and_of_filters_change_nothing(centered):
    """To the last bit, where the factors are powers of two and ε is below the rounding."""
    x = 100 * data((3, 5, 6))
    layer = made(CosineConv1D(4, 3, use_bias=False, centered=centered), x.shape)
    layer.kernel.assign(100 * layer.kernel)
    y = layer(x).numpy()
    np.testing.assert_array_equal(layer(x * np.float32([4, 1, 64])[:, None, None]), y)
    layer.kernel.assign(layer.kernel * np.float32([2, 8, 1, 32]))
    np.testing.assert_array_equal(layer(x), y)


def ramps(shape):
    """Local means far from the sample's mean: what one shift per sample does not mend."""
    steps = [np.arange(n).reshape(n, *(1,) * place) for place, n in enumerate(shape[-2:0:-1], 1)]
    return 1e3 * sum(steps)


OFFSETS = {
    "1e3": lambda shape: 1e3,
    "1e4": lambda shape: 1e4,
    "1e6": lambda shape: 1e6,
    "its own for each sample": lambda shape: np.resize([1e4, -1e4], (2, *(1,) * len(shape[1:]))),
    "its own for each position": ramps,
}


@pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS)
@pytest.mark.parametrize(
    ("layer_class", "arguments"),
    [
        (CosineDense, {"units": 4}),
        (CosineConv1D, {"filters": 4, "kernel_size": 3, "padding": "causal"}),
        (CosineConv2D, {"filters": 4, "kernel_size": 3, "padding": "same"}),
    ],
)
def test_correlation_of_data_with_a_large_mean(layer_class, arguments, offset):
    shape = (*(2, 6, 7)[: getattr(layer_class, "space", 1) + 1], 6)
    x = (np.random.default_rng(0).normal(size=shape) + offset(shape)).astype("float32")
    arguments = {**arguments, "centered": True, "use_bias": False}
    layer = made(layer_class(**arguments), shape)
    assert_close(layer(x), expected(layer, arguments, x), 2e-6)
    exact = layer_class(**arguments, dtype="float64")
    exact.build(shape)
    exact.set_weights(layer.get_weights())
    dy = data(layer.compute_output_shape(shape), 3)
    _, dx, dweights = backward(layer, "graph", True)(x, dy)
    _, wanted, weights = backward(exact, "graph", True)(x.astype("float64"), dy.astype("float64"))
    assert_close(dx, wanted, 1e-5)
    assert_close(dweights["kernel"], weights["kernel"], 1e-5)


@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_a_constant_image_correlates_with_nothing(mode):
    """ε is 1e-7: rounding errors of a variance, divided by its root, would not be small."""
    layer = made(CosineConv2D(4, 3, padding="same", use_bias=False, centered=True), IMAGE)
    y = compiled(lambda x: layer(x), mode)(tf.fill(IMAGE, 200.3))
    assert np.abs(y).max() < 1e-6


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_zeros_give_zero_and_finite_gradients(bias, centered):
    layer = CosineConv2D(4, 3, padding="same", use_bias=bias, centered=centered)
    layer.build(IMAGE)
    zero_weights = CosineConv2D.from_config({**layer.get_config(), "kernel_initializer": "zeros"})
    zero_weights.build(IMAGE)
    zeros, dy = np.zeros(IMAGE, "float32"), np.ones((*IMAGE[:-1], 4), "float32")
    for one, x in ((layer, zeros), (zero_weights, data(IMAGE)), (zero_weights, zeros)):
        y, dx, dweights = backward(one, "graph", True)(x, dy)
        np.testing.assert_array_equal(y, np.zeros_like(y))
        assert np.isfinite(dx).all()
        assert all(np.isfinite(gradient).all() for gradient in dweights.values())


@pytest.mark.parametrize("centered", [False, True])
def test_half_precision_holds_no_norm(centered):
    """7e4 and the squares of 300 are no float16; 1e-5, a weight's square, neither."""
    arguments = {"filters": 4, "kernel_size": 3, "centered": centered}
    layer = made(CosineConv2D(**arguments, dtype="mixed_float16"), IMAGE)
    layer.kernel.assign(1e-3 * layer.kernel)
    layer.bias.assign(1e-3 * layer.bias)
    for x in (7e4 * data(IMAGE), 300 * data(IMAGE), data(IMAGE).astype("float16")):
        y = layer(x)
        assert y.dtype == "float16"
        assert_close(y, expected(layer, arguments, x), 1e-3)
    assert {w.dtype for w in layer.weights} == {"float32"}


@pytest.mark.parametrize("size", [1e-18, 1e-2, 1e17])
def test_sizes_at_the_ends_of_float32(size):
    x = (size * data(IMAGE)).astype("float32")
    for centered in (False, True):
        arguments = {"filters": 4, "kernel_size": 3, "centered": centered, "use_bias": False}
        layer = made(CosineConv2D(**arguments), IMAGE)
        assert_close(layer(x), expected(layer, arguments, x), 2e-6)
        _, dx, _ = backward(layer, "graph", True)(x, data((2, 3, 4, 4)))
        assert np.isfinite(dx).all() and np.abs(dx).max() > 0


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 4, 5, 6)])
def test_dense_takes_every_rank_and_empty_batches(shape):
    layer = made(CosineDense(3, centered=True), (None, *shape))
    x = data((2, *shape))
    assert_close(layer(x), expected(layer, {"centered": True}, x), 2e-6)
    assert layer(x[:0]).shape == (0, *shape[:-1], 3)
    symbolic = layer(keras.Input((*(None for _ in shape[:-1]), 6)))
    assert symbolic.shape == (None, *(None for _ in shape[:-1]), 3)
    unknown = compiled(lambda t: layer(t), "graph")
    signature = tf.TensorSpec([None] * len(shape) + [6])
    assert_close(unknown.get_concrete_function(signature)(x), layer(x).numpy(), 1e-6)


def test_masks_pass_dense_as_in_keras():
    inputs = keras.Input((5, 6))
    masked = keras.layers.Masking()(inputs)
    assert CosineDense(3)(masked)._keras_mask is not None


def test_the_scale_is_one_number_before_the_activation():
    x, ten = data((4, 6)), keras.initializers.Constant(10.0)
    plain = made(CosineDense(3), x.shape)
    layer = CosineDense(3, activation="softmax", scale_initializer=ten)
    layer.build(x.shape)
    assert layer.scale.shape == () and layer.scale.trainable
    layer.set_weights([*plain.get_weights(), layer.scale])
    assert_close(layer(x), keras.ops.softmax(10.0 * plain(x)).numpy(), 1e-6)
    assert plain.scale is None


def test_a_classifier_of_digits_learns_weights_and_scale():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype("float32")
    ten = keras.initializers.Constant(10.0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            CosineConv2D(16, 3, padding="same", centered=True, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            CosineDense(10, use_bias=False, scale_initializer=ten, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x[:1400], y[:1400], epochs=4, verbose=0)
    _, accuracy = model.evaluate(x[1400:], y[1400:], verbose=0)
    assert accuracy > 0.8
    assert abs(float(model.layers[-1].scale) - 10.0) > 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        {"groups": 2, "padding": "same"},
        {"groups": 6, "centered": True},
        {"dilation_rate": 2, "padding": "same", "centered": True},
        {"data_format": "channels_first", "strides": 2},
    ],
)
def test_litert_of_every_way_to_move(arguments, tmp_path):
    inputs = keras.Input((6, 8, 8) if "data_format" in arguments else (8, 8, 6))
    model = randomize(keras.Model(inputs, CosineConv2D(12, 3, **arguments)(inputs)))
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    found = keras_norm.audit(path, require=["builtin", "rank"])
    assert found.passed and not UNWANTED & set(found.histogram)
    assert keras_norm.verify(model, path).passed


def test_the_norm_of_the_weights_is_a_constant_of_an_exported_model(tmp_path):
    """One convolution for the windows, one for their squares, and nothing of the weights."""
    inputs = keras.Input((8, 8, 6))
    model = randomize(keras.Model(inputs, CosineConv2D(12, 3)(inputs)))
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    operations = [row.operation.name for row in keras_norm.audit(path).rows]
    assert sorted(operations) == ["ADD", "CONV_2D", "CONV_2D", "MUL", "MUL", "RSQRT", "SUM"]


def test_litert_with_unknown_image_size(tmp_path):
    inputs = keras.Input((None, None, 6))
    layer = CosineConv2D(4, 3, padding="same", centered=True)
    model = randomize(keras.Model(inputs, layer(inputs)))
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    assert not UNWANTED & set(keras_norm.audit(path).histogram)
    interpreter = Interpreter(str(path))
    for size in (5, 9):
        x = data((1, size, size, 6))
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        actual = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert_close(actual, model(x), 1e-5)
        assert_close(actual, expected(layer, {"padding": "same", "centered": True}, x), 1e-5)
