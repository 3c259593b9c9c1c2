"""The GPT training step of cases/gpt_step.py, written for JAX: the same parameters and data."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

VOCABULARY, LAYERS, WIDTH, HEADS, BATCH, CONTEXT = 256, 6, 384, 6, 8, 256
RATE, BETA_1, BETA_2, EPSILON, DECAY = 1e-3, 0.9, 0.999, 1e-8, 0.01


def linear(random, inputs, outputs, scale=0.02, bias=True):
    """A linear layer's parameters, drawn in the order in which PyTorch's module holds them."""
    layer = {"w": scale * random.standard_normal((outputs, inputs), dtype=np.float32)}
    if bias:
        layer["b"] = np.zeros(outputs, np.float32)
    return layer


def norm():
    """A layer norm's parameters."""
    return {"w": np.ones(WIDTH, np.float32), "b": np.zeros(WIDTH, np.float32)}


def initialise(random):
    """All parameters."""
    parameters = {
        "tokens": 0.02 * random.standard_normal((VOCABULARY, WIDTH), dtype=np.float32),
        "positions": 0.02 * random.standard_normal((CONTEXT, WIDTH), dtype=np.float32),
        "blocks": [
            {
                "attention_norm": norm(),
                "qkv": linear(random, WIDTH, 3 * WIDTH),
                "project": linear(random, WIDTH, WIDTH),
                "mlp_norm": norm(),
                "expand": linear(random, WIDTH, 4 * WIDTH),
                "contract": linear(random, 4 * WIDTH, WIDTH, 0.02 / math.sqrt(2 * LAYERS)),
            }
            for _ in range(LAYERS)
        ],
        "norm": norm(),
    }
    parameters["head"] = linear(random, WIDTH, VOCABULARY, bias=False)
    return jax.tree.map(jnp.asarray, parameters)


def apply_linear(layer, x):
    """x W^T + b."""
    y = x @ layer["w"].T
    return y + layer["b"] if "b" in layer else y


def apply_norm(layer, x):
    """Zero mean and unit variance along the last dimension, then scale and shift."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * layer["w"] + layer["b"]


def loss_of(parameters, tokens, targets):
    """Mean cross-entropy of the next byte."""
    B, T = tokens.shape
    x = parameters["tokens"][tokens] + parameters["positions"][:T]
    for block in parameters["blocks"]:
        qkv = apply_linear(block["qkv"], apply_norm(block["attention_norm"], x))
        q, k, v = (t.reshape(B, T, HEADS, WIDTH // HEADS) for t in jnp.split(qkv, 3, axis=2))
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + apply_linear(block["project"], y.reshape(B, T, WIDTH))
        y = apply_linear(block["expand"], apply_norm(block["mlp_norm"], x))
        x = x + apply_linear(block["contract"], jax.nn.gelu(y, approximate=False))
    logits = apply_linear(parameters["head"], apply_norm(parameters["norm"], x))
    scores = jax.nn.log_softmax(logits.reshape(-1, VOCABULARY))
    return -jnp.take_along_axis(scores, targets.reshape(-1, 1), axis=1).mean()


@functools.partial(jax.jit, donate_argnums=(0, 1))
def update(parameters, state, tokens, targets):
    """One step of AdamW; parameters and state are written in place."""
    loss, gradient = jax.value_and_grad(loss_of)(parameters, tokens, targets)
    count = state["count"] + 1
    first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, state["first"], gradient)
    second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, state["second"], gradient)

    def moved(p, m, v):
        step = m / (1 - BETA_1**count) / (jnp.sqrt(v / (1 - BETA_2**count)) + EPSILON)
        return p * (1 - RATE * DECAY) - RATE * step

    parameters = jax.tree.map(moved, parameters, first, second)
    return parameters, {"count": count, "first": first, "second": second}, loss


def setup(variant, compile):
    """The step of one variant."""
    random = np.random.default_rng(0)
    parameters = initialise(random)
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    state = {"count": jnp.float32(0), "first": zeros(parameters), "second": zeros(parameters)}
    text = random.integers(0, VOCABULARY, (BATCH, CONTEXT + 1))
    tokens, targets = jnp.asarray(text[:, :-1]), jnp.asarray(text[:, 1:])
    held = [parameters, state]

    def step():
        held[0], held[1], loss = update(held[0], held[1], tokens, targets)
        return loss.item()

    return {"step": step}
