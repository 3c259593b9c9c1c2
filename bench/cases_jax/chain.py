"""The chain of small operations of cases/chain.py, written for JAX."""

import jax
import jax.numpy as jnp
import numpy as np

OPERATIONS, SHAPE = 200, (16, 16)


def setup(variant, compile):
    """The step of one variant; its time is given per operation."""
    random = np.random.default_rng(0)
    start, shift, scale = (
        jnp.asarray(random.uniform(0.5, 1, SHAPE).astype(np.float32)) for _ in range(3)
    )

    def chain(x):
        for _ in range(OPERATIONS // 4):
            x = x + shift
            x = x * scale
            x = jnp.tanh(x)
            x = x - shift
        return x

    if variant == "forward":
        function = compile(chain)
    else:
        function = compile(jax.grad(lambda x: chain(x).sum()))
    return {"step": lambda: np.asarray(function(start)).sum(), "count": OPERATIONS}
