"""JAX's versions of ops."""

import jax.numpy as jnp


def rounded(x):
    """x as its dtype rounds it, also where XLA joins its last product with a difference."""
    return jnp.maximum(x, jnp.finfo(x.dtype).min)
