"""Kernels found by a region's structure are those that would be generated for it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

import flambeau as fl
from flambeau import nn, record
from flambeau.codegen import emitted
from flambeau.ir.region import Region
from flambeau.runtime import cpu, generation, objects


@pytest.fixture
def generated(monkeypatch, tmp_path):
    """Regions that kernels were generated for; each kernel handed out is compared with a new one.

    The cache on disk is an empty one.
    """
    cache = objects.ObjectCache(tmp_path / "cache")
    monkeypatch.setattr(objects, "default", lambda: cache)
    emit, kernel_of = emitted.emit_region, emitted.kernel_of
    made: list[Region] = []

    def counted(region, *rest):
        made.append(region)
        return emit(region, *rest)

    def checked(region, *rest):
        kernel = kernel_of(region, *rest)
        assert vars(kernel) == vars(emit(region, *rest))
        return kernel

    monkeypatch.setattr(emitted, "VERIFY", False)  # which generates all again
    monkeypatch.setattr(emitted, "emit_region", counted)
    monkeypatch.setattr(generation, "kernel_of", checked)
    cpu.forget()
    record.clear_programs()
    gc.collect()
    gc.disable()  # when a cycle's tensors die decides what programs store
    yield made
    gc.enable()
    cpu.forget()
    record.clear_programs()


def network(layers: int, x: fl.Tensor) -> list[float]:
    fl.manual_seed(3)
    model = nn.Sequential(
        *(
            layer
            for _ in range(layers)
            for layer in (nn.Linear(24, 24), nn.LayerNorm(24), nn.GELU(), nn.Dropout(0.25))
        )
    )
    optimizer = fl.optim.AdamW(model.parameters(), lr=0.01)
    found = []
    for _ in range(2):
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


def test_layers_share_their_kernels(generated) -> None:
    x = fl.linspace(-1, 1, 10 * 24).reshape(10, 24)
    network(4, x)
    few = len(generated)
    assert few > 0
    network(9, x)
    # what is new: sums over another number of parameters' gradients, at most
    assert len(generated) - few <= few // 2


PROGRAM = """
import sys
kept = [bytearray(k % 700) for k in range(int(sys.argv[1]))]  # so that objects lie elsewhere
import flambeau as fl
from flambeau.codegen import emitted
from flambeau.runtime import generation
from tests.codegen.test_emitted import network
kernel_of, found = emitted.kernel_of, []
def noted(*args):
    found.append(kernel_of(*args).name)
    return kernel_of(*args)
generation.kernel_of = noted
network(3, fl.linspace(-1, 1, 10 * 24).reshape(10, 24))
print(*found)
"""


def test_every_process_makes_the_same_kernels(tmp_path) -> None:
    """What is fused depends on the program alone, not on where its objects lie."""

    def kernels(n: int) -> str:
        environment = os.environ | {"FLAMBEAU_CACHE_DIR": str(tmp_path / str(n))}
        command = [sys.executable, "-c", PROGRAM, str(n)]
        return subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    wanted = kernels(0)
    assert len(wanted.split()) > 10
    assert kernels(5000) == wanted
    assert kernels(20000) == wanted


def test_another_process_finds_them_on_disk(generated) -> None:
    x = fl.linspace(-1, 1, 10 * 24).reshape(10, 24)
    x.tolist()

    def work() -> list[float]:
        cpu.forget()
        record.clear_programs()
        largest = (x * 2 + 1).softmax(-1).amax(0).tolist()
        return [*largest, x.exp().cumsum(1).sum().item()]

    wanted = work()
    assert generated
    generated.clear()
    assert work() == wanted
    assert not generated


def test_what_decides_the_code_is_in_the_structure(generated) -> None:
    """Pairs that differ in one thing alone, the second right after the first."""
    a = np.linspace(-3, 3, 60, dtype="float32").reshape(6, 10)
    x, wide, whole = fl.tensor(a), fl.tensor(a.astype("float64")), fl.arange(60).reshape(6, 10)
    index = fl.tensor([3, 0, 5])
    for one, expected in (
        (lambda: x + 1, a + 1),
        (lambda: x + 2, a + 2),
        (lambda: wide + 1, a.astype("float64") + 1),
        (lambda: whole + 1, np.arange(60).reshape(6, 10) + 1),
        (lambda: x * 0.0, a * 0.0),
        (lambda: x * -0.0, a * -0.0),
        (lambda: x**2, a**2),
        (lambda: x**3, a**3),
        (lambda: x + x, a + a),
        (lambda: x + x.flip(0), a + a[::-1]),
        (lambda: x.sum(0), a.sum(0)),
        (lambda: x.sum(1), a.sum(1)),
        (lambda: x.cumsum(1), a.cumsum(1)),
        (lambda: x.flip(1).cumsum(1), a[:, ::-1].cumsum(1)),
        (lambda: x[index] * 2, a[[3, 0, 5]] * 2),
        (lambda: x[:, index] * 2, a[:, [3, 0, 5]] * 2),
        (lambda: x.T.contiguous() + 1, a.T + 1),
        (lambda: x.argmax(1), a.argmax(1)),
        (lambda: x.argmin(1), a.argmin(1)),
    ):
        found = one().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert (np.signbit(found) == np.signbit(expected)).all()


def test_a_symbolic_size_is_not_written_down() -> None:
    """As text a symbolic size would become a number, with a guard that it never changes."""
    with pytest.raises(emitted.Opaque):
        emitted.written((3, object()))
    assert emitted.written((1, True)) != emitted.written((True, 1))
    assert emitted.written((0.0,)) != emitted.written((-0.0,))
    assert emitted.written(("a, b",)) != emitted.written(("a", "b"))
