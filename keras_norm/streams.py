"""Data of any form as batches in float64 on the host."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_norm.arguments import check_choice, check_integer

PIECE = 2**20
"""Numbers that are held in float64 at once; a batch may be far larger."""

PATIENCE = 5.0
"""Seconds after which `verbose="auto"` shows a progress bar."""


def batches(
    data: Any, batch_size: int | None = None, steps: int | None = None, verbose: Any = "auto"
) -> Iterator[np.ndarray]:
    """The batches of a data set, one after the other, in float64 and in pieces of bounded size.

    Args:
        data: An array or tensor, or an iterable of them: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a generator. Of a tuple (x, y, ...) x counts.
        batch_size: Rows of a batch, for arrays and tensors alone.
        steps: Number of batches to read, or `None` for all of them.
        verbose: Whether to show a progress bar; "auto" shows it when it takes long.

    Yields:
        Arrays with the batch axis first.

    Raises:
        ValueError: If arguments do not fit the data, or if it ends early or holds infinity.
        TypeError: If the data holds no numbers, or is of no known form.
    """
    check_choice("verbose", verbose, ("auto", True, False, 0, 1))
    steps = None if steps is None else check_integer("steps", steps)
    stream, size = _stream(data, batch_size, steps)
    progress, done = _Progress(size if steps is None else steps, verbose), 0
    for batch in stream:
        x = _numbers(batch, done)
        rows = max(1, PIECE // max(1, math.prod(x.shape[1:])))
        for start in range(0, len(x), rows):
            piece = x[start : start + rows].astype("float64")
            if np.isinf(piece).any():
                raise ValueError(
                    "`data` must be finite; NaN stands for a missing value. "
                    f"Received: infinity in batch {done}. Clean the data, or set NaN there."
                )
            yield piece
        done += 1
        progress.update(done)
        if done == steps:
            break
    if steps is not None and done < steps:
        raise ValueError(
            f"`steps` must not exceed the number of batches. Received: steps={steps}, but the data "
            f"ended after {done}. Leave `steps` at None to read all of the data."
        )
    progress.close(done)


def _stream(data: Any, batch_size: Any, steps: int | None) -> tuple[Any, int | None]:
    """An iterable of batches, and their number where it is known."""
    _refuse_ragged_and_sparse(data)
    if hasattr(data, "shape") and hasattr(data, "__array__"):
        rows = data.shape[0] if len(data.shape) else 0
        if batch_size is None:  # Keras's batch where batches are counted, else what fits a piece
            whole = max(1, PIECE // max(1, math.prod(data.shape[1:])))
            batch_size = whole if steps is None else 32
        size = check_integer("batch_size", batch_size)
        return (data[i : i + size] for i in range(0, rows, size)), -(-rows // size)
    if batch_size is not None:
        raise ValueError(
            "`batch_size` must be None where the data comes in batches already. Received: "
            f"batch_size={batch_size!r} (data of type {type(data).__name__}). Leave it out."
        )
    if isinstance(data, Mapping) or not hasattr(data, "__iter__"):
        raise TypeError(
            "`data` must be an array, a tensor, a tf.data.Dataset, a keras.utils.PyDataset or an "
            f"iterable of batches. Received: data of type {type(data).__name__}. "
            "Pass one array, e.g. `np.asarray(data)`."
        )
    check_end(data, steps)
    return data, _length(data)


def check_end(data: Any, steps: int | None) -> None:
    """Refuses data that is known never to end; of a generator no one knows beforehand."""
    if isinstance(data, keras.utils.PyDataset):
        endless = _length(data) is None
    else:
        endless = hasattr(data, "cardinality") and int(data.cardinality()) == -1
    if endless and steps is None:
        raise ValueError(
            "`steps` must be given where the data never ends. Received: steps=None "
            f"(data of type {type(data).__name__}). Say how many batches to read."
        )


def _length(data: Any) -> int | None:
    """The number of batches, `None` where it is not known or there is no end."""
    if isinstance(data, keras.utils.PyDataset):
        try:
            return data.num_batches
        except NotImplementedError:
            return None
    if hasattr(data, "cardinality"):  # tf.data: -1 is infinite, -2 unknown
        size = int(data.cardinality())
        return size if size >= 0 else None
    return len(data) if hasattr(data, "__len__") else None


def _refuse_ragged_and_sparse(data: Any) -> None:
    ragged = hasattr(data, "row_splits")
    if ragged or hasattr(data, "dense_shape"):
        raise TypeError(
            f"`data` must be dense. Received: a {'ragged' if ragged else 'sparse'} "
            f"{type(data).__name__}. Convert it first: `ragged.to_tensor(np.nan)`, which marks the "
            "ends as missing, or `tf.sparse.to_dense(sparse)`."
        )


def _numbers(batch: Any, index: int) -> np.ndarray:
    """A batch, or the inputs of a batch (inputs, targets, ...), as an array of numbers."""
    if isinstance(batch, tuple) and batch:
        batch = batch[0]
    _refuse_ragged_and_sparse(batch)
    if not hasattr(batch, "shape"):
        raise TypeError(
            "`data` must yield arrays or tensors, each a batch. Received: batch "
            f"{index} of type {type(batch).__name__}. Pass one array, e.g. `np.asarray(data)`."
        )
    x = np.asarray(batch)
    if "float" not in x.dtype.name and "int" not in x.dtype.name:
        raise TypeError(
            "`data` must be of a floating or integer dtype. "
            f"Received: dtype={x.dtype.name} in batch {index}. Convert it to numbers first."
        )
    if x.ndim == 0:
        raise ValueError(
            "`data` must have a batch axis. Received: a batch of shape (). "
            "Batch the data set, e.g. with `.batch(32)`."
        )
    return x


class _Progress:
    """A progress bar that stays away while there is nothing to wait for."""

    def __init__(self, total: int | None, verbose: Any) -> None:
        self._bar = keras.utils.Progbar(total, unit_name="batch")
        self._total = total
        self._start = time.monotonic()
        self._patience = PATIENCE if verbose == "auto" else 0.0 if verbose else math.inf
        self._shown = False

    def update(self, done: int) -> None:
        """Says that a batch is done."""
        if time.monotonic() - self._start >= self._patience and done != self._total:
            self._shown = True
            self._bar.update(done)

    def close(self, done: int) -> None:
        """Says that this was the last one."""
        if self._shown or self._patience == 0.0:
            self._bar.update(done, finalize=True)
