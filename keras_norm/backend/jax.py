"""JAX's versions of ops."""

import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state


def rounded(x):
    """x as its dtype rounds it, also where XLA joins its last product with a difference."""
    return jnp.maximum(x, jnp.finfo(x.dtype).min)


def loop_of():
    """What JAX traces at present: a variable that is written in a scan is lost after it."""
    return get_opaque_trace_state()
