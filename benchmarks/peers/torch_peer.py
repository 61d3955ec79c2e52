"""Times PyTorch's own kernels, images in channels-last memory."""

import torch
from torch import nn

from benchmarks.peers.method import alternate, cores, limits, serve

torch.set_num_threads(cores())


def module(layer, channels, groups):
    """PyTorch's layer of that name, with gamma and beta."""
    return {
        "BatchNormalization": lambda: nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01),
        "GroupNormalization": lambda: nn.GroupNorm(groups, channels, eps=1e-3),
        "InstanceNormalization": lambda: nn.InstanceNorm2d(channels, eps=1e-3, affine=True),
        "LayerNormalization": lambda: nn.LayerNorm(channels, eps=1e-3),
        "RMSNormalization": lambda: nn.RMSNorm(channels, eps=1e-6),
    }[layer]()


def data(shape):
    torch.manual_seed(0)
    if len(shape) == 4:
        batch, height, width, channels = shape
        shape = (batch, channels, height, width)
    tensors = [torch.randn(shape) + 0.5, torch.randn(shape)]
    if len(shape) == 4:
        tensors = [t.contiguous(memory_format=torch.channels_last) for t in tensors]
    return tensors


def measure(case):
    x, dy = data(case["shape"])
    layer = module(case["layer"], case["shape"][-1], case["groups"])
    watched = [x.clone().requires_grad_(), *layer.parameters()]

    def forward():
        with torch.no_grad():
            return layer(x)

    def step():
        y = layer(watched[0])
        return y.detach(), torch.autograd.grad(y, watched, dy)

    call = {"forward": forward, "step": step}[case["pass"]]
    calls = {case["layer"]: call, "copy": lambda: x + 1, "read": lambda: x.sum()}
    return alternate(calls, **limits(case))


if __name__ == "__main__":
    serve(measure, versions={"torch": torch.__version__})
