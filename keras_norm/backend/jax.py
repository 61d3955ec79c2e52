"""JAX's versions of ops."""

import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state


def larger(first, second):
    """The larger of two, NaN included; JAX's own gives half the gradient of a tie to each."""
    return jnp.where((second > first) | jnp.isnan(second), second, first)


def rounded(x):
    """x as its dtype rounds it, also where XLA joins its last product with a difference."""
    return jnp.maximum(x, jnp.finfo(x.dtype).min)


def loop_of():
    """What JAX traces at present: a variable that is written in a scan is lost after it."""
    return get_opaque_trace_state()
