"""Runs PyTorch's own modules and writes what they hold and compute.

`.venv-torch/bin/python tests/torch/torch_modules.py saved_models/golden/torch/modules.npz --kept`
makes the kept file again. It needs PyTorch and NumPy, nothing of ours.
"""

import collections
import json
import sys
import warnings

import numpy as np
import torch
from torch import nn
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

RANDOM = np.random.default_rng(0)
KEPT = [
    "BatchNorm1d",
    "BatchNorm2d",
    "GroupNorm",
    "InstanceNorm2d",
    "LayerNorm",
    "RMSNorm",
    "Linear",
    "ConvTranspose2d",
    "depthwise Conv2d",
    "Embedding",
    "weight_norm of Conv2d",
    "weight_norm of ConvTranspose2d",
    "weight_norm of inputs",
    "old weight_norm of Linear",
    "spectral_norm of ConvTranspose2d",
    "spectral_norm of depthwise Conv2d",
    "old spectral_norm of Conv2d",
    "network",
]
"""What the kept file has."""


def norms():
    """Name, module and shape of the input."""
    yield "BatchNorm1d", nn.BatchNorm1d(4, momentum=0.3), (6, 4)
    yield "BatchNorm1d of sequences", nn.BatchNorm1d(4, momentum=0.3), (3, 4, 5)
    yield "BatchNorm2d", nn.BatchNorm2d(4, momentum=0.3), (3, 4, 2, 3)
    yield "BatchNorm3d", nn.BatchNorm3d(4, momentum=0.3), (2, 4, 2, 1, 3)
    yield "BatchNorm2d without affine", nn.BatchNorm2d(4, affine=False, momentum=0.3), (3, 4, 2, 3)
    yield "SyncBatchNorm", nn.SyncBatchNorm(4, momentum=0.3), (3, 4, 2, 3)
    yield "GroupNorm", nn.GroupNorm(2, 4), (3, 4, 2, 3)
    yield "InstanceNorm1d", nn.InstanceNorm1d(4, affine=True), (3, 4, 5)
    yield "InstanceNorm2d", nn.InstanceNorm2d(4, affine=True), (3, 4, 2, 3)
    yield "InstanceNorm3d", nn.InstanceNorm3d(4, affine=True), (2, 4, 2, 2, 3)
    yield "LayerNorm", nn.LayerNorm(4), (3, 5, 4)
    yield "LayerNorm of two axes", nn.LayerNorm((5, 4)), (3, 5, 4)
    yield "LayerNorm without bias", nn.LayerNorm(4, bias=False), (3, 5, 4)
    yield "RMSNorm", nn.RMSNorm(4, eps=1e-6), (3, 5, 4)


def plain():
    """Likewise, modules that a norm of weights may stand around."""
    yield "Linear", nn.Linear(4, 3), (3, 4)
    yield "Conv1d", nn.Conv1d(2, 3, 2), (2, 2, 4)
    yield "Conv2d", nn.Conv2d(2, 3, (2, 3)), (2, 2, 3, 4)
    yield "Conv3d", nn.Conv3d(2, 3, (2, 1, 2)), (1, 2, 2, 2, 3)
    yield "ConvTranspose1d", nn.ConvTranspose1d(2, 3, 2), (2, 2, 3)
    yield "ConvTranspose2d", nn.ConvTranspose2d(2, 3, (2, 3)), (2, 2, 2, 3)
    yield "ConvTranspose3d", nn.ConvTranspose3d(2, 3, (2, 1, 2)), (1, 2, 2, 2, 2)
    yield "depthwise Conv1d", nn.Conv1d(2, 4, 2, groups=2), (2, 2, 4)
    yield "depthwise Conv2d", nn.Conv2d(3, 6, (2, 3), groups=3), (2, 3, 3, 4)
    yield "Embedding", nn.Embedding(5, 3), (2, 4)


def wrapped():
    """Likewise, norms of weights around some of them."""
    around = ["Linear", "Conv2d", "ConvTranspose2d", "depthwise Conv2d", "Embedding"]
    for how in (weight_norm, old_weight_norm, spectral_norm, old_spectral_norm):
        for name, module, shape in plain():
            if name in around:
                # PyTorch's weight norm of a transposed convolution spans inputs, unless told so.
                is_transposed = name.startswith("ConvTranspose")
                dim = {"dim": 1} if "weight" in how.__name__ and is_transposed else {}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # PyTorch advises against the old ones
                    age = "old " if how in (old_weight_norm, old_spectral_norm) else ""
                    yield f"{age}{how.__name__} of {name}", how(module, **dim), shape
    yield "weight_norm of inputs", weight_norm(nn.ConvTranspose1d(2, 3, 2)), (2, 2, 3)


def network():
    """A whole network, with names."""
    layers = {
        "conv1": nn.Conv2d(3, 4, 3),
        "norm1": nn.BatchNorm2d(4, momentum=0.3),
        "relu": nn.ReLU(),
        "conv2": weight_norm(nn.Conv2d(4, 4, 2)),
        "norm2": nn.GroupNorm(2, 4),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "fc": nn.Linear(4, 2),
    }
    return nn.Sequential(collections.OrderedDict(layers))


def stir(module):
    """Gives every number of a module a value of its own."""
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point() or name.endswith(("_u", "0._v")):
            continue
        positive = name.endswith(("running_var", "weight_g", "original0"))
        positive |= name.endswith("weight") and tensor.ndim == 1
        shape = tuple(tensor.shape)
        drawn = RANDOM.uniform(0.5, 2.0, shape) if positive else RANDOM.normal(size=shape)
        if not name.endswith("weight_v") or tensor.ndim > 1:  # old spectral norm's v stays
            tensor.copy_(torch.tensor(drawn))


def arrays_of(module):
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def record(name, module, shape):
    """What a module holds and computes, before and after one step of training."""
    stir(module)
    if name == "Embedding" or name.endswith("of Embedding"):
        x = torch.tensor(RANDOM.integers(0, 5, shape))
    else:
        x = torch.tensor(RANDOM.normal(0.5, 1.5, shape), dtype=torch.float32)
    if "spectral" in name:
        for _ in range(3 if name.startswith("old") else 400):
            module.train()(x)
    before = arrays_of(module)
    found = {"x": x.numpy(), "eval": module.eval()(x).numpy(), "train": module.train()(x).numpy()}
    after = arrays_of(module)
    changed = {key: value for key, value in after.items() if not np.array_equal(value, before[key])}
    if changed:
        found["later"] = module.eval()(x).numpy()
    for moment, state in (("state", before), ("after", changed)):
        found.update({json.dumps([moment, key]): value for key, value in state.items()})
    return {f"{name}|{key}": value for key, value in found.items()}


def main(path, *options):
    torch.manual_seed(0)
    found = {}
    with torch.no_grad():
        for name, module, shape in [*norms(), *plain(), *wrapped()]:
            found.update(record(name, module, shape))
        found.update(record("network", network(), (2, 3, 6, 6)))
    if "--kept" in options:
        found = {key: value for key, value in found.items() if key.partition("|")[0] in KEPT}
    np.savez_compressed(path, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
