"""Cosines between weights and vectors, or windows."""

import itertools

import numpy as np


def cosines(values, present, filters, bias, arguments):
    """Cosines of the numbers `values`, of which some are `present`, with the columns `filters`."""
    epsilon = arguments.get("epsilon", 1e-7)
    if arguments.get("centered"):
        mean = values[present].mean() if present.any() else 0.0
        values = np.where(present, values - mean, 0.0)
        filters = filters - filters.mean(axis=0)
    else:
        values = np.where(present, values, 0.0)
    if bias is not None:
        values = np.append(values, 1.0)
        filters = np.concatenate([filters, bias[None]])
    norms = np.sqrt((filters**2).sum(axis=0) + epsilon)
    return (values @ filters) / (np.sqrt((values**2).sum() + epsilon) * norms)


def finished(y, weights, arguments):
    y = y * float(weights.get("scale", 1.0))
    functions = {
        None: lambda t: t,
        "relu": lambda t: np.maximum(t, 0.0),
        "sigmoid": lambda t: 1.0 / (1.0 + np.exp(-t)),
    }
    return functions[arguments.get("activation")](y)


def parameters(weights):
    kernel, bias = np.asarray(weights["kernel"], "float64"), weights.get("bias")
    return kernel, None if bias is None else np.asarray(bias, "float64")


def dense(x, weights, arguments, training, mask=None, held=None):
    kernel, bias = parameters(weights)
    y = np.empty((*x.shape[:-1], kernel.shape[-1]))
    everything = np.ones(x.shape[-1], bool)
    for index in np.ndindex(x.shape[:-1]):
        y[index] = cosines(x[index], everything, kernel, bias, arguments)
    return finished(y, weights, arguments), {}, None


def positions(size, taps, stride, dilation, padding):
    """For each output along an axis, where its taps lie; outside of the input there is padding."""
    extent = (taps - 1) * dilation + 1
    if padding == "valid":
        count, before = (size - extent) // stride + 1, 0
    elif padding == "causal":
        count, before = -(-size // stride), extent - 1
    else:
        count = -(-size // stride)
        before = max((count - 1) * stride + extent - size, 0) // 2
    return [[o * stride - before + t * dilation for t in range(taps)] for o in range(count)]


def convolution(x, weights, arguments, training, mask=None, held=None):
    first = arguments.get("data_format") == "channels_first"
    x = np.moveaxis(x, 1, -1) if first else x
    (kernel, bias), space = parameters(weights), x.ndim - 2

    def per_axis(name):
        value = arguments.get(name, 1)
        return list(value) if isinstance(value, (list, tuple)) else [value] * space

    padding = arguments.get("padding", "valid")
    sizes, steps = x.shape[1:-1], zip(per_axis("strides"), per_axis("dilation_rate"), strict=True)
    lists = [
        positions(size, taps, stride, dilation, padding)
        for size, taps, (stride, dilation) in zip(sizes, kernel.shape, steps, strict=False)
    ]
    groups = arguments.get("groups", 1)
    channels, filters = x.shape[-1] // groups, kernel.shape[-1] // groups
    y = np.empty((x.shape[0], *map(len, lists), kernel.shape[-1]))
    for output in itertools.product(*(range(len(entries)) for entries in lists)):
        taps = list(itertools.product(*(lists[axis][o] for axis, o in enumerate(output))))
        inside = [all(0 <= i < n for i, n in zip(tap, sizes, strict=True)) for tap in taps]
        present = np.repeat(inside, channels)
        for sample, group in itertools.product(range(x.shape[0]), range(groups)):
            ours = slice(group * channels, (group + 1) * channels)
            values = np.zeros((len(taps), channels))
            for row, (tap, is_inside) in enumerate(zip(taps, inside, strict=True)):
                if is_inside:
                    values[row] = x[(sample, *tap, ours)]
            theirs = slice(group * filters, (group + 1) * filters)
            y[(sample, *output, theirs)] = cosines(
                values.ravel(),
                present,
                kernel[..., theirs].reshape(-1, filters),
                None if bias is None else bias[theirs],
                arguments,
            )
    y = finished(y, weights, arguments)
    return (np.moveaxis(y, -1, 1) if first else y), {}, None


ORACLES = {
    "CosineDense": dense,
    "CosineConv1D": convolution,
    "CosineConv2D": convolution,
    "CosineConv3D": convolution,
}
