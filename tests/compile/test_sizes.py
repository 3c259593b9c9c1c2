"""Compiled functions of many sizes: symbols after the second, and what is asked of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn, record
from flambeau.compiler import report
from flambeau.interpose.standins import _dynamo
from flambeau.nn import functional as F

SIZES = ((4, 20), (4, 20), (4, 30), (4, 45), (6, 33), (7, 50), (9, 64), (3, 17), (8, 91))


def plain(value: Any) -> Any:
    """A result as NumPy arrays and numbers, types of sizes included."""
    if isinstance(value, flambeau.Tensor):
        return value.detach().numpy().copy(), [type(n) for n in value.shape], value.stride()
    if isinstance(value, (tuple, list)):
        return [type(value), *map(plain, value)]
    return type(value), value


def same(make: Callable[[], Callable[[Any], Any]], **options: Any) -> Any:
    """Call a function with many sizes, compiled and not; -> the compiled function."""
    found = []
    kept = None
    for compiled in (False, True):
        flambeau.manual_seed(0)
        fn = make()
        kept = flambeau.compile(fn, **options) if compiled else fn
        results = []
        for k, size in enumerate(SIZES):
            flambeau.manual_seed(k)
            x = flambeau.randn(*size, 16)
            record.flush()
            results.append(plain(kept(x)))
            results.append(plain(flambeau.rand(2)))  # where the random stream stands
        found.append(results)
    _close(*found)
    return kept


def _close(a: Any, b: Any) -> None:
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _close(x, y)
    elif isinstance(a, np.ndarray):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    else:
        assert a == b


def inference() -> Callable[[Any], Any]:
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 16))

    def fn(x: Any) -> Any:
        b, t, c = x.shape
        h = model(x).view(b * t, c).view(b, t, 2, 8).transpose(1, 2)
        y = F.scaled_dot_product_attention(h, h, h, is_causal=True)
        return y.transpose(1, 2).reshape(x.shape), (y.mean(), x.shape[1] * 2), x.shape, t / 4

    return fn


def training() -> Callable[[Any], Any]:
    model = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.2), nn.ReLU(), nn.Linear(32, 16))
    optimizer = flambeau.optim.AdamW(model.parameters(), lr=1e-2)

    def fn(x: Any) -> Any:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), x)
        loss.backward()
        optimizer.step()
        return loss

    return fn


def gradients_outside() -> Callable[[Any], Any]:
    model = nn.Linear(16, 16)
    inner = flambeau.compile(lambda x: F.softmax(model(x), 1).square().sum(-1) / x.shape[1])

    def fn(x: Any) -> Any:
        model.zero_grad()
        inner(x).mean().backward()
        return model.weight.grad

    fn.inner = inner  # type: ignore[attr-defined]
    return flambeau.compiler.disable(fn)


@pytest.mark.parametrize(("make", "replays"), [(inference, 5), (training, 5)])
def test_sizes_that_change_become_symbols(make: Any, replays: int) -> None:
    found = report(same(make))
    assert found.replays >= replays, str(found)
    assert found.recordings == 3, str(found)


def test_backward_passes_outside_have_symbols_too() -> None:
    same(gradients_outside)


def test_dynamic_from_the_first_call_on() -> None:
    found = report(same(inference, dynamic=True))
    assert (found.recordings, found.replays) == (2, len(SIZES) - 3), str(found)


def test_dynamic_false_records_each_size() -> None:
    found = report(same(inference, dynamic=False))
    assert found.recordings == len(SIZES) - 1, str(found)


def test_marked_sizes() -> None:
    @flambeau.compile
    def fn(x: Any) -> Any:
        return x.sum(0) * x.shape[0]

    for n in (5, 5, 6, 7):
        x = flambeau.ones(n, 3)
        _dynamo.mark_dynamic(x, 0)
        assert fn(x).tolist() == [n * n] * 3
    assert report(fn).recordings == 2
    for n in (8, 9):
        x = flambeau.ones(n, 3)
        _dynamo.mark_static(x)
        assert fn(x).tolist() == [n * n] * 3


def test_branches_on_sizes_are_guards_that_name_their_line() -> None:
    @flambeau.compile
    def fn(x: Any) -> Any:
        if x.shape[0] > 10:
            return x + 1
        return x * 2

    for n in (4, 4, 6, 8, 12, 15, 3, 11):
        expected = n + 1 if n > 10 else n * 2
        assert fn(flambeau.full((n,), float(n))).tolist() == [expected] * n
    found = report(fn)
    assert (found.recordings, found.replays) == (4, 3), str(found)
    why = next(r for r in found.recompiles if "<= 10" in r)
    assert "s0 <= 10" in why
    assert "test_sizes.py" in why
    assert "if x.shape[0] > 10" in why


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: sum((x[k] for k in range(x.shape[0])), x[0]),
        lambda x: x * math.sqrt(x.shape[0]),
        lambda x: flambeau.stack([x.sum()] * x.shape[0]),
        lambda x: x * len(x.tolist()) if x.shape[0] > 100 else x * int(x.shape[0]),
        lambda x: x[x.shape[0] // 4 : -1] + x.shape[0] % 3,
        lambda x: x.new_zeros(x.shape[0] * 2)[: x.shape[0]] + flambeau.arange(x.shape[0]),
        lambda x: flambeau.cat([x, x[1:]]).flip(0)[::2],
        lambda x: x.unfold(0, 3, 1).mean(1).std(),
        lambda x: F.pad(x, (1, x.shape[0])).cumsum(0),
        lambda x: x.reshape(-1, 1).expand(-1, x.numel()).tril().sum(0) / x.numel() ** 0.5,
        lambda x: x.view(1, -1).transpose(0, 1) + x.view(-1, 1),
        lambda x: x.index_select(0, flambeau.arange(x.size(0) - 1, -1, -1)),
    ],
)
def test_whatever_is_done_with_a_size(fn: Any) -> None:
    compiled = flambeau.compile(fn)
    for n in (4, 4, 6, 9, 7, 13, 5, 30, 31, 3, 8):
        x = flambeau.arange(n) * 1.5
        np.testing.assert_allclose(compiled(x).numpy(), fn(x).numpy(), rtol=1e-5)
