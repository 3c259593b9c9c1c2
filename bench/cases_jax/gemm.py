"""Products of square float32 matrices, in JAX."""

import jax.numpy as jnp
import numpy as np


def setup(variant, compile):
    """The step of one size."""
    size = int(variant)
    random = np.random.default_rng(0)
    a = jnp.asarray(random.standard_normal((size, size), dtype=np.float32))
    b = jnp.asarray(random.standard_normal((size, size), dtype=np.float32))
    product = compile(lambda a, b: a @ b)
    return {"step": lambda: np.asarray(product(a, b))[-1, -1]}
