#!/usr/bin/env python3
"""Measure the derivatives of every collective, here and in torch, beside differences of the whole
program of all ranks, and print the table of docs/distributed.md.

python tools/collectives.py            both; torch on 2 processes with gloo
python tools/collectives.py --write    into docs/distributed.md

A cell says what came out: right, WRONG (a number, and not the right one), raises, or - where there
is no such function. torch is measured several times, since some of its results are read before they
are there; what came out worst counts. The columns are the result, the gradient, the gradient of the
gradient, the forward-mode tangent, and vmap. Needs torch (the `parity` extra).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import flambeau
import flambeau.distributed
from tests.distributed.test_collectives import CASES, Whole, even, loss_of, op_of, table

SIZE = 2
TRIES = 25
MEASURES = ("result", "gradient", "second", "tangent", "vmap")
BEGIN, END = "<!-- table: tools/collectives.py -->", "<!-- end of table -->"


def wholes(name: str) -> list[Whole]:
    """Two programs of all ranks, the same in every process."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return [Whole(CASES[name], SIZE, rng) for _ in range(2)]


def measure(lib: Any, name: str, what: str, call: Callable[..., Any], rank: int) -> Any:
    """What one rank finds: nested lists, a number, or a text of what was raised."""
    whole, other = wholes(name)

    def tensor(array: Any, **how: Any) -> Any:
        return lib.tensor(array, **how)

    def loss(x: Any) -> Any:
        return loss_of(call(x, rank, SIZE), tensor(whole.ws[rank]))

    def result() -> Any:
        return call(tensor(whole.xs[rank]), rank, SIZE).tolist()

    def gradient(again: bool = False) -> Any:
        x = tensor(whole.xs[rank], requires_grad=True)
        (g,) = lib.autograd.grad(loss(x), x, create_graph=again)
        if again:
            (g,) = lib.autograd.grad((g * tensor(whole.v[rank])).sum(), x)
        return (g * tensor(whole.d[rank])).sum().item()

    def tangent() -> Any:
        with lib.autograd.forward_ad.dual_level():
            x = lib.autograd.forward_ad.make_dual(tensor(whole.xs[rank]), tensor(whole.d[rank]))
            pushed = lib.autograd.forward_ad.unpack_dual(loss(x)).tangent
            return 0.0 if pushed is None else pushed.item()

    def mapped() -> Any:
        xs = tensor(np.stack([whole.xs[rank], other.xs[rank]]))
        return lib.func.vmap(lambda x: call(x, rank, SIZE))(xs).tolist()

    steps = (result, gradient, lambda: gradient(True), tangent, mapped)
    try:
        return steps[MEASURES.index(what)]()
    except Exception as error:
        return f"raises {type(error).__name__}: {str(error).splitlines()[0]}"


def judge(name: str, what: str, values: list[Any]) -> str:
    """What the ranks found as a word."""
    whole, other = wholes(name)
    right = {"gradient": whole.first(), "second": whole.second(), "tangent": whole.first()}
    if any(isinstance(v, str) for v in values):
        return "raises"
    if what in right:
        return "right" if np.isclose(sum(values), right[what], 1e-3, 1e-4) else "WRONG"
    wanted = [
        whole.ys[r] if what == "result" else np.stack([whole.ys[r], other.ys[r]])
        for r in range(SIZE)
    ]
    close = all(
        np.size(v) == w.size and np.allclose(np.reshape(v, w.shape), w)
        for v, w in zip(values, wanted, strict=True)
    )
    return "right" if close else "WRONG"


# -- torch ----------------------------------------------------------------------------------------


