"""Parts of realised memory are inputs of their own: loops over an index compile one program."""

import numpy as np

import flambeau as fl
from flambeau import record


def compiled_by(work):
    """Programs compiled by a call."""
    before = record.counters.compiled
    work()
    return record.counters.compiled - before


def test_a_loop_over_an_index_compiles_once(rng):
    x = rng.normal(size=(20, 6, 5)).astype(np.float32)
    t = fl.tensor(x)
    cases = [
        (lambda i: (t[i] * 2).sum().item(), lambda i: x[i].sum() * 2),
        (lambda i: t[:, i % 5 + 1].exp().tolist(), lambda i: np.exp(x[:, i % 5 + 1])),
        (lambda i: t[i : i + 3, :, 1:3].sum(0).tolist(), lambda i: x[i : i + 3, :, 1:3].sum(0)),
        (
            lambda i: fl.stack([t[i], t[i + 3]]).tolist(),
            lambda i: np.stack([x[i], x[i + 3]]),
        ),
        (lambda i: (t[i].t() @ t[i + 1]).tolist(), lambda i: x[i].T @ x[i + 1]),
        (lambda i: t[i][fl.tensor([1, 0])].tolist(), lambda i: x[i][[1, 0]]),
    ]
    for found, wanted in cases:
        found(0)
        for i in range(1, 8):
            result = []
            assert compiled_by(lambda i=i, out=result, f=found: out.append(f(i))) == 0
            np.testing.assert_allclose(result[0], wanted(i), rtol=1e-5, atol=1e-5)


def test_what_is_written_is_read_in_order():
    t = fl.arange(12.0).reshape(4, 3).clone()
    t.tolist()
    first = t[0] + 1
    t[1].mul_(10)
    later = t[1] + t[0]
    t[0] = t[1]
    assert first.tolist() == [1, 2, 3]
    assert later.tolist() == [30, 41, 52]
    assert t.tolist() == [[30, 40, 50], [30, 40, 50], [6, 7, 8], [9, 10, 11]]


def test_memory_that_others_see_is_read_where_it_is():
    n = np.arange(10.0)
    t = fl.from_numpy(n)
    assert (t[3] * 2).item() == 6
    n[3] = 9
    assert (t[3] * 2).item() == 18
    del n
    part = t[2:4] + 1
    del t
    assert part.tolist() == [3, 10]


def test_gradients_go_to_the_whole(rng):
    x = fl.tensor(rng.normal(size=(5, 4)), requires_grad=True)
    for i in range(5):
        (x[i] ** 2).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy())
