"""Training on several ranks of this machine: time and memory by form, beside what the plan says.

    python -m bench.distributed [--rounds 7] [--json FILE]

The step of a small GPT is timed on one process with two threads and on two ranks of one thread
each, in turns, in the same processes (started by mpiexec): with `DistributedDataParallel`, and with
`fully_shard`. What the plan predicts comes from one rank's step and from two sizes of all_reduce,
measured in the same run. Memory is what the ranks hold between steps: parameters, and states of the
optimizer, on 4 ranks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flambeau
from flambeau import distributed, nn, optim
from flambeau.commands.gpt import GPT, GPTConfig
from flambeau.distributed.fsdp import fully_shard, register_fsdp_forward_method
from flambeau.distributed.groups import default_group
from flambeau.distributed.plan import Cluster, Device, Layout, Plan, calibrated
from flambeau.distributed.simulate import Link
from flambeau.distributed.tensor import DTensor
from flambeau.distributed.workload import record_workload
from flambeau.nn.parallel import DistributedDataParallel

CONFIG = GPTConfig(vocabulary=256, context=128, layers=4, heads=4, width=256)
BATCH, LENGTH = 8, 128  # of one rank


class Loss(nn.Module):
    """The loss as a module's result."""

    def __init__(self, net: GPT) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Any) -> Any:
        """Of (B, T) tokens, as their own targets."""
        return self.net.loss(tokens, tokens)


def model(form: str) -> Any:
    """The GPT in a form: "alone", "ddp" or "fsdp"."""
    flambeau.manual_seed(0)
    net = GPT(CONFIG)
    if form == "fsdp":
        for block in net.blocks:
            fully_shard(block)
        fully_shard(net)
        register_fsdp_forward_method(net, "loss")
        return Loss(net)
    return DistributedDataParallel(Loss(net)) if form == "ddp" else Loss(net)


def stepper(form: str, batch: int) -> tuple[Callable[[], None], Any, Any]:
    """-> a training step, the model, the optimizer."""
    net = model(form)
    optimizer = optim.AdamW(net.parameters(), lr=1e-3)
    tokens = flambeau.randint(0, CONFIG.vocabulary, (batch, LENGTH))

    def step() -> None:
        optimizer.zero_grad()
        loss = net(tokens)
        loss.backward()
        optimizer.step()
        loss.item()

    return step, net, optimizer


