"""Views alias their base: each sees the other's writes, at any depth (rule 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau

VIEWS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "slice": (lambda x: x[1:3], lambda a: a[1:3]),
    "stepped slice": (lambda x: x[:, ::2], lambda a: a[:, ::2]),
    "select": (lambda x: x[2], lambda a: a[2]),
    "column": (lambda x: x[:, 1], lambda a: a[:, 1]),
    "transpose": (lambda x: x.t(), lambda a: a.T),
    "permute": (lambda x: x.permute(1, 0), lambda a: a.transpose(1, 0)),
    "reshape": (lambda x: x.view(2, 2, 6), lambda a: a.reshape(2, 2, 6)),
    "flat": (lambda x: x.view(-1), lambda a: a.reshape(-1)),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda a: a[:, None]),
    "narrow": (lambda x: x.narrow(1, 2, 3), lambda a: a[:, 2:5]),
    "diagonal": (lambda x: x.diagonal(), lambda a: np.lib.stride_tricks.as_strided(a, (4,), (56,))),
    "strided": (
        lambda x: x.as_strided((3, 2), (6, 2), 1),
        lambda a: np.lib.stride_tricks.as_strided(a.reshape(-1)[1:], (3, 2), (48, 16)),
    ),
    "windows": (
        lambda x: x.unfold(1, 2, 2),
        lambda a: np.lib.stride_tricks.as_strided(a, (4, 3, 2), (48, 16, 8)),
    ),
    "view of a view": (lambda x: x.t()[1:4][:, ::2], lambda a: a.T[1:4][:, ::2]),
    "row of a block": (lambda x: x.view(2, 2, 6)[1].t()[3], lambda a: a.reshape(2, 2, 6)[1].T[3]),
}


def pair() -> tuple[Any, np.ndarray[Any, Any]]:
    values = np.arange(24.0).reshape(4, 6)
    return flambeau.tensor(values), values.copy()


@pytest.mark.parametrize("pending", [False, True], ids=["realised", "pending"])
@pytest.mark.parametrize("name", VIEWS)
class TestAliasing:
    def base(self, pending: bool) -> tuple[Any, np.ndarray[Any, Any]]:
        t, a = pair()
        if pending:
            return t + 0.0, a
        t.numpy()
        return t, a

    def test_values(self, name: str, pending: bool) -> None:
        t, a = self.base(pending)
        of_tensor, of_array = VIEWS[name]
        np.testing.assert_array_equal(of_tensor(t).numpy(), of_array(a))

    def test_the_view_sees_writes_to_the_base(self, name: str, pending: bool) -> None:
        t, a = self.base(pending)
        of_tensor, of_array = VIEWS[name]
        view = of_tensor(t)
        t.mul_(2.0)
        t[0, 0] = -7.0
        a *= 2.0
        a[0, 0] = -7.0
        np.testing.assert_array_equal(view.numpy(), of_array(a))

    def test_the_base_sees_writes_to_the_view(self, name: str, pending: bool) -> None:
        t, a = self.base(pending)
        of_tensor, of_array = VIEWS[name]
        sibling = t[:, 1:]
        of_tensor(t).mul_(3.0).add_(1.0)
        found = of_array(a)
        found *= 3.0
        found += 1.0
        np.testing.assert_array_equal(t.numpy(), a)
        np.testing.assert_array_equal(sibling.numpy(), a[:, 1:])

    def test_a_write_through_the_view_keeps_what_was_read_before(
        self, name: str, pending: bool
    ) -> None:
        t, a = self.base(pending)
        before = t * 1.0
        VIEWS[name][0](t).zero_()
        np.testing.assert_array_equal(before.numpy(), a)


def test_a_view_written_with_another_view_of_the_same_base() -> None:
    t, a = pair()
    t[:, :3].copy_(t[:, 3:])
    a[:, :3] = a[:, 3:]
    np.testing.assert_array_equal(t.numpy(), a)


def test_a_transposed_copy_onto_itself() -> None:
    t = flambeau.arange(9.0).view(3, 3)
    t.copy_(t.t())
    np.testing.assert_array_equal(t.numpy(), np.arange(9.0).reshape(3, 3).T)


def test_expanded_tensors_read_one_element_many_times_and_refuse_writes() -> None:
    t = flambeau.zeros(3, 1)
    wide = t.expand(3, 4)
    t.add_(2.0)
    assert wide.sum().item() == 24.0
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        wide.add_(1.0)


def test_detached_tensors_alias_too() -> None:
    t = flambeau.ones(3, requires_grad=True)
    y = t * 2
    y.detach().zero_()
    assert y.sum().item() == 0.0


def test_reshape_that_must_copy_does_not_alias() -> None:
    t, a = pair()
    flat = t.t().reshape(-1)
    t.zero_()
    np.testing.assert_array_equal(flat.numpy(), a.T.reshape(-1))


def test_data_of_another_tensor_takes_its_place() -> None:
    t = flambeau.zeros(3)
    other = flambeau.ones(2, 2)
    t.data = other
    other.add_(1.0)
    assert t.tolist() == [[2.0, 2.0], [2.0, 2.0]]


class TestVersions:
    def test_every_write_counts_and_all_views_share_the_count(self) -> None:
        t = flambeau.zeros(4)
        view = t[1:]
        assert t._version == 0
        t.add_(1.0)
        view.mul_(2.0)
        t[0] = 3.0
        t.copy_(flambeau.ones(4))
        assert t._version == view._version == t.detach()._version == 4

    def test_reads_do_not_count(self) -> None:
        t = flambeau.zeros(4)
        t.sum().item()
        t.numpy()
        assert t._version == 0

    def test_writes_through_data_do_not_count(self) -> None:
        t = flambeau.zeros(4)
        t.data.add_(1.0)
        t.data[1:].mul_(3.0)
        assert t._version == 0
        assert t.tolist() == [1.0, 3.0, 3.0, 3.0]

    def test_out_counts(self) -> None:
        t = flambeau.zeros(4)
        flambeau.add(flambeau.ones(4), 1.0, out=t)
        assert t._version == 1


def test_thousands_of_writes_to_one_tensor() -> None:
    t = flambeau.zeros(3)
    for _ in range(3000):
        t.add_(1.0)
    assert t.tolist() == [3000.0] * 3


def test_random_programs_of_views_and_writes(rng: np.random.Generator) -> None:
    """Against NumPy, whose views have the same meaning."""
    for _ in range(20):
        a = rng.standard_normal((4, 6))
        t = flambeau.tensor(a)
        tensors, arrays = [t], [a]
        for _ in range(12):
            k = int(rng.integers(len(tensors)))
            x, y = tensors[k], arrays[k]
            action = int(rng.integers(6))
            if action == 0 and x.ndim and x.shape[0] > 1:
                tensors.append(x[1:])
                arrays.append(y[1:])
            elif action == 1 and x.ndim == 2:
                tensors.append(x.t())
                arrays.append(y.T)
            elif action == 2 and x.ndim:
                tensors.append(x[..., ::2])
                arrays.append(y[..., ::2])
            elif action == 3:
                x.mul_(0.5)
                y *= 0.5
            elif action == 4:
                x.add_(float(k))
                y += float(k)
            else:
                x.sum().item()
        for x, y in zip(tensors, arrays, strict=True):
            np.testing.assert_allclose(x.numpy(), y, rtol=1e-12)


def test_views_in_place_show_the_same_memory_anew() -> None:
    x = flambeau.arange(6.0).reshape(2, 3).clone()
    row = x[0]
    assert x.t_() is x
    assert x.shape == (3, 2)
    assert x.stride() == (1, 3)
    row.mul_(10)
    assert x.tolist() == [[0, 3], [10, 4], [20, 5]]
    x.unsqueeze_(0).transpose_(0, 2).squeeze_(2).add_(1)
    assert x.tolist() == [[1, 11, 21], [4, 5, 6]]
    assert row.tolist() == [1, 11, 21]
    part = flambeau.zeros(2, 3)
    part[1].unsqueeze_(1).fill_(5)
    assert part.tolist() == [[0, 0, 0], [5, 5, 5]]


def test_gradients_go_through_views_in_place() -> None:
    w = flambeau.ones(2, 3, requires_grad=True)
    y = w * flambeau.arange(6.0).reshape(2, 3)
    y.t_()
    (y * y).swapaxes_(0, 1).mul_(2).sum().backward()
    assert w.grad.tolist() == [[0, 4, 16], [36, 64, 100]]
    with pytest.raises(RuntimeError, match="leaf Variable"):
        w.t_()
