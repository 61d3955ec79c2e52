"""Every row leaves for LiteRT with built-in operations, and the files say the same."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import keras_norm
from tests.conformance.support import data, inputs_of, randomize
from tests.saved_models import assignments, operations

CHANNELS = 6
# Given, as a file without data is first asked for its shapes, by one more process.
IMAGES = data((2, 8, 8, CHANNELS))

EVERYWHERE = ["builtin", "rank", "static", "xnnpack", "gpu"]
"""What no device refuses."""
UNWANTED = {"SHAPE", "PACK", "STRIDED_SLICE", "NEG", "SQUARE", "SQUARED_DIFFERENCE"}
UNWANTED |= {"BROADCAST_TO", "TILE", "L2_NORMALIZATION"}


def model_of(row):
    """The row's example between layers, with random weights."""
    inputs = inputs_of(row)
    return randomize(keras.Model(inputs, keras.layers.Dense(3)(row.example()(inputs))))


def convolutions_between_norms(row, size=8):
    """Norm → Conv2D → Norm → DepthwiseConv2D, the chain that converters have failed on."""
    inputs = keras.Input((size, size, CHANNELS), name="image")
    x = row.build(name="first")(inputs)
    x = keras.layers.Conv2D(CHANNELS, 3, padding="same")(x)
    x = row.build(name="second")(x)
    outputs = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    return randomize(keras.Model(inputs, outputs))


def test_litert(row, tmp_path):
    model, path = model_of(row), tmp_path / "model.tflite"
    keras_norm.export_litert(model, path)
    found = keras_norm.audit(path, require=EVERYWHERE if row.kind == "activations" else ["builtin"])
    assert found.passed, str(found)
    assert found.highest_rank <= max(4, *(len(x.shape) for x in model.inputs))
    assert row.kind == "recurrent" or not UNWANTED & set(found.histogram)
    result = keras_norm.verify(model, path, data=data(row.input_shape))
    assert result.passed, str(result)


def test_saved_model(row, tmp_path):
    model = model_of(row)
    path = keras_norm.export_saved_model(model, tmp_path / "model")
    assert "MatMul" in operations(path)
    assert not assignments(path)


@pytest.mark.parametrize("kind", dict.fromkeys(row.kind for row in keras_norm.catalog))
def test_saved_models_verify(kind, tmp_path):
    """One of each kind: test_saving runs those of every row in another process."""
    model = model_of(next(row for row in keras_norm.catalog if row.kind == kind))
    path = keras_norm.export_saved_model(model, tmp_path / "model")
    result = keras_norm.verify(model, path)
    assert result.passed, str(result)


def test_an_assignment_would_be_found(tmp_path):
    """The same model, served as in training: its moving moments are assigned in a function."""
    model = model_of(keras_norm.catalog["batch"])
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [keras.InputSpec(shape=(None, *model.inputs[0].shape[1:]), dtype="float32")]
    for training in (True, False):
        archive.add_endpoint(
            f"{training}", lambda x, mode=training: model(x, training=mode), signature
        )
    archive.write_out(str(tmp_path / "model"), verbose=False)
    assert assignments(tmp_path / "model", "True")
    assert not assignments(tmp_path / "model", "False")


@pytest.mark.parametrize("batch", [1, None])
def test_litert_between_convolutions(norm, batch, tmp_path):
    model = convolutions_between_norms(norm)
    path = tmp_path / "model.tflite"
    keras_norm.export_litert(model, path, input_shape=(batch, 8, 8, CHANNELS))
    found = keras_norm.audit(path, require=EVERYWHERE if batch else ["builtin", "rank", "xnnpack"])
    assert found.passed and found.partitions == 1, str(found)
    assert not UNWANTED & set(found.histogram)
    result = keras_norm.verify(model, path, data=IMAGES)
    assert result.passed, str(result)


@pytest.mark.parametrize("name", ["GroupNormalization", "SwitchableNormalization", "EvoNormS0"])
def test_litert_of_a_network(name, tmp_path):
    """4 × [convolution, norm, ReLU]: XNNPACK takes it as one partition, GPUs refuse none of it."""
    row = keras_norm.catalog[name]
    outputs = inputs = keras.Input((8, 8, CHANNELS))
    for _ in range(4):
        outputs = row.build()(keras.layers.Conv2D(CHANNELS, 3, padding="same")(outputs))
        outputs = keras.layers.ReLU()(outputs)
    path = keras_norm.export_litert(keras.Model(inputs, outputs), tmp_path / "model.tflite")
    found = keras_norm.audit(path, require=EVERYWHERE)
    assert found.passed and found.partitions == 1, str(found)
    assert found.histogram["CONV_2D"] == 4


def test_litert_with_unknown_image_size(norm, tmp_path):
    inputs = keras.Input((None, None, CHANNELS))
    outputs = norm.build()(keras.layers.Conv2D(CHANNELS, 3, padding="same")(norm.build()(inputs)))
    model = randomize(keras.Model(inputs, outputs))
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    found = keras_norm.audit(path)
    assert not {"SHAPE", "PACK", "STRIDED_SLICE"} & set(found.histogram)
    interpreter = Interpreter(str(path))
    (detail,) = interpreter.get_input_details()
    for size in (5, 9):
        x = data((1, size, size, CHANNELS))
        interpreter.resize_tensor_input(detail["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(detail["index"], x)
        interpreter.invoke()
        (output,) = interpreter.get_output_details()
        expected = np.asarray(model(x))
        actual = interpreter.get_tensor(output["index"])
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_static_norms_vanish_into_the_convolution_before_them(norm, tmp_path):
    """Batch statistics are constants in inference: no operation is left of those norms."""
    inputs = keras.Input((8, 8, CHANNELS))
    x = norm.build()(keras.layers.Conv2D(CHANNELS, 3)(inputs))
    model = randomize(keras.Model(inputs, keras.layers.ReLU()(x)))
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    assert (keras_norm.audit(path).histogram == {"CONV_2D": 1}) == norm.folds
    assert keras_norm.verify(model, path, data=IMAGES).passed


def test_half_precision_models_export(norm, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = convolutions_between_norms(norm)
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    result = keras_norm.verify(model, path, data=IMAGES, bound=5e-3)
    assert result.passed, str(result)
