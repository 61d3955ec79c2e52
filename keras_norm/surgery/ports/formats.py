"""A file's contents in a form that does not depend on the library which wrote it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_norm.surgery.ports.slots import Slot, Target


class Entry(NamedTuple):
    """An array of a checkpoint.

    Attributes:
        key: Its name there, as messages give it.
        array: Its values.
    """

    key: str
    array: Any


Modules = dict[str, dict[str, Entry]]
"""The entries of a checkpoint by module and by name in the module."""


class Format(NamedTuple):
    """How a library keeps weights.

    Attributes:
        argument: Name of the argument that the checkpoint comes in.
        read: Function from the checkpoint to its modules.
        leaves: Names that a weight may have in a module, by its role.
        convert: Function from a slot, an array and its module to the array in our layout.
        match: Function that finds the module of each layer; `None` where it cannot.
        ignored: Names in a module of what is no weight.
        advice: What to say where names cannot be matched.
    """

    argument: str
    read: Callable[[Any], Modules]
    leaves: Mapping[str, tuple[str, ...]]
    convert: Callable[[Slot, Any, dict[str, Entry]], Any]
    match: Callable[[Sequence[Target], Modules], list[str] | None]
    ignored: frozenset[str]
    advice: str


def as_array(value, argument, key):
    """An array of NumPy or JAX, or a tensor of PyTorch, as a NumPy array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = value.float() if "bfloat16" in str(value.dtype) else value
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        array = array.astype("float32")
    if array.dtype.kind not in "fiu":
        raise ValueError(
            f"`{argument}` must hold arrays of real numbers. Received: {key!r} of type "
            f"{type(value).__name__} (dtype {array.dtype}). Leave out what is no weight."
        )
    return array


def by_name(targets, modules):
    """The modules that are called as the layers are, or `None` where one is not."""
    names = [target.path.replace("/", ".") for target in targets]
    return names if all(name in modules for name in names) else None
