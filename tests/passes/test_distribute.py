"""Joined values: work on them is done on their parts, with the same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau as fl
from flambeau import explain
from flambeau.nn import functional as F


def halves(x: Any) -> Any:
    """(-second half, first half) of the last dimension, as rotary embeddings have it."""
    n = x.shape[-1] // 2
    return fl.cat((-x[..., n:], x[..., :n]), dim=-1)


def chunks(x: Any) -> Any:
    """The same of sections made at once, which have one derivative."""
    a, b = x.chunk(2, -1)
    return fl.cat((-b, a), -1)


@pytest.mark.parametrize("turned", [halves, chunks])
def test_rotary_embeddings_are_one_region(turned: Any, rng: np.random.Generator) -> None:
    """Queries and keys in one, and their gradients in one; as NumPy has them."""
    new = lambda *s: rng.standard_normal(s).astype(np.float32)
    arrays = q, k, c, s, g, h = [new(2, 3, 7, 34) for _ in range(2)] + [
        new(7, 34), new(7, 34), new(2, 3, 7, 34), new(2, 3, 7, 34),
    ]  # fmt: skip
    tensors = [fl.tensor(a) for a in arrays]

    def rotate(q: Any, k: Any, c: Any, s: Any) -> Any:
        return q * c + turned(q) * s, k * c + turned(k) * s

    def backward(q: Any, k: Any, c: Any, s: Any, g: Any, h: Any) -> Any:
        q, k = (t.detach().requires_grad_() for t in (q, k))
        return fl.autograd.grad(rotate(q, k, c, s), (q, k), (g, h))

    assert len(explain(rotate, *tensors[:4]).kernels) == 1
    assert len(explain(backward, *tensors).kernels) == 1
    turn = lambda x: np.concatenate((-x[..., 17:], x[..., :17]), -1)
    back = lambda x: np.concatenate((x[..., 17:], -x[..., :17]), -1)
    for found, x in zip(rotate(*tensors[:4]), (q, k), strict=True):
        np.testing.assert_allclose(found.numpy(), x * c + turn(x) * s, rtol=1e-5, atol=1e-6)
    for found, x in zip(backward(*tensors), (g, h), strict=True):
        np.testing.assert_allclose(found.numpy(), x * c + back(x * s), rtol=1e-5, atol=1e-6)


def test_parts_of_any_size_and_dimension(rng: np.random.Generator) -> None:
    """Uneven parts, a middle dimension, broadcast and joined partners, numbers."""
    new = lambda *s: rng.standard_normal(s).astype(np.float32)
    a, b, c, row, column, other = (
        new(2, 1, 5), new(2, 6, 5), new(2, 3, 5), new(5), new(10, 1), new(2, 10, 5),
    )  # fmt: skip
    t = [fl.tensor(x) for x in (a, b, c, row, column, other)]
    joined = fl.cat(t[:3], 1)
    y = F.relu(joined * t[3] + t[4]) - t[5].exp() * 3
    want = np.maximum(np.concatenate((a, b, c), 1) * row + column, 0) - np.exp(other) * 3
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-5, atol=1e-5)
    both = fl.cat((t[5], t[5] + 1), 0) * fl.cat((t[5][:1], t[5], t[5][:1]), 0)
    want = np.concatenate((other, other + 1)) * np.concatenate((other[:1], other, other[:1]))
    np.testing.assert_allclose(both.numpy(), want, rtol=1e-6)


def test_a_joined_value_that_others_read_too(rng: np.random.Generator) -> None:
    """It is kept, summed and multiplied besides; sections of the results are read again."""
    a, b = (rng.standard_normal((4, n)).astype(np.float32) for n in (3, 8))
    s, t = fl.tensor(a), fl.tensor(b)
    joined = fl.cat((s, t), 1)
    doubled, total, product = joined * 2, joined.sum(0), joined @ joined.t()
    part = (joined.exp() + 1)[:, 2:5]
    x = np.concatenate((a, b), 1)
    for found, want in (
        (joined, x), (doubled, x * 2), (total, x.sum(0)), (product, x @ x.T),
        (part, np.exp(x[:, 2:5]) + 1),
    ):  # fmt: skip
        np.testing.assert_allclose(found.numpy(), want, rtol=1e-5, atol=1e-5)


def test_sections_written_among_other_numbers(rng: np.random.Generator) -> None:
    """What is not written keeps its number; writes over each other keep their order."""
    a = rng.standard_normal((3, 4)).astype(np.float32)
    t = fl.tensor(a)
    x = fl.full((3, 9), 5.0)
    x[:, 2:6] = t
    y = x * 2 + 1
    want = np.full((3, 9), 5, np.float32)
    want[:, 2:6] = a
    np.testing.assert_allclose(y.numpy(), want * 2 + 1, rtol=1e-6)
    z = fl.empty(3, 8)
    z[:, :4], z[:, 4:], z[:, 2:6] = t, t, t * 10
    want = np.concatenate((a[:, :2], a * 10, a[:, 2:]), 1)
    np.testing.assert_allclose((z + 1).numpy(), want + 1, rtol=1e-6)


def test_random_bits_of_a_joined_value_are_those_of_the_whole() -> None:
    """Dropout of a joined value draws by places of the whole."""
    x = fl.ones(4, 6)
    fl.manual_seed(3)
    whole = F.dropout(fl.ones(4, 12), 0.5)
    whole.tolist()
    fl.manual_seed(3)
    parts = F.dropout(fl.cat((x, x), 1), 0.5)
    assert np.array_equal(parts.numpy(), whole.numpy())


def test_a_section_written_twice_is_what_was_written_last() -> None:
    """Also where the gradient of a write takes the section away again."""
    x = fl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = (x * 1).clone()[1:].mul_(x[:2])
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 4.0, 2.0]
    z = fl.zeros(3)
    z[1:] = 5.0
    z[1:] = x.detach()[:2]
    assert (z * 2 + 1).tolist() == [1.0, 3.0, 5.0]
