"""Runs Flax's own modules and writes what they hold and compute.

`.venv-flax/bin/python tests/torch/flax_modules.py saved_models/golden/flax/modules.npz --kept`
makes the kept file again. It needs Flax and NumPy, nothing of ours.
"""

import json
import sys

import jax
import numpy as np
from flax import linen, nnx

RANDOM = np.random.default_rng(0)
KEPT = [
    "linen BatchNorm",
    "linen GroupNorm",
    "linen InstanceNorm",
    "linen LayerNorm",
    "linen RMSNorm",
    "linen depthwise Conv",
    "linen WeightNorm of Conv",
    "linen WeightNorm within",
    "linen SpectralNorm of ConvTranspose",
    "linen SpectralNorm within",
    "linen network",
    "nnx BatchNorm",
    "nnx WeightNorm of Linear",
    "nnx SpectralNorm of Conv",
]
"""What the kept file has."""


def linen_norms():
    """Name, module, shape of the input, and what tells it that it trains."""
    batch = linen.BatchNorm(momentum=0.7)
    yield "linen BatchNorm of features", batch, (6, 4), "use_running_average"
    yield "linen BatchNorm", batch, (3, 2, 3, 4), "use_running_average"
    yield "linen GroupNorm", linen.GroupNorm(2), (3, 2, 3, 4), None
    yield "linen InstanceNorm", linen.InstanceNorm(), (3, 2, 3, 4), None
    yield "linen LayerNorm", linen.LayerNorm(), (3, 5, 4), None
    yield "linen RMSNorm", linen.RMSNorm(), (3, 5, 4), None


def linen_plain():
    yield "Dense", linen.Dense(3), (3, 4)
    yield "Conv", linen.Conv(3, (2, 3), padding="VALID"), (2, 3, 4, 2)
    yield "ConvTranspose", linen.ConvTranspose(3, (2, 3), padding="VALID"), (2, 2, 3, 2)
    depthwise = linen.Conv(6, (2, 3), padding="VALID", feature_group_count=3)
    yield "depthwise Conv", depthwise, (2, 3, 4, 3)


class Around(linen.Module):
    """A norm of weights within a module, where Linen names what is wrapped."""

    wrapper: type

    @linen.compact
    def __call__(self, x, **training):
        return self.wrapper(linen.Dense(3))(x, **training)


class Network(linen.Module):
    """A whole network with the names that Linen gives."""

    @linen.compact
    def __call__(self, x, update_stats):
        x = linen.Conv(4, (3, 3), padding="VALID")(x)
        x = linen.relu(linen.BatchNorm(not update_stats, momentum=0.7)(x))
        x = linen.WeightNorm(linen.Conv(4, (2, 2), padding="VALID"))(x)
        x = linen.GroupNorm(2)(x).mean((1, 2))
        x = linen.SpectralNorm(linen.Dense(5))(x, update_stats=update_stats)
        return linen.Dense(2)(x)


def linen_cases():
    yield from linen_norms()
    for name, module, shape in linen_plain():
        yield f"linen {name}", module, shape, None
        yield f"linen WeightNorm of {name}", linen.WeightNorm(module), shape, None
        spectral = linen.SpectralNorm(module)
        yield f"linen SpectralNorm of {name}", spectral, shape, "update_stats"
    yield "linen SpectralNorm within", Around(linen.SpectralNorm), (3, 4), "update_stats"
    yield "linen WeightNorm within", Around(linen.WeightNorm), (3, 4), None
    yield "linen network", Network(), (2, 6, 6, 3), "update_stats"


