"""`verify` of files that onnxruntime and OpenVINO run."""

import keras
import numpy as np
import openvino
import pytest
from keras import layers

import keras_norm
from keras_norm import verify

STARTS = {"onnx": "onnxruntime 1.", "openvino": "openvino 20"}


def several(seed=0):
    """Two inputs of two dtypes, and two outputs in a list."""
    series, tokens = (
        keras.Input((6, 3), name="series"),
        keras.Input((6,), dtype="int32", name="tokens"),
    )
    norm = keras_norm.GroupNormalization(3, name="norm")(series)
    total = layers.Add(name="total")([norm, layers.Embedding(2, 3)(tokens)])
    head = layers.Dense(2, name="head")(layers.Flatten()(total))
    model = keras.Model([series, tokens], [total, head])
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=weight.shape) for weight in model.weights])
    model([np.zeros((1, 6, 3)), np.zeros((1, 6))])  # Keras exports no model to ONNX before a call.
    return model


def keras_onnx(model, folder):
    model.export(folder / "model.onnx", format="onnx", verbose=False)
    return folder / "model.onnx"


def openvino_of_saved_model(model, folder):
    # Not by Keras's export to OpenVINO: for a graph that it traces, which nobody has pruned, that
    # makes outputs of nodes that nothing reads, and the file has more outputs than the model.
    found = openvino.convert_model(keras_norm.export_saved_model(model, folder / "served"))
    # OpenVINO's default is to store weights in half precision.
    openvino.save_model(found, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


EXPORTS = [keras_onnx, openvino_of_saved_model]


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_the_models_own_file_passes_and_another_does_not(tmp_path, monkeypatch, export):
    model = several()
    path = export(model, tmp_path)
    (tmp_path / "poison").mkdir()
    for name in ("keras", "keras_norm", "tensorflow"):
        (tmp_path / "poison" / f"{name}.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "poison"))
    found = verify(model, path)
    assert found.passed, str(found)
    assert found.bound == 1e-5 and found.lowest_sqnr > 100
    assert found.runtime.startswith(STARTS[found.format])
    shapes = {output: array.shape for output, array in found.outputs.items()}
    assert shapes == {"total": (2, 6, 3), "head": (2, 2)}
    model.get_layer("head").bias.assign_add([0.0, 1e-2])
    changed = verify(model, path)
    assert {output.name: output.passed for output in changed.differences} == {
        "total": True,
        "head": False,
    }


def test_half_precision_weights_show(tmp_path):
    """OpenVINO halves weights unless told otherwise: too coarse for the bound, not for an SQNR."""
    model = several()
    found = openvino.convert_model(keras_norm.export_saved_model(model, tmp_path / "served"))
    openvino.save_model(found, tmp_path / "model.xml")
    assert not verify(model, tmp_path / "model.xml").passed
    assert verify(model, tmp_path / "model.xml", sqnr=60.0).passed


@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_a_file_for_a_fixed_batch_runs_any_number_of_samples(tmp_path, suffix):
    model = keras.Sequential([keras.Input((None, 3), name="x"), layers.Dense(2, name="y")])
    model(np.zeros((1, 5, 3)))
    signature = [keras.InputSpec(shape=(4, 5, 3), dtype="float32", name="x")]
    path = tmp_path / f"model.{suffix}"
    kind = {"onnx": "onnx", "xml": "openvino"}[suffix]
    # Keras takes no other paths than strings for OpenVINO.
    model.export(str(path), format=kind, verbose=False, input_signature=signature)
    found = verify(model, path)
    assert found.passed and found.outputs["y"].shape == (4, 5, 2)
    found = verify(model, path, data=np.random.default_rng(0).normal(size=(10, 5, 3)))
    assert found.passed and found.outputs["y"].shape == (10, 5, 2)


@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_a_file_that_does_not_run_is_reported(tmp_path, suffix):
    (tmp_path / f"broken.{suffix}").write_bytes(b"no model")
    with pytest.raises(RuntimeError, match=rf"(?s)`path` must .*broken.{suffix}.*code 1"):
        verify(several(), tmp_path / f"broken.{suffix}")
