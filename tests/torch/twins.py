"""Our twins of the modules that the programs beside this file run, and what must hold of them."""

import json
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

import keras_norm

WN, SN = keras_norm.WeightNormalization, keras_norm.SpectralNormalization
SIZE = 2e-6


def closely(actual, expected, size=SIZE):
    """Compares with the error that is allowed, over the largest number."""
    atol = size * np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=atol)


class Case(NamedTuple):
    """What a program wrote of a module.

    Attributes:
        state: What the module held, as its library gives it.
        after: What of it one step of training changed.
        arrays: The input "x", the outputs "eval" and "train", and "later": "eval" after the step.
    """

    state: dict
    after: dict
    arrays: dict


def read(path, nested):
    """Cases by name; `nested` tells dictionaries in dictionaries from names with dots."""
    found = {}
    with np.load(path, allow_pickle=False) as file:
        for full, value in file.items():
            name, _, key = full.partition("|")
            case = found.setdefault(name, Case({}, {}, {}))
            if not key.startswith("["):
                case.arrays[key] = value
                continue
            moment, *way = json.loads(key)
            place = getattr(case, moment)
            way = [tuple(part) if isinstance(part, list) else part for part in way]
            for part in way[:-1] if nested else ():
                place = place.setdefault(part, {})
            place[way[-1]] = value
    return found