def nnx_cases():
    """Name, function that makes the module, shape of the input."""
    keys = nnx.Rngs(0)
    conv = {"padding": "VALID", "rngs": keys}
    yield "nnx BatchNorm", nnx.BatchNorm(4, momentum=0.7, rngs=keys), (3, 2, 3, 4)
    yield "nnx GroupNorm", nnx.GroupNorm(4, 2, rngs=keys), (3, 2, 3, 4)
    yield "nnx InstanceNorm", nnx.InstanceNorm(4, rngs=keys), (3, 2, 3, 4)
    yield "nnx LayerNorm", nnx.LayerNorm(4, rngs=keys), (3, 5, 4)
    yield "nnx RMSNorm", nnx.RMSNorm(4, rngs=keys), (3, 5, 4)
    yield "nnx Linear", nnx.Linear(4, 3, rngs=keys), (3, 4)
    yield "nnx Conv", nnx.Conv(2, 3, (2, 3), **conv), (2, 3, 4, 2)
    yield "nnx ConvTranspose", nnx.ConvTranspose(2, 3, (2, 3), **conv), (2, 2, 3, 2)
    for wrapper in (nnx.WeightNorm, nnx.SpectralNorm):
        name = f"nnx {wrapper.__name__} of"
        yield f"{name} Linear", wrapper(nnx.Linear(4, 3, rngs=keys), rngs=keys), (3, 4)
        yield f"{name} Conv", wrapper(nnx.Conv(2, 3, (2, 3), **conv), rngs=keys), (2, 3, 4, 2)


def stirred(path, value):
    """A value of its own for each number; u and σ stay Flax's."""
    names = path[-1] if isinstance(path[-1], tuple) else path[-1].split("/")
    if value.dtype.kind != "f" or {"u", "sigma"} & set(names):
        return np.array(value)
    positive = {"scale", "var"} & set(names) or "scales" in path
    shape = value.shape
    return (RANDOM.uniform(0.5, 2.0, shape) if positive else RANDOM.normal(size=shape)).astype("f")


def flat(tree, path=()):
    for key, value in tree.items():
        if hasattr(value, "items"):
            yield from flat(value, (*path, key))
        else:
            yield (*path, key), np.asarray(value)


def nested(pairs):
    tree = {}
    for path, value in pairs:
        place = tree
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
    return tree


def named(moment, pairs):
    return {json.dumps([moment, *path]): value for path, value in pairs}


def record_linen(name, module, shape, switch):
    """What a module holds and computes, before and after one step of training."""
    x = RANDOM.normal(0.5, 1.5, shape).astype("float32")
    training, inference = {}, {}
    if switch:
        training = {switch: switch == "update_stats"}
        inference = {switch: switch != "update_stats"}
    state = module.init(jax.random.key(0), x, **inference)
    state = nested([(path, stirred(path, value)) for path, value in flat(state)])
    found = {"x": x, "eval": module.apply(state, x, **inference), **named("state", flat(state))}
    found["train"], moved = module.apply(state, x, **training, mutable=["batch_stats"])
    if moved:
        found["later"] = module.apply({**state, **moved}, x, **inference)
        found.update(named("after", flat(moved)))
    return found


def record_nnx(name, module, shape):
    """Likewise. Wrappers overwrite kernels when they are called: each call starts from `state`."""
    x = RANDOM.normal(0.5, 1.5, shape).astype("float32")
    pairs = [
        (path, stirred(path, value)) for path, value in flat(nnx.to_pure_dict(nnx.state(module)))
    ]

    def output():
        # Copies: variables are changed in place, also in the arrays that they were given.
        nnx.update(module, nested([(path, jax.numpy.array(value)) for path, value in pairs]))
        return np.array(module(x))

    found = {"x": x, **named("state", pairs)}
    module.eval()
    found["eval"] = output()
    module.train()
    found["train"] = output()
    return found


def main(path, *options):
    found = {}
    for name, *case in linen_cases():
        found.update({f"{name}|{key}": value for key, value in record_linen(name, *case).items()})
    for name, *case in nnx_cases():
        found.update({f"{name}|{key}": value for key, value in record_nnx(name, *case).items()})
    if "--kept" in options:
        found = {key: value for key, value in found.items() if key.partition("|")[0] in KEPT}
    np.savez_compressed(path, **{key: np.asarray(value) for key, value in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
