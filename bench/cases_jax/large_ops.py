"""The operations of cases/large_ops.py, written for JAX."""

import jax
import jax.numpy as jnp
import numpy as np

ROWS, COLUMNS = 4096, 1024


def layer_norm(x, y, w):
    """Zero mean and unit variance along the last dimension, then scale and shift."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w + w


FORWARD = {
    "add": lambda x, y, w: x + y,
    "exp": lambda x, y, w: jnp.exp(x),
    "gelu": lambda x, y, w: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x, y, w: jax.nn.gelu(x, approximate=True),
    "five_ops": lambda x, y, w: jnp.clip(jax.nn.sigmoid(x * y + w) * x, -1, 1),
    "softmax": lambda x, y, w: jax.nn.softmax(x, axis=-1),
    "log_softmax": lambda x, y, w: jax.nn.log_softmax(x, axis=-1),
    "layer_norm": layer_norm,
    "sum": lambda x, y, w: x.sum(),
    "sum_rows": lambda x, y, w: x.sum(axis=-1),
    "sum_columns": lambda x, y, w: x.sum(axis=0),
    "max_rows": lambda x, y, w: x.max(axis=-1),
    "var_rows": lambda x, y, w: x.var(axis=-1, ddof=1),
    "transpose": lambda x, y, w: x.T + 0,
}


def setup(variant, compile):
    """The step of one variant."""
    random = np.random.default_rng(0)
    name, _, large = variant.partition(" ")
    shape = (ROWS * 4 if large else ROWS, COLUMNS)
    x = jnp.asarray(random.standard_normal(shape, dtype=np.float32))
    y = jnp.asarray(random.standard_normal(shape, dtype=np.float32))
    w = jnp.asarray(random.standard_normal(COLUMNS, dtype=np.float32))
    forward = FORWARD[name.removesuffix("_backward")]

    if name.endswith("_backward"):
        function = compile(lambda x, y, w: jax.vjp(lambda x: forward(x, y, w), x)[1](y)[0])
    else:
        function = compile(forward)
    return {"step": lambda: np.asarray(function(x, y, w)).flat[-1]}