def torch_calls() -> dict[str, Callable[..., Any]]:
    """torch's function for each case that it has one for; `group()` is the one to use."""
    import torch
    import torch.distributed as dist
    import torch.distributed._functional_collectives as funcol
    from torch.distributed.nn import functional as older

    def op(name: str, rank: int) -> Any:
        if name == "premul_sum":
            return dist._make_nccl_premul_sum(op_of(name, rank).factor)
        return name

    def older_op(name: str) -> Any:
        return getattr(dist.ReduceOp, name.upper())

    calls: dict[str, Callable[..., Any]] = {}
    for name in ("sum", "avg", "min", "max", "product", "premul_sum"):
        calls[f"all_reduce {name}"] = lambda x, r, n, name=name: funcol.all_reduce(
            x, op(name, r), dist.group.WORLD
        )
        calls[f"reduce_scatter {name} even"] = lambda x, r, n, name=name: (
            funcol.reduce_scatter_tensor(x, op(name, r), 1, dist.group.WORLD)
        )
        if name not in ("avg", "premul_sum"):
            # what is left on the others is nobody's reduction
            calls[f"reduce {name}"] = lambda x, r, n, name=name: (
                older.reduce(x, 1, older_op(name)) * (r == 1)
            )
    calls["all_gather even"] = lambda x, r, n: funcol.all_gather_tensor(
        x.contiguous(), 1, dist.group.WORLD
    )
    calls["gather even"] = lambda x, r, n: torch.cat(older.gather(x, 1))[: None if r == 1 else 0]
    calls["scatter even"] = lambda x, r, n: older.scatter(
        list(x.split(even(n))) if r == 1 else [x[:2]] * n, 1
    )
    calls["all_to_all even"] = lambda x, r, n: funcol.all_to_all_single(
        x, None, None, dist.group.WORLD
    )
    calls["all_to_all uneven"] = lambda x, r, n: funcol.all_to_all_single(
        x, [row[r] for row in table(n)], table(n)[r], dist.group.WORLD
    )
    calls["broadcast"] = lambda x, r, n: funcol.broadcast(x, 1, dist.group.WORLD)
    calls["permute"] = lambda x, r, n: funcol.permute_tensor(
        x.reshape(-1), [(k + 1) % n for k in range(n)], dist.group.WORLD
    ).reshape(x.shape)
    return calls


def torch_rank(rank: int, port: int, items: list[str]) -> None:
    """Measure torch in one of its processes, a line of JSON an item, until its group breaks."""
    import torch
    import torch.distributed as dist

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=SIZE, timeout=timedelta(seconds=5))
    calls = torch_calls()
    for item in items:
        name, what = item.split(":")
        found = [measure(torch, name, what, calls[name], rank)]
        if not isinstance(found[0], str):
            found += [measure(torch, name, what, calls[name], rank) for _ in range(TRIES - 1)]
        print(json.dumps(found), flush=True)
        if isinstance(found[0], str) and "gloo" in found[0]:
            break
    os._exit(0)


def torch_table(names: list[str]) -> dict[str, dict[str, str]]:
    """The words for torch; where its processes end or hang, "raises"."""
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    left = [f"{name}:{what}" for name in names for what in MEASURES]
    while left:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ranks = [
            subprocess.Popen(
                [sys.executable, __file__, "--rank", str(r), "--port", str(port), "--items", *left],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for r in range(SIZE)
        ]
        by_rank: list[list[Any]] = []
        for process in ranks:
            try:
                out, _ = process.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
                out, _ = process.communicate()
            by_rank.append([json.loads(line) for line in out.splitlines()])
        done = min(map(len, by_rank))
        for item, *values in zip(left[:done], *(rows[:done] for rows in by_rank), strict=True):
            name, what = item.split(":")
            words = {judge(name, what, list(tried)) for tried in zip(*values, strict=False)}
            found[name][what] = next(w for w in ("WRONG", "raises", "right") if w in words)
        if not done:
            name, what = left[0].split(":")
            found[name][what] = "raises"
        left = left[max(done, 1) :]
    return found


# -- the table ------------------------------------------------------------------------------------


def own_word(name: str, what: str) -> str:
    """The word for flambeau, on ranks that are threads."""

    def rank_finds(rank: int) -> Any:
        return measure(flambeau, name, what, CASES[name].call, rank)

    return judge(name, what, flambeau.distributed.spawn_local(SIZE, rank_finds))


def rendered(
    own: dict[str, dict[str, str]], theirs: dict[str, dict[str, str]], version: str
) -> str:
    """Both tables as one of Markdown."""
    head = ["collective", *MEASURES, *(f"torch: {what}" for what in MEASURES)]
    lines = [
        f"Measured with torch {version} ({TRIES} times, the worst counts), 2 ranks, float64, by "
        "`python tools/collectives.py`.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for name in CASES:
        torchs = theirs.get(name, dict.fromkeys(MEASURES, "-"))
        cells = [own[name][w] for w in MEASURES] + [torchs[w] for w in MEASURES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write the table into the guide")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--items", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        torch_rank(given.rank, given.port, given.items)
    import torch

    own = {name: {what: own_word(name, what) for what in MEASURES} for name in CASES}
    text = rendered(own, torch_table(list(torch_calls())), torch.__version__)
    print(text)
    if given.write:
        guide = Path(__file__).resolve().parent.parent / "docs" / "distributed.md"
        before, _, rest = guide.read_text().partition(BEGIN)
        guide.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
