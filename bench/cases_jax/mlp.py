"""The multilayer perceptron of cases/mlp.py, written for JAX: the same parameters and data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

INPUTS, WIDTH, CLASSES, BATCH = 32, 64, 10, 32
SHAPES = ((WIDTH, INPUTS), (WIDTH,), (WIDTH, WIDTH), (WIDTH,), (CLASSES, WIDTH), (CLASSES,))


def scores_of(parameters, x):
    """Two hidden layers with rectifiers."""
    w1, b1, w2, b2, w3, b3 = parameters
    x = jax.nn.relu(x @ w1.T + b1)
    x = jax.nn.relu(x @ w2.T + b2)
    return x @ w3.T + b3


def loss_of(parameters, x, y):
    """Mean cross-entropy."""
    scores = jax.nn.log_softmax(scores_of(parameters, x))
    return -jnp.take_along_axis(scores, y[:, None], axis=1).mean()


@functools.partial(jax.jit, donate_argnums=0)
def sgd(held, x, y):
    """One step of gradient descent."""
    (parameters,) = held
    loss, gradient = jax.value_and_grad(loss_of)(parameters, x, y)
    return ([p - 1e-2 * g for p, g in zip(parameters, gradient)],), loss


@functools.partial(jax.jit, donate_argnums=0)
def adam(held, x, y):
    """One step of Adam."""
    parameters, first, second, count = held
    loss, gradient = jax.value_and_grad(loss_of)(parameters, x, y)
    count = count + 1
    first = [0.9 * m + 0.1 * g for m, g in zip(first, gradient)]
    second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradient)]
    parameters = [
        p - 1e-3 * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)
        for p, m, v in zip(parameters, first, second)
    ]
    return (parameters, first, second, count), loss


def setup(variant, compile):
    """The step of one variant."""
    random = np.random.default_rng(0)
    parameters = [
        jnp.asarray(0.1 * random.standard_normal(shape, dtype=np.float32)) for shape in SHAPES
    ]
    x = jnp.asarray(random.standard_normal((BATCH, INPUTS), dtype=np.float32))
    y = jnp.asarray(random.integers(0, CLASSES, BATCH))
    one = x[:1]

    if variant == "infer_item":
        best = compile(lambda parameters, x: scores_of(parameters, x).argmax())
        return {"step": lambda: best(parameters, one).item()}

    if variant == "train_sgd":
        update, held = sgd, (parameters,)
    else:
        update = adam
        held = (parameters, *([jnp.zeros_like(p) for p in parameters] for _ in range(2)), 0.0)
    state = [held]

    def step():
        state[0], loss = update(state[0], x, y)
        return loss.item() if variant.endswith("item") else jax.block_until_ready(loss)

    return {"step": step}
