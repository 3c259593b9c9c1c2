"""Programs with their machine code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.control import scan
from flambeau.export import Dim, ExportError, compile_aot, export, load, load_aot, save

#: Runs the program with no cache and a compiler that fails.
READER = """
import sys
import numpy as np
import flambeau
from flambeau.export import load_aot
from flambeau.runtime import jit

def refuse(*args):
    raise AssertionError("compiled")

module = load_aot(sys.argv[1])
jit._compile_all = refuse
found = {}
for b, t in ((4, 7), (1, 1), (2, 300), (1, 9), (33, 1), (40, 16)):
    words = np.arange(b * t).reshape(b, t) * 7 % 50
    out, last = module(flambeau.from_numpy(words))
    found[f"{b}x{t}"], found[f"last {b}x{t}"] = out.numpy(), last.numpy()
np.savez(sys.argv[2], **found)
"""


class Tagger(nn.Module):
    """Recurrent, a scan of its own, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.layer = nn.GRU(8, 16, batch_first=True)
        self.norm = nn.LayerNorm(16)

    def forward(self, words: flambeau.Tensor) -> tuple[flambeau.Tensor, flambeau.Tensor]:
        """Features of each word, and their decaying sum."""
        out = self.norm(self.layer(self.words(words))[0])
        last, _ = scan(lambda c, x: (c * 0.9 + x, x), flambeau.zeros_like(out[:, 0]), out, dim=1)
        return out, last


def test_a_program_runs_without_compiling(tmp_path: Path) -> None:
    tagger = Tagger()
    program = export(
        tagger,
        (flambeau.zeros(4, 7, dtype=flambeau.int64),),
        dynamic_shapes=({0: Dim("batch", max=64), 1: Dim("time", max=500)},),
    )
    path = tmp_path / "tagger.pt2"
    compile_aot(program, path)
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path), str(tmp_path / "found.npz")],
        env={**os.environ, "FLAMBEAU_CACHE": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    for name in found.files:
        if name.startswith("last"):
            continue
        b, t = map(int, name.split("x"))
        words = flambeau.from_numpy(np.arange(b * t).reshape(b, t) * 7 % 50)
        out, last = tagger(words)
        np.testing.assert_allclose(found[name], out.detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(found[f"last {name}"], last.detach().numpy(), atol=1e-4)
    # the same file, without its code, trains
    load(path).module()(words)[0].sum().backward()


class Products(nn.Module):
    """Layers of which a large batch has other kernels than a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 7)
        )

    def forward(self, x: flambeau.Tensor) -> tuple[flambeau.Tensor, flambeau.Tensor]:
        """Chances, and sums of products of the examples."""
        return self.layers(x).softmax(-1), (x @ x.transpose(1, 2)).sum((0, 1))


TURNED = """
import json, sys, zipfile
import flambeau
from flambeau.export import load_aot
from flambeau.runtime import jit

compiled = []
_all = jit._compile_all
jit._compile_all = lambda *args, **kwargs: compiled.append(size) or _all(*args, **kwargs)
module = load_aot(sys.argv[1])
target = json.loads(zipfile.ZipFile(sys.argv[1]).read("aot/target.json"))
order = target["sizes"]
for size in (*order[::-1], *order):
    for out in module(flambeau.ones(size["b"], size["t"], 16)):
        out.tolist()
assert not compiled, compiled
"""


def test_sizes_may_come_in_any_order(tmp_path: Path) -> None:
    sizes = {0: Dim("b", max=64), 1: Dim("t", min=12, max=500)}
    program = export(Products().eval(), (flambeau.ones(4, 20, 16),), dynamic_shapes=(sizes,))
    path = tmp_path / "products.pt2"
    asked = [{"b": 5, "t": 12}, {"b": 16, "t": 64}, {"b": 37, "t": 97}, {"b": 64, "t": 256}]
    compile_aot(program, path, sizes=asked)
    done = subprocess.run(
        [sys.executable, "-c", TURNED, str(path)],
        env={**os.environ, "FLAMBEAU_CACHE": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_code_for_another_processor_is_refused(tmp_path: Path) -> None:
    program = export(nn.Linear(3, 2), (flambeau.ones(4, 3),))
    path = tmp_path / "linear.pt2"
    save(program, path)
    with pytest.raises(ExportError, match="saved without code"):
        load_aot(path)
    for target, message in (
        ({"processor": "another", "version": "0"}, "compiled for another by flambeau 0"),
        ([], "code of the program is damaged"),
    ):
        save(program, path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("aot/target.json", json.dumps(target))
            archive.writestr("aot/objects/00", b"code")
        with pytest.raises(ExportError, match=message):
            load_aot(path)
