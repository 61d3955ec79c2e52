"""Checkpoints of Flax: variables of Linen, pure dictionaries of NNX."""

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_norm.surgery.ports.formats import Entry, Format, Modules, as_array, by_name
from keras_norm.surgery.ports.slots import DEPTHWISE, TRANSPOSED, along

_LEAVES = {
    "gamma": ("scale",),
    "scale": ("scale",),
    "beta": ("bias",),
    "kernel": ("kernel",),
    "embeddings": ("embedding",),
    "bias": ("bias",),
    "moving_mean": ("mean",),
    "moving_variance": ("var",),
    "weight norm kernel": ("kernel",),
    "g": ("kernel/scale",),
    "spectral norm kernel": ("kernel",),
    "u": ("kernel/u",),
    "v": ("kernel/u",),
}
_LINEN = {
    "BatchNormalization": "BatchNorm",
    "BatchRenormalization": "BatchNorm",
    "Conv1D": "Conv",
    "Conv1DTranspose": "ConvTranspose",
    "Conv2D": "Conv",
    "Conv2DTranspose": "ConvTranspose",
    "Conv3D": "Conv",
    "Conv3DTranspose": "ConvTranspose",
    "Dense": "Dense",
    "DepthwiseConv1D": "Conv",
    "DepthwiseConv2D": "Conv",
    "Embedding": "Embed",
    "GhostBatchNormalization": "BatchNorm",
    "GroupNormalization": "GroupNorm",
    "InstanceNormalization": "InstanceNorm",
    "LayerNormalization": "LayerNorm",
    "RMSNormalization": "RMSNorm",
}
"""What Linen calls modules without a name of their own, less the number."""


def _read(variables) -> Modules:
    if not hasattr(variables, "items"):
        raise TypeError(
            "`variables` must be a nested dictionary of arrays. "
            f"Received: variables of type {type(variables).__name__}. Pass what `Module.init` "
            "returns, or `nnx.to_pure_dict(nnx.state(module))`."
        )
    linen = "params" in variables
    flat = [(path[1:] if linen else path, path, value) for path, value in _flat(variables, ())]
    places = {path[:-1] for path, _, _ in flat if not _of_wrapper(path)}
    modules: Modules = {}
    for path, whole, value in flat:
        key = ".".join("/".join(part) if isinstance(part, tuple) else part for part in whole)
        *module, leaf = _within(path, places) if _of_wrapper(path) else path
        # What is wrapped stands in for its wrapper.
        name = ".".join(part for part in module if part != "layer_instance")
        entry = Entry(key, as_array(value, "variables", key))
        modules.setdefault(name, {})[leaf] = entry
    return modules


def _flat(tree, path) -> Iterator[tuple[tuple, Any]]:
    for key, value in tree.items():
        here = (*path, key if isinstance(key, tuple) else str(key))
        if hasattr(value, "items"):
            yield from _flat(value, here)
        else:
            yield here, value


def _of_wrapper(path):
    """Whether a value belongs to a wrapper, which names it by the way to a weight in its layer."""
    return isinstance(path[-1], tuple) or "/" in path[-1]


def _within(path, places):
    """The way to what a wrapper keeps, as if the layer in it kept it: (..., "kernel/u")."""
    *module, key = path
    if isinstance(key, tuple):  # NNX: ("norm", "scales", ("kernel",))
        parts = (*key, "scale") if module[-1:] == ["scales"] else key
        beside = (*module[:-1], "layer_instance")
    else:  # Linen: ("SpectralNorm_0", "Dense_0/kernel/u"), or without the first
        parts = tuple(key.split("/"))
        beside = tuple(module) if (*module, *parts[:-2]) in places else tuple(module[:-1])
    return (*beside, *parts[:-2], "/".join(parts[-2:]))


def _convert(slot, array, module):
    if slot.role not in ("g", "u", "v"):
        return _kernel(slot.layer, array) if slot.role.endswith("kernel") else array
    if "kernel" not in module or module["kernel"].array.shape[-1] != array.size:
        return array
    kernel = module["kernel"].array
    if slot.role == "v":
        spread = _left_vector(kernel, array).reshape(*kernel.shape[:-1], 1)
    else:
        spread = array.reshape(*(1,) * (kernel.ndim - 1), -1)
    return along(slot, _kernel(slot.layer, spread))


def _kernel(layer, array):
    """From [space, inputs, outputs] to Keras's kernel."""
    if isinstance(layer, TRANSPOSED) and array.ndim >= 3:
        # Flax correlates with the kernel, Keras takes the gradient of a correlation.
        return np.flip(array, tuple(range(array.ndim - 2))).swapaxes(-1, -2)
    if isinstance(layer, DEPTHWISE) and array.ndim >= 3 and array.shape[-2] == 1:
        # The filters of one channel stand together: [space, 1, C·M] is [space, C, M].
        channels, multiplier = layer.kernel.shape[-2:]
        ends = (1, 1) if array.shape[-1] == 1 else (channels, multiplier)
        if array.shape[-1] in (1, channels * multiplier):
            return array.reshape(*array.shape[:-2], *ends)
    return array


def _left_vector(kernel, u):
    """The v for which vᵀ W u is the σ that Flax divides by.

    Flax keeps u alone, and lets one step of the power method pass in inference, too. Ours passes
    none, and keeps v. So v has not norm 1 until training goes on, which begins by computing it.
    """
    matrix, u = kernel.reshape(-1, kernel.shape[-1]).astype("float64"), u.reshape(-1)
    moved = matrix @ u
    square = float(moved @ moved)
    if square == 0:
        return moved
    sigma = np.linalg.norm(matrix.T @ moved) / np.sqrt(square)
    return moved * (sigma / square)


def _match(targets, modules):
    names = by_name(targets, modules)
    if names is not None:
        return names
    if len(targets) == len(modules) == 1:
        return list(modules)
    numbers: collections.Counter[str] = collections.Counter()
    names = []
    for target in targets:
        kind = _LINEN.get(type(target.layer).__name__, "")
        names.append(f"{kind}_{numbers[kind]}")
        numbers[kind] += 1
    return names if all(name in modules for name in names) else None


FLAX = Format(
    argument="variables",
    read=_read,
    leaves=_LEAVES,
    convert=_convert,
    match=_match,
    ignored=frozenset({"kernel/sigma"}),
    advice="modules with the layers' names, or with the names that Linen gives",
)
