"""Names of torch that `flambeau run` answers in another form: futures, sizes, accelerators."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from flambeau import interpose


@pytest.fixture
def torch() -> Iterator[Any]:
    """The interposed package."""
    interpose.install()
    import torch

    try:
        yield torch
    finally:
        interpose.uninstall()


def test_futures(torch: Any) -> None:
    first, second = torch.futures.Future(), torch.futures.Future()
    following = first.then(lambda f: f.value() + 1)
    failing = first.then(lambda f: f.value() / 0)
    everything = torch.futures.collect_all([first, second])
    assert not first.done()
    threading.Thread(target=first.set_result, args=(2,)).start()
    assert following.wait() == 3
    assert not everything.done()
    second.set_result("b")
    assert [f.value() for f in everything.wait()] == [2, "b"]
    assert torch.futures.wait_all([first, following]) == [2, 3]
    with pytest.raises(ZeroDivisionError):
        failing.wait()
    with pytest.raises(RuntimeError, match="only be set once"):
        first.set_result(3)
    assert torch.jit.wait(torch.jit.fork(lambda x: x + 1, 4)) == 5


def test_sizes(torch: Any) -> None:
    assert (torch.sym_int(2.7), torch.sym_int(-2.7), torch.sym_float(2)) == (2, -2, 2.0)
    assert (torch.sym_max(2, 3), torch.sym_min(2, 3), torch.sym_sum([1, 2, 3])) == (3, 2, 6)
    assert torch.sym_not(False)
    assert torch.sym_ite(True, 1, 2) == 1
    assert not isinstance(3, (torch.SymInt, torch.SymFloat))


def test_there_is_no_accelerator(torch: Any) -> None:
    assert torch.accelerator.memory_allocated() == 0
    assert torch.accelerator.memory_stats() == {}
    with pytest.raises(RuntimeError, match="accelerator"):
        torch.accelerator.current_device_index()
    with pytest.raises(NotImplementedError, match=r"torch\.Event"):
        torch.Event()


def test_functions_with_other_parameters(torch: Any) -> None:
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    found = torch.embedding(torch.tensor(table), torch.tensor([[1, 3]]))
    np.testing.assert_array_equal(found.numpy(), table[[[1, 3]]])
    x = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    found = torch.instance_norm(
        torch.tensor(x), None, None, None, None, True, 0.1, 0.0, False
    ).numpy()
    want = (x - x.mean(2, keepdims=True)) / x.std(2, keepdims=True)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
    sparse = torch.tensor(table).to_sparse()
    np.testing.assert_array_equal(
        torch.smm(sparse, torch.ones(3, 2)).numpy(), table @ np.ones((3, 2))
    )
    assert torch.get_device(torch.ones(1)) == -1
    assert torch.masked.sum(torch.ones(3), 0, mask=torch.tensor([True, False, True])).item() == 2
