"""Data to calibrate on: the caller's, checked, in batches as the file's signature takes them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_norm.export import samples, signature

Batch = dict[str, np.ndarray]


def batches(model: keras.Model, data: Any, shapes: list[tuple[int | None, ...]]) -> list[Batch]:
    """The caller's data in batches of the signature's size, by input name.

    Where the samples do not fill the last batch it goes on with the first ones.

    Args:
        model: A Functional or Sequential model.
        data: What `samples.given` takes, or an iterable of such, which is gone through once.
        shapes: One shape per input of the model with its batch size; `None` for a free size.

    Returns:
        At least one batch.

    Raises:
        ValueError: If there is no sample, or if one does not fit.
    """
    result: list[Batch] = []
    for part in _parts(model, data):
        try:
            given = samples.given(model, part)
        except (TypeError, ValueError) as error:
            raise _refused(data, f"({str(error).splitlines()[0]})") from error
        for array, shape in zip(given.values(), shapes, strict=True):
            _check(data, array, shape)
        result += _cut(given, [shape[0] or 1 for shape in shapes])
    if not result:
        raise _refused(data, "without any sample")
    return result


def _parts(model: keras.Model, data: Any) -> Iterable[Any]:
    """The caller's data, or the parts of it where it is an iterable of such."""
    if isinstance(data, Mapping) or hasattr(data, "shape"):
        return [data]
    if isinstance(data, (list, tuple)):
        return data if data and _are_batches(model, data) else [data]
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise _refused(data, "which is none of these")
    # Of TensorFlow's data sets: -1 says that it repeats for ever.
    if int(getattr(data, "cardinality", int)()) == -1:
        raise _refused(data, "which never ends", "Pass `data.take(100)`, for example.")
    return data


def _are_batches(model: keras.Model, parts: Sequence[Any]) -> bool:
    """Whether a list holds batches, where it might as well hold an array per input."""
    ranks = [len(tensor.shape) for tensor in signature.input_tensors(model)]
    return (
        all(isinstance(part, Mapping) for part in parts)
        or all([len(getattr(part, "shape", ()))] == ranks for part in parts)
        or all(
            isinstance(part, (list, tuple)) and [*map(samples.rank, part)] == ranks
            for part in parts
        )
    )


def _check(data: Any, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(shape) and all(
        known is None or size == known
        for size, known in zip(array.shape[1:], shape[1:], strict=True)
    )
    if not fits:
        expected = ("samples", *shape[1:])
        raise _refused(data, f"with an array of shape {array.shape} where {expected} is taken")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _refused(data, "with numbers that are not finite")


def _cut(arrays: Mapping[str, np.ndarray], sizes: list[int]) -> Iterator[Batch]:
    pairs = list(zip(arrays.items(), sizes, strict=True))
    for step in range(max(math.ceil(len(array) / size) for (_, array), size in pairs)):
        yield {
            name: array.take(range(step * size, (step + 1) * size), axis=0, mode="wrap")
            for (name, array), size in pairs
        }


def _refused(data: Any, what: str, fix: str | None = None) -> ValueError:
    return ValueError(
        "`representative_data` must be an array, a list with one array per input, a dict by input "
        "name, or an iterable of batches of those, with at least one sample, as the model takes "
        f"it. Received: representative_data of type {type(data).__name__} {what}. "
        + (fix or "Pass some hundred samples of the data that the file will see, inputs alone.")
    )
