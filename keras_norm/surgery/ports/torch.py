"""Checkpoints of PyTorch: what `Module.state_dict()` returns."""

from collections.abc import Mapping

import keras
import numpy as np

from keras_norm.surgery.ports.formats import Entry, Format, Modules, as_array, by_name
from keras_norm.surgery.ports.slots import DEPTHWISE, TRANSPOSED, along

_NEW, _INSIDE = "parametrizations.weight.", ".parametrizations."
_LEAVES = {
    "gamma": ("weight",),
    "scale": ("weight",),
    "beta": ("bias",),
    "kernel": ("weight",),
    "embeddings": ("weight",),
    "bias": ("bias",),
    "moving_mean": ("running_mean",),
    "moving_variance": ("running_var",),
    "weight norm kernel": (f"{_NEW}original1", "weight_v"),
    "g": (f"{_NEW}original0", "weight_g"),
    "spectral norm kernel": (f"{_NEW}original", "weight_orig"),
    "u": (f"{_NEW}0._u", "weight_u"),
    "v": (f"{_NEW}0._v", "weight_v"),
}


def _read(state_dict) -> Modules:
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "`state_dict` must be a dictionary of arrays. "
            f"Received: state_dict of type {type(state_dict).__name__}. "
            "Pass `module.state_dict()`, or what `torch.load(path, weights_only=True)` returns."
        )
    modules: Modules = {}
    for key, value in state_dict.items():
        module, leaf = _split(str(key))
        modules.setdefault(module, {})[leaf] = Entry(key, as_array(value, "state_dict", key))
    return modules


def _split(key):
    """Module and name in it: parametrizations are modules in PyTorch, but not here."""
    place = f".{key}".find(_INSIDE)
    if place >= 0:
        return key[: max(place - 1, 0)], key[place:]
    module, _, leaf = key.rpartition(".")
    return module, leaf


def _convert(slot, array, module):
    if slot.role in ("g", "u", "v"):
        return along(slot, _kernel(slot.layer, _spread(slot, array)))
    return _kernel(slot.layer, array) if slot.role.endswith("kernel") else array


def _kernel(layer, array):
    """From [outputs, inputs, space] to Keras's kernel; transposed ones have the first two turned.

    Both are [space, inputs, outputs] or [space, outputs, inputs] in Keras, the reverse either way.
    """
    if isinstance(layer, keras.layers.Embedding) or array.ndim < 2:
        return array
    turned = np.transpose(array, (*range(2, array.ndim), 1, 0))
    if not isinstance(layer, DEPTHWISE):
        return turned
    # The filters of one channel stand together: [space, 1, C·M] is [space, C, M].
    channels, multiplier = layer.kernel.shape[-2:]
    size = channels * multiplier
    if turned.shape[-2] != 1 or turned.shape[-1] not in (1, size):
        return array
    ends = (channels, multiplier) if turned.shape[-1] == size else (1, 1)
    return turned.reshape(*turned.shape[:-2], *ends)


def _spread(slot, array):
    """g, u or v in the layout of PyTorch's kernel, with size 1 along the other axes."""
    if slot.role == "g":
        return array
    shape = list(slot.stored.shape)
    if not isinstance(slot.layer, keras.layers.Embedding):
        if isinstance(slot.layer, DEPTHWISE):
            shape[-2:] = [1, shape[-2] * shape[-1]]
        shape = [shape[-1], shape[-2], *shape[:-2]]
    outputs = 1 if isinstance(slot.layer, TRANSPOSED) else 0
    spans = [(axis == outputs) != (slot.role == "v") for axis in range(len(shape))]
    wanted = [size if spanned else 1 for size, spanned in zip(shape, spans, strict=True)]
    return array.reshape(wanted) if array.size == np.prod(wanted) else array


def _match(targets, modules):
    names = by_name(targets, modules)
    if names is not None:
        return names
    # Modules stand in the order in which the network's constructor made them.
    return list(modules) if len(modules) == len(targets) else None


TORCH = Format(
    argument="state_dict",
    read=_read,
    leaves=_LEAVES,
    convert=_convert,
    match=_match,
    ignored=frozenset({"num_batches_tracked"}),
    advice="as many modules as there are layers with weights, or modules with the layers' names",
)
