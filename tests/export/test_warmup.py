"""Warm-up requests: read back as a server reads them, and run through the signature."""

import importlib.util
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow_serving.apis import prediction_log_pb2

from keras_norm.export import export_saved_model


def dense():
    return keras.Sequential([keras.Input((3,), name="x"), layers.Dense(2, name="y")])


def several():
    """A free size, integers, and a batch size that the export frees."""
    image = keras.Input((None, 4, 1), batch_size=5, name="image")
    token = keras.Input((), batch_size=5, dtype="int32", name="my token")
    features = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(image))
    return keras.Model([image, token], layers.Add()([features, layers.Embedding(9, 3)(token)]))


def texts():
    inputs = keras.Input((1,), dtype="string", name="word")
    return keras.Model(inputs, layers.StringLookup(vocabulary=["a", "b"], name="index")(inputs))


def requests_of(path):
    """The requests, parsed by TensorFlow's reader of records and the server's own messages."""
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    logs = map(prediction_log_pb2.PredictionLog.FromString, records)
    return [log.predict_log.request for log in logs]


def check_against_signature(path, requests):
    """Names, types and sizes are those of the signature, which answers."""
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    answers = []
    for request in requests:
        assert request.model_spec.signature_name == "serving_default"
        assert set(request.inputs) == set(specs)
        for name, tensor in request.inputs.items():
            assert tensor.dtype == specs[name].dtype.as_datatype_enum
            shape = [size.size for size in tensor.tensor_shape.dim]
            assert specs[name].shape.is_compatible_with(shape) and shape[0] == 1
        (answer,) = serve(**{k: parsed(v) for k, v in request.inputs.items()}).values()
        answers.append(answer.numpy())
    return np.concatenate(answers)


def parsed(tensor):
    return tf.io.parse_tensor(tensor.SerializeToString(), tf.as_dtype(tensor.dtype))


def test_each_sample_is_a_request(tmp_path):
    model = dense()
    data = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    path = export_saved_model(model, tmp_path, name="points", version=2, warmup=data)
    requests = requests_of(path)
    assert [request.model_spec.name for request in requests] == ["points"] * 4
    sent = np.concatenate([tf.make_ndarray(request.inputs["x"]) for request in requests])
    np.testing.assert_array_equal(sent, data)
    answers = check_against_signature(path, requests)
    np.testing.assert_allclose(answers, model(data), rtol=0, atol=1e-6)
    # They are part of the folder that a later export replaces.
    again = export_saved_model(model, path.rename(tmp_path / "single"), warmup=[data[:1]])
    assert len(requests_of(again)) == 1
    assert [request.model_spec.name for request in requests_of(again)] == ["single"]


@pytest.mark.parametrize("kind", [list, dict])
def test_several_inputs(tmp_path, kind):
    model = several()
    random = np.random.default_rng(0)
    arrays = [random.normal(size=(5, 6, 4, 1)).astype("float32"), random.integers(0, 9, 5)]
    warmup = arrays if kind is list else {"my token": arrays[1], "image": arrays[0]}
    path = export_saved_model(model, tmp_path / "model", warmup=warmup)
    answers = check_against_signature(path, requests_of(path))
    np.testing.assert_allclose(answers, model(arrays, training=False), rtol=0, atol=1e-6)


def test_random_samples(tmp_path):
    path = export_saved_model(several(), tmp_path / "model", warmup=3)
    requests = requests_of(path)
    assert len(requests) == 3
    images = [tf.make_ndarray(request.inputs["image"]) for request in requests]
    assert {image.shape for image in images} == {(1, 8, 4, 1)}
    assert len({image.tobytes() for image in images}) == 3
    assert check_against_signature(path, requests).shape == (3, 3)


def test_texts(tmp_path):
    path = export_saved_model(texts(), tmp_path / "model", warmup=np.array([["b"], ["zzz"]]))
    assert check_against_signature(path, requests_of(path)).tolist() == [[2], [0]]
    with pytest.raises(ValueError, match=r"`warmup` must be given .* Received: warmup=2 .*few str"):
        export_saved_model(texts(), tmp_path / "model", warmup=2)


def test_no_file_without_warmup(tmp_path):
    path = export_saved_model(dense(), tmp_path / "model")
    assert not (path / "assets.extra").exists()


@pytest.mark.parametrize("warmup", [0, -1, True, 1001, np.zeros((1001, 3))])
def test_refuses_a_number_that_no_server_takes(tmp_path, warmup):
    with pytest.raises(ValueError, match=r"`warmup` must be 1 to 1000 samples.*Received: .*Pass"):
        export_saved_model(dense(), tmp_path / "model", warmup=warmup)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "warmup",
    [
        np.zeros((0, 3)),
        np.zeros(()),
        np.zeros(3),
        np.zeros((2, 4)),
        {"z": np.zeros((2, 3))},
        object(),
        "samples.npy",
    ],
)
def test_refuses_data_that_does_not_fit(tmp_path, warmup):
    with pytest.raises(ValueError, match=r"`warmup` must .* Received: "):
        export_saved_model(dense(), tmp_path / "model", warmup=warmup)
    assert os.listdir(tmp_path) == []


def test_says_what_to_install(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name[:11] == "tensorflow_" else found(name),
    )
    with pytest.raises(ImportError, match=r'`warmup` needs .*pip install "keras_norm\[serving\]"'):
        export_saved_model(dense(), tmp_path / "model", warmup=1)
    export_saved_model(dense(), tmp_path / "model")
