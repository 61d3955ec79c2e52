"""Warm-up requests of a SavedModel: what a model server runs before the first real request."""

import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_norm.export import samples

_FILE = Path("assets.extra", "tf_serving_warmup_requests")
_LIMIT = 1000
"""TensorFlow Serving does not load a model with more requests."""


def warmup_requests(model: keras.Model, warmup: Any) -> list[dict[str, np.ndarray]]:
    """One request per sample, each a batch of one.

    Args:
        model: A Functional or Sequential model.
        warmup: Samples: an array, a list of arrays, or a dict by input name; or how many random
            ones to draw.

    Returns:
        Per request one array per input of the model, by name.

    Raises:
        ImportError: If `tensorflow-serving-api` is not installed.
        ValueError: If there are no samples or over 1000, or if they do not fit the model.
    """
    if importlib.util.find_spec("tensorflow_serving") is None:
        raise ImportError(
            "`warmup` needs tensorflow-serving-api, which is not installed. "
            f"Received: warmup of type {type(warmup).__name__}. Run `pip install "
            '"keras_norm[serving]"`, or leave `warmup` away.'
        )
    if isinstance(warmup, int):
        _check_count(warmup, f"warmup={warmup!r}", not isinstance(warmup, bool))
        inputs = samples.drawn(model, count=warmup, argument="warmup")
    else:
        inputs = samples.given(model, warmup, argument="warmup")
    count = len(next(iter(inputs.values())))
    _check_count(count, f"warmup with {count} samples")
    return [{k: v[place : place + 1] for k, v in inputs.items()} for place in range(count)]


def _check_count(count: int, received: str, fits: bool = True) -> None:
    if not (fits and 1 <= count <= _LIMIT):
        raise ValueError(
            f"`warmup` must be 1 to {_LIMIT} samples, or their number: a server does not load a "
            f"model with more. Received: {received}. Pass a few samples of each kind."
        )


def write_requests(
    folder: Path, name: str, endpoint: str, logged: list[dict[str, np.ndarray]]
) -> None:
    """Writes requests where TensorFlow Serving looks for them in a SavedModel.

    Args:
        folder: The SavedModel.
        name: The name under which the model is served.
        endpoint: The signature that the requests call.
        logged: What `warmup_requests` returned.

    Reference:
        SavedModel Warmup (https://www.tensorflow.org/tfx/serving/saved_model_warmup).
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    file = folder / _FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for inputs in logged:
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = name, endpoint
            for key, array in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
            predicted = prediction_log_pb2.PredictLog(request=request)
            log = prediction_log_pb2.PredictionLog(predict_log=predicted)
            writer.write(log.SerializeToString())
