"""Collectives between ranks of this machine, beside PyTorch's gloo: time and memory.

    python -m bench.collectives [--ranks 2 4] [--largest 256MB] [--json FILE]

Both libraries run in the same processes, started by mpiexec, and take turns; the time of a call is
that of the slowest rank, from a barrier on, and the best of the rounds counts. `flambeau` is
`distributed.all_reduce` and so on, with recording and all; `transport` is the MPI call underneath.
A size is that of the whole: of what all_reduce reduces, all_gather gathers and reduce_scatter is
given. Memory is how far the peak of one rank rises above what it held before. All use one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = [1 << 10, 1 << 15, 1 << 20, 1 << 24, 1 << 26, 1 << 28]
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter")
UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def main() -> int:
    """Start the ranks, and print what they measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--largest", default="256MB", help="such as 64MB")
    parser.add_argument("--json", help="write the measurements to this file")
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    largest = int(options.largest[:-2]) * UNITS[options.largest[-2:].upper()]
    if options.rank_of:
        measure(options.rank_of, largest)
        return 0
    measured = []
    for ranks in options.ranks:
        with tempfile.TemporaryDirectory() as folder:
            program = [sys.executable, "-m", "bench.collectives", "--largest", options.largest]
            subprocess.run(
                [str(Path(sys.executable).parent / "mpiexec"), "-n", str(ranks), *program]
                + ["--rank-of", folder],
                env={**os.environ, "OMP_NUM_THREADS": "1", "FLAMBEAU_NUM_THREADS": "1"},
                check=True,
            )
            measured += json.loads((Path(folder) / "measured.json").read_text())
    print_table(measured)
    if options.json:
        Path(options.json).write_text(json.dumps(measured, indent=1))
    return 0


def print_table(measured: list[dict[str, Any]]) -> None:
    """One line a size: milliseconds, how many times faster than gloo, and memory."""
    print("ranks  operation            size   flambeau  transport       gloo   gloo/flambeau"
          "   memory MB: flambeau  gloo")  # fmt: skip
    for m in measured:
        unit = next(u for u in ("GB", "MB", "KB") if m["bytes"] >= UNITS[u])
        ms = {name: 1e3 * seconds for name, seconds in m["seconds"].items()}
        print(
            f"{m['ranks']:5}  {m['operation']:<15} {m['bytes'] // UNITS[unit]:6} {unit}"
            f" {ms['flambeau']:8.3f}ms {ms['transport']:8.3f}ms {ms['gloo']:8.3f}ms"
            f" {ms['gloo'] / ms['flambeau']:14.2f}x"
            f" {m['memory']['flambeau'] / 2**20:20.1f} {m['memory']['gloo'] / 2**20:6.1f}"
        )


def peak(reset: bool = False) -> int:
    """Highest resident memory since the last reset, in bytes."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def measure(folder: str, largest: int) -> None:
    """What each rank runs."""
    import torch
    import torch.distributed as gloo

    import flambeau
    from flambeau import distributed
    from flambeau.distributed.groups import default_group

    distributed.init_process_group("mpi")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    torch.set_num_threads(1)
    gloo.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size
    )
    measured = []
    for operation in OPERATIONS:
        for nbytes in (s for s in SIZES if s <= largest):
            calls = contenders(operation, nbytes // 4, size, (flambeau, distributed, torch, gloo))
            times: dict[str, list[float]] = {name: [] for name in calls}
            memory = {}
            rounds = 15 if nbytes <= 1 << 20 else 5
            inner = max(1, min(50, (1 << 20) // nbytes))
            for turn in range(rounds + 1):
                for name, call in calls.items():
                    default_group().barrier()
                    before = peak(reset=True) if turn == 1 else 0
                    start = time.perf_counter()
                    for _ in range(inner):
                        call()
                    times[name].append((time.perf_counter() - start) / inner)
                    if turn == 1:
                        memory[name] = peak() - before
            mine = {name: min(t[1:]) for name, t in times.items()}
            everyone: list[Any] = [None] * size
            distributed.all_gather_object(everyone, (mine, memory))
            measured.append(
                {
                    "ranks": size,
                    "operation": operation,
                    "bytes": nbytes,
                    "seconds": {n: max(e[0][n] for e in everyone) for n in mine},
                    "memory": {n: max(e[1][n] for e in everyone) for n in mine},
                }
            )
    if rank == 0:
        (Path(folder) / "measured.json").write_text(json.dumps(measured))
    gloo.destroy_process_group()
    distributed.destroy_process_group()


def contenders(
    operation: str, count: int, size: int, libraries: tuple[Any, ...]
) -> dict[str, Callable[[], Any]]:
    """One call of each library on float32 tensors of its own."""
    from flambeau import record

    flambeau, distributed, torch, gloo = libraries
    part = count // size
    sizes = {"all_reduce": (count, 0), "all_gather": (part, part * size)}
    given, found = sizes.get(operation, (part * size, part))
    transport = distributed.group.WORLD.transport
    a, b = flambeau.ones(given), flambeau.zeros(found)
    x, y = torch.ones(given), torch.zeros(found)
    source = torch.ones(given).numpy()
    target = torch.zeros(found).numpy()
    if operation == "all_reduce":

        def reduce() -> None:
            distributed.all_reduce(a)
            record.flush()

        return {
            "flambeau": reduce,
            "transport": lambda: transport.all_reduce(source, source).wait(),
            "gloo": lambda: gloo.all_reduce(x),
        }
    if operation == "all_gather":
        pieces = [target[r * part : (r + 1) * part] for r in range(size)]

        def gather() -> None:
            distributed.all_gather_into_tensor(b, a)
            record.flush()

        return {
            "flambeau": gather,
            "transport": lambda: transport.all_gather(source, pieces).wait(),
            "gloo": lambda: gloo.all_gather_into_tensor(y, x),
        }
    pieces = [source[r * part : (r + 1) * part] for r in range(size)]

    def scatter() -> None:
        distributed.reduce_scatter_tensor(b, a)
        record.flush()

    return {
        "flambeau": scatter,
        "transport": lambda: transport.reduce_scatter(pieces, target).wait(),
        "gloo": lambda: gloo.reduce_scatter_tensor(y, x),
    }


if __name__ == "__main__":
    sys.exit(main())
