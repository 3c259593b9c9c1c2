"""Random programs of views, writes and flushes, beside NumPy, whose views alias as tensors' do."""

import random

import numpy as np
import pytest

import flambeau as fl
from flambeau import record

SHAPES = ((6, 4), (4,), (6, 1), (6, 4), (12,), (2, 3, 4))


def fits(shape, other, exactly=False):
    try:
        met = np.broadcast_shapes(shape, other)
    except ValueError:
        return False
    return met == shape or not exactly


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def step(rng, pool):
    """Do one random thing to tensors and to their arrays."""
    (t, a), (u, b) = rng.choice(pool), rng.choice(pool)
    kind = rng.randrange(16)
    if kind == 0 and fits(a.shape, b.shape):
        pool.append((t + u, np.array(a + b)))
    elif kind == 1 and fits(a.shape, b.shape, exactly=True):
        added = b.copy()
        t.add_(u.clone())
        a += added
    elif kind == 2:
        t.mul_(0.5)
        a *= 0.5
    elif kind == 3 and a.ndim:
        pool.append((t[0], a[0, ...]))
    elif kind == 4 and a.ndim > 1:
        pool.append((t.transpose(0, 1), a.swapaxes(0, 1)))
    elif kind == 5 and a.ndim and a.shape[0] > 1:
        pool.append((t[1:], a[1:]))
    elif kind == 6 and a.ndim:
        pool.append((t.sum(-1), np.array(a.sum(-1))))
    elif kind == 7:
        record.flush()
    elif kind == 8:
        pool.append((t.tanh(), np.array(np.tanh(a))))
    elif kind == 9 and a.ndim:
        t[0] = 1.5
        a[0] = 1.5
    elif kind == 10:
        t.zero_()
        a[...] = 0
    elif kind == 11:
        t.tolist()
    elif kind == 12 and a.ndim > 1 and a.shape[-1] == 4:
        pool.append((fl.softmax(t, -1), softmax(a)))
    elif kind == 13:
        pool.append((t.clone(), a.copy()))
    elif kind == 14 and a.ndim == b.ndim == 1:
        pool.append((fl.cat([t, u]), np.concatenate([a, b])))
    elif kind == 15 and a.ndim == 2:
        pool.append((t @ t.t(), a @ a.T))
    if len(pool) > 12:
        pool.pop(rng.randrange(len(pool)))


@pytest.mark.parametrize("seed", range(4))
def test_programs_that_write_agree_with_numpy(seed):
    rng = random.Random(seed)
    for _ in range(20):
        data = np.random.default_rng(rng.randrange(1 << 30))
        pool = []
        for shape in SHAPES:
            a = data.standard_normal(shape)
            pool.append((fl.tensor(a), a.copy()))
        for _ in range(rng.randint(5, 30)):
            step(rng, pool)
        for t, a in pool:
            np.testing.assert_allclose(np.array(t.tolist()), a, rtol=1e-9, atol=1e-9)
