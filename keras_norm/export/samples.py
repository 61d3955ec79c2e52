"""Data to run a model and its file on: the caller's, checked, or drawn from a seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_norm.export import signature

_BATCH, _SIZE, _SEED = 2, 8, 0


def given(model: keras.Model, data: Any, argument: str = "data") -> dict[str, np.ndarray]:
    """The caller's data by input name, in the types of the model's inputs.

    Args:
        model: A Functional or Sequential model.
        data: An array, a list of arrays in the order of the inputs (also of one), or a dict by
            input name.
        argument: What the caller's argument is called, for errors. Defaults to `"data"`.

    Returns:
        One array per input, in the order of the model's inputs.

    Raises:
        ValueError: If the inputs are not the model's, if they hold no sample or something else
            than numbers, or if their sizes are others than the model's.
    """
    names, tensors = signature.input_names(model), signature.input_tensors(model)
    if isinstance(data, Mapping):
        by_name = {signature.identifier(str(name)): value for name, value in data.items()}
    else:
        listed = isinstance(data, (list, tuple)) and (
            len(names) > 1 or [*map(rank, data)] == [len(tensors[0].shape)]
        )
        values = data if listed else [data]
        by_name = dict(zip(names, values, strict=False)) if len(values) == len(names) else {}
    if set(by_name) != set(names):
        raise ValueError(
            f"`{argument}` must be one array, a list with one array per input, or a dict by input "
            f"name. Received: {argument} of type {type(data).__name__}"
            + (f" with {_parts(data)}" if isinstance(data, (Mapping, list, tuple)) else "")
            + f". The inputs are named {names}."
        )
    arrays = {
        name: _array(by_name[name], tensor.dtype, argument)
        for name, tensor in zip(names, tensors, strict=True)
    }
    if len({len(array) if array.ndim else 0 for array in arrays.values()} | {0}) != 2:
        raise ValueError(
            f"`{argument}` must hold the same number of samples, at least one, for every input. "
            f"Received: shapes { {name: array.shape for name, array in arrays.items()} }. "
            "Give every array a batch axis of the same size."
        )
    for (name, array), tensor in zip(arrays.items(), tensors, strict=True):
        _check_sizes(name, array, (None, *tensor.shape[1:]), argument)
    return arrays


def rank(value: Any) -> int:
    """The rank of what may be an array.

    Args:
        value: Anything.

    Returns:
        Its number of axes, 0 for a scalar, -1 where its rows are of several lengths.
    """
    try:
        return np.ndim(value)
    except ValueError:
        return -1


def _parts(data: Mapping | Sequence) -> str:
    return f"the keys {list(data)}" if isinstance(data, Mapping) else f"{len(data)} entries"


def _array(value: Any, dtype: str, argument: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        if array.dtype.kind == "c" and "complex" not in dtype:
            raise TypeError("complex numbers")  # NumPy would leave out half of each
        return array.astype(str if dtype == "string" else dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{argument}` must hold arrays of what the model takes, here {dtype}. "
            f"Received: {argument} with a {type(value).__name__} ({error}). "
            "Pass arrays of numbers, all rows of one length."
        ) from error


def _check_sizes(name: str, array: np.ndarray, own: tuple[int | None, ...], argument: str) -> None:
    fits = array.ndim == len(own)
    if not fits or any(k not in (None, n) for k, n in zip(own, array.shape, strict=True)):
        raise ValueError(
            f"`{argument}` must hold samples that the model takes. Received: an array of shape "
            f"{array.shape} for the input {name!r} of shape {own}. "
            "Pass data of that shape, with a batch axis."
        )


def drawn(
    model: keras.Model,
    fixed: Mapping[str, np.ndarray] | None = None,
    *,
    count: int | None = None,
    argument: str = "data",
) -> dict[str, np.ndarray]:
    """Random data that the model takes, the same in every run.

    Args:
        model: A Functional or Sequential model.
        fixed: Shapes that a file takes, by input name; -1 for a free size. Defaults to none.
        count: Number of samples. Defaults to the model's batch size, else the file's, else 2.
        argument: What the caller's argument for data is called, for errors. Defaults to `"data"`.

    Returns:
        One array per input: normal numbers for floats, 0 and 1 for integers (any embedding has
        these), with a size of 8 where neither model nor file names one.

    Raises:
        ValueError: If an input holds neither numbers nor booleans.
    """
    random = np.random.default_rng(_SEED)
    names, tensors = signature.input_names(model), signature.input_tensors(model)
    fixed = fixed or {}
    if len(fixed) == len(names) == 1:
        fixed = {names[0]: next(iter(fixed.values()))}
    result = {}
    for name, tensor in zip(names, tensors, strict=True):
        batch, *sizes = _merged(tuple(tensor.shape), fixed.get(name))
        if tensor.dtype == "string":
            raise ValueError(
                f"`{argument}` must be given for a model that takes strings. "
                f"Received: {argument}={count} (input {name!r}). Pass a few strings."
            )
        numbers: np.ndarray = random.standard_normal((count or batch, *sizes))
        if "float" not in tensor.dtype:
            numbers = numbers > 0
        result[name] = numbers.astype(tensor.dtype)
    return result


def outputs(model: keras.Model, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What a model computes in inference.

    Args:
        model: A Functional or Sequential model.
        inputs: One array per input, in the order of the model's inputs.

    Returns:
        Its outputs in a flat list.
    """
    results = model(signature.packed(model, list(inputs.values())), training=False)
    return [keras.ops.convert_to_numpy(one) for one in keras.tree.flatten(results)]


def _merged(own: tuple[int | None, ...], fixed: np.ndarray | None) -> tuple[int, ...]:
    """Sizes by the model, else by the file, else by default.

    A file for one sample at a time still gets two: a fault may show in the second alone.
    """
    if fixed is None or len(fixed) != len(own):
        fixed = np.full(len(own), -1)
    batch = own[0] or max(_BATCH, int(fixed[0]))
    rest = [
        mine or (int(file) if file > 0 else _SIZE)
        for mine, file in zip(own[1:], fixed[1:], strict=True)
    ]
    return (batch, *rest)
