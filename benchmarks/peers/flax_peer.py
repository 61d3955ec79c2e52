"""Times Flax's layers, compiled by `jax.jit`."""

import flax
import jax
import jax.numpy as jnp
from flax import linen

from benchmarks.peers.method import alternate, limits, serve


def module(layer, groups):
    """Flax's layer of that name; what is not named here stays as it comes."""
    return {
        "BatchNormalization": lambda: linen.BatchNorm(use_running_average=False, epsilon=1e-3),
        "GroupNormalization": lambda: linen.GroupNorm(groups, epsilon=1e-3),
        "InstanceNormalization": lambda: linen.InstanceNorm(epsilon=1e-3),
        "LayerNormalization": lambda: linen.LayerNorm(epsilon=1e-3),
        "RMSNormalization": lambda: linen.RMSNorm(epsilon=1e-6),
    }[layer]()


def measure(case):
    layer = module(case["layer"], case["groups"])
    keys = jax.random.split(jax.random.key(0))
    x, dy = (jax.random.normal(key, case["shape"]) for key in keys)
    state = layer.init(keys[0], x)
    weights = state.pop("params")

    def forward(x, weights, state, dy):
        return layer.apply({"params": weights, **state}, x, mutable=list(state))

    def step(x, weights, state, dy):
        (y, state), pull = jax.vjp(lambda *given: forward(*given, state, dy), x, weights)
        zeros = jax.tree.map(jnp.zeros_like, state)
        return y, state, pull((dy, zeros))

    functions = {
        case["layer"]: {"forward": forward, "step": step}[case["pass"]],
        "copy": lambda x, *rest: x + 1,
        "read": lambda x, *rest: x.sum(),
    }
    compiled = {name: jax.jit(function) for name, function in functions.items()}
    given = (x, weights, state, dy)
    calls = {n: lambda f=f: jax.block_until_ready(f(*given)) for n, f in compiled.items()}
    return alternate(calls, **limits(case))


if __name__ == "__main__":
    serve(measure, versions={"jax": jax.__version__, "flax": flax.__version__})
