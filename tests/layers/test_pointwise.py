"""What is peculiar to local response normalization."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import keras_norm
from tests.conformance.support import MODES, assert_close, backward, built, data, oracle_gradients

SHAPE = (3, 4, 5, 9)
SETTINGS = [
    {},
    {"depth_radius": 5, "bias": 1.0, "alpha": 1.0, "power": 0.5},  # tf.nn's defaults
    {"depth_radius": 0, "bias": 0.5, "alpha": 0.2, "power": 1.0},
    {"depth_radius": 20, "bias": 1.5, "alpha": 0.1, "power": 1.3},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_that_of_tensorflow(settings):
    layer = keras_norm.LocalResponseNormalization(**settings)
    x, dy = tf.constant(data(SHAPE)), data(SHAPE, 3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        expected = tf.nn.local_response_normalization(
            x, layer.depth_radius, layer.bias, layer.alpha, layer.power
        )
        loss = tf.reduce_sum(expected * dy)
    y, dx, _ = backward(layer, "graph", True)(x, dy)
    assert_close(y, expected, 2e-6)
    assert_close(dx, tape.gradient(loss, x), 1e-5)


def test_pytorch_divides_alpha_by_the_window():
    """`torch.nn.LocalResponseNorm(size=5, alpha=1e-2, beta=0.75, k=2.0)`, in NumPy."""
    x = data(SHAPE, dtype="float64")
    padded = np.pad(x**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
    means = np.mean([padded[..., k : k + 9] for k in range(5)], axis=0)
    expected = x / (2.0 + 1e-2 * means) ** 0.75
    layer = keras_norm.LocalResponseNormalization(depth_radius=2, alpha=1e-2 / 5)
    assert_close(layer(x.astype("float32")), expected, 2e-6)


def test_the_window_ends_where_the_channels_end():
    layer = keras_norm.LocalResponseNormalization(1, bias=1.0, alpha=1.0, power=1.0, depth_radius=1)
    y = layer(np.ones((1, 4, 2), "float32")).numpy()
    np.testing.assert_allclose(y[0, :, 0], [1 / 3, 1 / 4, 1 / 4, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_the_papers_constants_hold_from_tiny_to_huge_inputs(mode):
    row = keras_norm.catalog["lrn"]
    arguments = {"bias": 2.0, "alpha": 1e-4, "power": 0.75}
    shape = (2, 2, 3, 6)
    layer, dy = built(row, shape, **arguments), data(shape, 3)
    for size in (1e-18, 1.0, 1e3, 1e6, 1e17):
        x = (data(shape) * size).astype("float32")
        dx, _ = oracle_gradients(row, layer, x, dy, arguments, True, step=1e-5 * size)
        y, actual, _ = backward(layer, mode, True)(x, dy)
        assert_close(actual, dx, 1e-4)
        assert np.isfinite(y).all()


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("depth_radius", -1, "an integer of at least 0"),
        ("depth_radius", 2.0, "an integer of at least 0"),
        ("bias", 0.0, "a finite number above 0"),
        ("bias", "2", "a finite number above 0"),
        ("alpha", -1e-4, "a finite number of at least 0"),
        ("power", np.nan, "a finite number of at least 0"),
    ],
)
def test_arguments_out_of_range(argument, value, rule):
    with pytest.raises(ValueError) as error:
        keras_norm.LocalResponseNormalization(**{argument: value})
    assert f"`{argument}` must be {rule}. Received: {argument}={value!r}" in str(error.value)


def test_one_axis_and_nothing_of_other_norms():
    with pytest.raises(ValueError, match="`axis` must be one axis, the channels"):
        keras_norm.LocalResponseNormalization(axis=[1, 2])(data(SHAPE))
    for name in ("epsilon", "center", "scale", "gamma_regularizer"):
        with pytest.raises(ValueError, match=rf"Unrecognized keyword.*{name}"):
            keras_norm.LocalResponseNormalization(**{name: None})


def test_litert_sums_the_window_in_one_operation(tmp_path):
    layer = keras_norm.LocalResponseNormalization()
    model = keras.Sequential([keras.Input((8, 8, 16)), layer])
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    operations = [
        d["op_name"] for d in interpreter._get_ops_details() if d["op_name"] != "DELEGATE"
    ]
    assert operations.count("FULLY_CONNECTED") == 1 and "TRANSPOSE" not in operations
    assert len(operations) <= 8, operations
    assert keras_norm.verify(model, path).passed
