"""Generated plans on disk (`runtime/stored.py`): what a later compilation finds gives the same
results, what differs is not found, and what cannot be read is generated."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import nn, record
from flambeau.codegen.emitted import Opaque
from flambeau.ir.graph import Graph
from flambeau.runtime import cpu, objects, stored


class Model(nn.Module):
    """Normalised attention and a perceptron: claimed kernels, products with epilogues, writes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 10)

    def forward(self, x: flambeau.Tensor) -> flambeau.Tensor:
        """(B, T, 16) -> (B, T, 10)."""
        q, k, v = (
            t.view(*x.shape[:2], 2, 8).transpose(1, 2) for t in self.qkv(self.norm(x)).split(16, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(F.gelu(x + y.transpose(1, 2).reshape(x.shape)))


def trained() -> list[np.ndarray[Any, Any]]:
    """Losses and parameters after three steps."""
    flambeau.manual_seed(0)
    model = Model()
    optimizer = flambeau.optim.AdamW(model.parameters(), lr=1e-2)
    x, y = flambeau.randn(2, 8, 16), flambeau.randint(0, 10, (16,))
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).view(-1, 10), y)
        loss.backward()
        optimizer.step()
        losses.append(np.float32(loss.item()))
    return [np.array(losses), *(p.detach().numpy().copy() for p in model.parameters())]


def lifted(scale: float = 3.0) -> Graph:
    """A graph that is large enough to be stored."""
    x = flambeau.ones(4, 5)
    x.tolist()
    for _ in range(stored.FEWEST):
        x = (x * x).clamp(min=scale)
    return record.pending_graph()


@pytest.fixture
def collected_now() -> Iterator[None]:
    """When a cycle's tensors die decides what programs store: not by chance in a test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("empty_cache", "collected_now")
def test_what_is_found_is_not_generated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the programs are forgotten the same steps rewrite no graph that was stored."""
    record.clear_programs()
    first = trained()
    record.clear_programs()
    rewritten: list[int] = []
    lower = cpu.lower

    def counted(graph: Graph, *rest: Any) -> Graph:
        rewritten.append(len(graph.nodes))
        return lower(graph, *rest)

    monkeypatch.setattr(cpu, "lower", counted)
    second = trained()
    assert max(rewritten, default=0) < stored.FEWEST
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from test_stored import trained, stored
found = []
load = stored.load
stored.load = lambda key: found.append(load(key)) or found[-1]
print([x.tobytes().hex() for x in trained()])
print(len(found), sum(f is not None for f in found))
"""


def test_another_process_finds_it(empty_cache: Any) -> None:
    """A second process takes every plan from the first and computes the same bits."""
    program = PROGRAM.format(folder=str(Path(__file__).parent))
    said = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert said[0][0] == said[1][0]
    (asked, none), (again, found) = (map(int, s[1].split()) for s in said)
    assert none == 0
    assert asked == again == found > 0


def test_keys_tell_graphs_apart() -> None:
    """Numbers, sizes, outputs and the default dtype are in the key; numbers of the run are not."""
    key = stored.key_of(lifted())
    assert key is not None
    assert key == stored.key_of(lifted())
    assert key == stored.key_of(lifted(4.0))
    assert key != stored.key_of(lifted(0.5))
    graph = lifted()
    graph.outputs = [(graph.nodes[-2], None)]
    assert stored.key_of(graph) != key
    flambeau.set_default_dtype(flambeau.float64)
    try:
        assert stored.key_of(lifted()) != key
    finally:
        flambeau.set_default_dtype(flambeau.float32)


def test_small_and_unwritable_graphs_have_no_key() -> None:
    """Few nodes, and attributes that cannot be written down."""
    x = flambeau.ones(3)
    x.tolist()
    y = x + 2
    assert stored.key_of(record.pending_graph()) is None
    del y
    graph = lifted()
    graph.nodes[-1].attrs = (object(),)
    assert stored.key_of(graph) is None
    with pytest.raises(Opaque):
        stored.written(object())


@pytest.mark.usefixtures("empty_cache")
def test_what_cannot_be_read_is_absent() -> None:
    """Bytes that are no plan, and plans of foreign classes, count as nothing stored."""
    key = objects.digest("some key")
    assert stored.load(key) is None
    objects.put(key, b"no plan")
    assert stored.load(key) is None
    foreign = zlib.compress(pickle.dumps([subprocess.run]))
    objects.put(key, len(foreign).to_bytes(8, "little") + foreign + foreign)
    assert stored.load(key) is None