def main() -> int:
    """Start the ranks, and print what they measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="write the measurements to this file")
    parser.add_argument("--rank-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        what, folder = options.rank_of
        {"time": time_steps, "memory": weigh}[what](Path(folder), options.rounds)
        return 0
    found: dict[str, Any] = {}
    for ranks, what in ((2, "time"), (4, "memory")):
        with tempfile.TemporaryDirectory() as folder:
            program = [sys.executable, "-m", "bench.distributed", "--rounds", str(options.rounds)]
            subprocess.run(
                [str(Path(sys.executable).parent / "mpiexec"), "-n", str(ranks), *program]
                + ["--rank-of", what, folder],
                env={**os.environ, "FLAMBEAU_NUM_THREADS": "1"},
                check=True,
                timeout=600,
            )
            found[what] = json.loads((Path(folder) / "measured.json").read_text())
    show(found)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    return 0


def show(found: dict[str, Any]) -> None:
    """Print the measurements."""
    seconds, predicted = found["time"]["seconds"], found["time"]["predicted"]
    print(f"a step of {2 * BATCH} sequences on 2 processors   measured   predicted")
    for name, took in seconds.items():
        plan = f"{1e3 * predicted[name]:8.1f} ms" if name in predicted else ""
        print(f"  {name:<38} {1e3 * took:8.1f} ms {plan}")
    print(f"  1 process of 2 threads / ddp: {seconds['alone, 2 threads'] / seconds['ddp']:.3f}")
    memory = found["memory"]
    print("memory of a rank of 4, MB")
    for form, n in memory.items():
        print(f"  {form:<6} parameters {n['parameters'] / 2**20:6.2f}  optimizer "
              f"{n['optimizer'] / 2**20:6.2f}")  # fmt: skip
    total = {form: sum(n.values()) for form, n in memory.items()}
    print(f"  fsdp / ddp: {total['fsdp'] / total['ddp']:.3f}")


def timed(call: Callable[[], None]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_steps(folder: Path, rounds: int) -> None:
    """What each of two ranks runs."""
    distributed.init_process_group("mpi")
    rank = distributed.get_rank()
    both = {form: stepper(form, BATCH)[0] for form in ("ddp", "fsdp")}
    alone = {
        "alone, 2 threads": (stepper("alone", 2 * BATCH)[0], 2),
        "alone, 1 thread, half the batch": (stepper("alone", BATCH)[0], 1),
    }
    times: dict[str, list[float]] = {}
    for turn in range(rounds + 2):
        for name, step in both.items():
            default_group().barrier()
            times.setdefault(name, []).append(timed(step))
        # the other rank sleeps meanwhile; a barrier would keep its processor busy
        mark = folder / f"turn {turn}"
        if rank == 0:
            for name, (step, threads) in alone.items():
                flambeau.set_num_threads(threads)
                times.setdefault(name, []).append(timed(step))
                flambeau.set_num_threads(1)
            mark.touch()
        while not mark.exists():
            time.sleep(0.002)
    link = measured_link(rounds)
    if rank == 0:
        seconds = {name: statistics.median(t[2:]) for name, t in times.items()}
        predicted = predictions(seconds["alone, 1 thread, half the batch"], link)
        text = json.dumps({"seconds": seconds, "predicted": predicted})
        (folder / "measured.json").write_text(text)
    distributed.destroy_process_group()


def measured_link(rounds: int) -> Link:
    """Latency and bandwidth from all_reduces of two sizes between two ranks."""
    took = []
    for count in (256, 1 << 20):
        x = flambeau.ones(count)

        def call(x: Any = x) -> None:
            distributed.all_reduce(x)
            x.data_ptr()

        each = []
        for _ in range(3 * rounds):
            default_group().barrier()
            each.append(timed(call))
        took.append(statistics.median(each))
    # between two ranks either algorithm takes 2 (latency + half the bytes) or (latency + bytes)
    small, large = took
    return Link(small, 4 * (1 << 20) / max(large - small, 1e-9))


def predictions(one_rank: float, link: Link) -> dict[str, float]:
    """Seconds that the plan gives to a step on two ranks."""
    with flambeau.device("meta"):
        net = GPT(CONFIG)
    tokens = flambeau.zeros(BATCH, LENGTH, dtype=flambeau.int64, device="meta")
    work = record_workload(net, lambda: net.loss(tokens, tokens))
    device = Device("here", {"float32": 150e9}, 8e9, 8e9, 1.0)
    cluster = Cluster(device, 1, link, link)
    layout = Layout(gradient=4, states=8, overlap=False)  # the ranks move the bytes themselves
    device = calibrated(Plan(work, cluster, layout), work.flops / one_rank)
    cluster = replace(cluster, device=device)
    return {
        name: Plan(work, cluster, replace(layout, data=2, shard=shard)).estimate().seconds
        for name, shard in (("ddp", "none"), ("fsdp", "full"))
    }


def bytes_here(t: Any) -> int:
    """The memory that a tensor takes on this rank."""
    local = t.to_local() if isinstance(t, DTensor) else t
    return int(local.untyped_storage().nbytes())


def weigh(folder: Path, rounds: int) -> None:
    """What each of four ranks holds after a step."""
    distributed.init_process_group("mpi")
    found = {}
    for form in ("ddp", "fsdp"):
        step, net, optimizer = stepper(form, 1)
        step()
        states = [t for state in optimizer.state.values() for t in state.values()]
        found[form] = {
            "parameters": sum(map(bytes_here, net.parameters())),
            "optimizer": sum(bytes_here(t) for t in states if isinstance(t, flambeau.Tensor)),
        }
        net = optimizer = step = None  # type: ignore[assignment]
    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, found)
    most = {
        form: {what: max(given[form][what] for given in everyone) for what in found[form]}
        for form in found
    }
    if distributed.get_rank() == 0:
        (folder / "measured.json").write_text(json.dumps(most))
    distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