def torch_norms():
    """Our twin of each module of PyTorch, by name, and whether its channels come first."""
    batch = {"epsilon": 1e-5, "momentum": 0.7}
    groups = {"epsilon": 1e-5}
    yield "BatchNorm1d", lambda: keras_norm.BatchNormalization(**batch)
    for name in ("BatchNorm1d of sequences", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"):
        yield name, lambda: keras_norm.BatchNormalization(**batch)
    without = {"center": False, "scale": False}
    yield "BatchNorm2d without affine", lambda: keras_norm.BatchNormalization(**batch, **without)
    yield "GroupNorm", lambda: keras_norm.GroupNormalization(2, **groups)
    for rank in (1, 2, 3):
        yield f"InstanceNorm{rank}d", lambda: keras_norm.InstanceNormalization(**groups)
    yield "LayerNorm", lambda: keras_norm.LayerNormalization(epsilon=1e-5)
    yield (
        "LayerNorm of two axes",
        lambda: keras_norm.LayerNormalization(axis=[1, 2], epsilon=1e-5),
    )
    yield (
        "LayerNorm without bias",
        lambda: keras_norm.LayerNormalization(epsilon=1e-5, center=False),
    )
    yield "RMSNorm", lambda: keras_norm.RMSNormalization(epsilon=1e-6)


def torch_plain():
    """Likewise, the layers that a norm of weights may stand around."""
    yield "Linear", lambda: layers.Dense(3)
    yield "Conv1d", lambda: layers.Conv1D(3, 2)
    yield "Conv2d", lambda: layers.Conv2D(3, (2, 3))
    yield "Conv3d", lambda: layers.Conv3D(3, (2, 1, 2))
    yield "ConvTranspose1d", lambda: layers.Conv1DTranspose(3, 2)
    yield "ConvTranspose2d", lambda: layers.Conv2DTranspose(3, (2, 3))
    yield "ConvTranspose3d", lambda: layers.Conv3DTranspose(3, (2, 1, 2))
    yield "depthwise Conv1d", lambda: layers.DepthwiseConv1D(2, depth_multiplier=2)
    yield "depthwise Conv2d", lambda: layers.DepthwiseConv2D((2, 3), depth_multiplier=2)
    yield "Embedding", lambda: layers.Embedding(5, 3)


def torch_twins():
    """Our twin of each of PyTorch's modules, by name."""
    twins = dict([*torch_norms(), *torch_plain()])
    for name, make in torch_plain():
        for age in ("", "old "):
            twins[f"{age}weight_norm of {name}"] = lambda make=make: WN(make())
            twins[f"{age}spectral_norm of {name}"] = lambda make=make: SN(make())
    twins["weight_norm of inputs"] = lambda: WN(layers.Conv1DTranspose(3, 2), axis=-1)
    twins["network"] = network
    return twins


def network():
    """A whole network, with the names that it has in PyTorch."""
    return keras.Sequential(
        [
            layers.Conv2D(4, 3, name="conv1"),
            keras_norm.BatchNormalization(momentum=0.7, epsilon=1e-5, name="norm1"),
            layers.ReLU(),
            WN(layers.Conv2D(4, 2), name="conv2"),
            keras_norm.GroupNormalization(2, epsilon=1e-5, name="norm2"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="fc"),
        ]
    )


def flax_twins():
    """Our twin of each of Flax's modules, by name."""
    twins = {
        "BatchNorm of features": lambda: keras_norm.BatchNormalization(momentum=0.7, epsilon=1e-5),
        "BatchNorm": lambda: keras_norm.BatchNormalization(momentum=0.7, epsilon=1e-5),
        "GroupNorm": lambda: keras_norm.GroupNormalization(2, epsilon=1e-6),
        "InstanceNorm": lambda: keras_norm.InstanceNormalization(epsilon=1e-6),
        "LayerNorm": lambda: keras_norm.LayerNormalization(epsilon=1e-6),
        "RMSNorm": lambda: keras_norm.RMSNormalization(epsilon=1e-6),
        "network": flax_network,
    }
    plain = {
        "Dense": lambda: layers.Dense(3),
        "Linear": lambda: layers.Dense(3),
        "Conv": lambda: layers.Conv2D(3, (2, 3)),
        "ConvTranspose": lambda: layers.Conv2DTranspose(3, (2, 3)),
        "depthwise Conv": lambda: layers.DepthwiseConv2D((2, 3), depth_multiplier=2),
    }
    for name, make in plain.items():
        twins[name] = make
        twins[f"WeightNorm of {name}"] = lambda make=make: WN(make())
        twins[f"SpectralNorm of {name}"] = lambda make=make: SN(make())
    twins["SpectralNorm within"] = twins["SpectralNorm of Dense"]
    twins["WeightNorm within"] = twins["WeightNorm of Dense"]
    return twins


def flax_network():
    """A whole network, with names of its own."""
    return keras.Sequential(
        [
            layers.Conv2D(4, 3),
            keras_norm.BatchNormalization(momentum=0.7, epsilon=1e-5),
            layers.ReLU(),
            WN(layers.Conv2D(4, 2)),
            keras_norm.GroupNormalization(2, epsilon=1e-6),
            layers.GlobalAveragePooling2D(),
            SN(layers.Dense(5)),
            layers.Dense(2),
        ]
    )


def last(x):
    """PyTorch's [B, C, ...] as [B, ..., C]."""
    return np.moveaxis(x, 1, -1)


def check_torch(name, case):
    """Loads a PyTorch module's state into our twin and compares what the two compute."""
    first = not name.endswith(("LayerNorm", "axes", "without bias", "RMSNorm", "Embedding"))
    arrays = {key: last(v) if first and v.ndim > 2 else v for key, v in case.arrays.items()}
    twin = torch_twins()[name]()
    twin(arrays["x"])
    report = keras_norm.load_torch_weights(twin, case.state)
    assert not report.left and not report.unused
    assert set(report.loaded.values()) | set(report.ignored) == set(case.state)
    check_outputs(twin, arrays)
    if any(key.endswith("running_var") for key in case.after):
        check_moving_moments(twin, case, arrays["x"] if name != "network" else None)
    elif case.after:
        closely(twin(arrays["x"], training=False), arrays["later"])


def check_outputs(twin, arrays):
    closely(twin(arrays["x"], training=False), arrays["eval"])
    closely(twin(arrays["x"], training=True), arrays["train"])


def check_moving_moments(twin, case, x):
    """The moving variance is PyTorch's, but for the biased variance that we let in."""
    norm = twin if x is not None else twin.get_layer("norm1")
    (mean,) = (value for key, value in case.after.items() if key.endswith("running_mean"))
    (variance,) = (value for key, value in case.after.items() if key.endswith("running_var"))
    (before,) = (value for key, value in case.state.items() if key.endswith("running_var"))
    number = 2 * 4 * 4 if x is None else x.size // x.shape[-1]
    unbiased = (variance - 0.7 * before) / 0.3
    closely(norm.moving_mean, mean)
    closely(norm.moving_variance, 0.7 * before + 0.3 * unbiased * (number - 1) / number)


def check_flax(name, case):
    """Loads a Flax module's variables into our twin and compares what the two compute."""
    kind = name.partition(" ")[2]
    twin = loaded_from_flax(kind, case, case.state)
    check_outputs(twin, case.arrays)
    if not case.after:
        return
    # What our step made of the state is what Flax's step made of it.
    later = loaded_from_flax(kind, case, {**case.state, **case.after})
    for mine, its in zip(twin.weights, later.weights, strict=True):
        if mine.name == "u":  # ours has a thousandth of a fixed vector in it
            closely(mine, np.asarray(its), 2e-3)
        elif mine.name != "v":  # ours is the step's, Flax's one for inference
            closely(mine, np.asarray(its))
    closely(later(case.arrays["x"], training=False), case.arrays["later"])


def loaded_from_flax(kind, case, state):
    twin = flax_twins()[kind]()
    twin(case.arrays["x"])
    report = keras_norm.load_flax_weights(twin, state)
    assert not report.left and not report.unused
    return twin
