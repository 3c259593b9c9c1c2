"""Training on several ranks of this machine: time and memory by form, beside what the plan says.

    python -m bench.distributed [--ranks 2,4] [--rounds 7] [--json FILE]

The step of a small GPT is timed on ranks of one thread each, with `DistributedDataParallel` and
with `fully_shard`, and on one process of two threads that has all their sequences, in turns, in the
same processes (started by mpiexec). What the plan predicts comes from the step of ranks that
compute at the same time and say nothing to each other, each with its share of the processors, and
from two sizes of all_reduce, measured in the same run. A prediction is right within a quarter of
what was measured. Memory is what the ranks hold between steps: parameters, and states of the
optimizer, on 4 ranks.
"""

from __future__ import annotations

import argparse
import json
import math
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
#: How far a prediction may be from what was measured, as a share of that.
NEAR = 0.25
ALONE = "1 process of 2 threads"
APART = "every rank by itself, its share"


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
    parser.add_argument("--ranks", default="2,4", help="how many are timed, with commas between")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="write the measurements to this file")
    parser.add_argument("--rank-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        what, folder = options.rank_of
        {"time": time_steps, "memory": weigh}[what](Path(folder), options.rounds)
        return 0
    found: dict[str, Any] = {}
    timed_on = [(int(n), "time") for n in options.ranks.split(",")]
    for ranks, what in (*timed_on, (4, "memory")):
        with tempfile.TemporaryDirectory() as folder:
            program = [sys.executable, "-m", "bench.distributed", "--rounds", str(options.rounds)]
            subprocess.run(
                [str(Path(sys.executable).parent / "mpiexec"), "-n", str(ranks), *program]
                + ["--rank-of", what, folder],
                env={**os.environ, "FLAMBEAU_NUM_THREADS": "1"},
                check=True,
                timeout=600,
            )
            measured = json.loads((Path(folder) / "measured.json").read_text())
            found[f"{what} of {ranks}"] = {"ranks": ranks, **measured}
    show(found)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    return 0


def processors() -> int:
    """How many processors the ranks share."""
    return len(os.sched_getaffinity(0))


def show(found: dict[str, Any]) -> None:
    """Print the measurements."""
    for name, part in found.items():
        ranks = part["ranks"]
        if name.startswith("memory"):
            print(f"memory of a rank of {ranks}, MB")
            held = {form: n for form, n in part.items() if form != "ranks"}
            for form, n in held.items():
                print(f"  {form:<6} parameters {n['parameters'] / 2**20:6.2f}  optimizer "
                      f"{n['optimizer'] / 2**20:6.2f}")  # fmt: skip
            total = {form: sum(n.values()) for form, n in held.items()}
            print(f"  fsdp / ddp: {total['fsdp'] / total['ddp']:.3f}")
            continue
        seconds, predicted = part["seconds"], part["predicted"]
        print(f"a step of {ranks * BATCH} sequences on {ranks} ranks, {processors()} processors")
        for form, took in seconds.items():
            print(f"  {form:<38} {1e3 * took:8.1f} ms{_beside(predicted.get(form), took)}")
        print(f"  {ALONE} / ddp: {seconds[ALONE] / seconds['ddp']:.3f}")


def _beside(predicted: float | None, measured: float) -> str:
    """What the plan says of a measurement."""
    if predicted is None:
        return ""
    off = predicted / measured - 1.0
    return (
        f"   predicted {1e3 * predicted:8.1f} ms ({off:+.0%}{'' if abs(off) <= NEAR else ' FAR'})"
    )


def timed(call: Callable[[], None]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_steps(folder: Path, rounds: int) -> None:
    """What each rank runs."""
    distributed.init_process_group("mpi")
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    forms = {form: stepper(form, BATCH)[0] for form in ("ddp", "fsdp")}
    forms[APART] = stepper("alone", BATCH)[0]
    alone = stepper("alone", ranks * BATCH)[0]
    times: dict[str, list[float]] = {}
    for turn in range(rounds + 2):
        for name, step in forms.items():
            default_group().barrier()
            times.setdefault(name, []).append(timed(step))
        # the other ranks sleep meanwhile; a barrier would keep their processors busy
        mark = folder / f"turn {turn}"
        if rank == 0:
            flambeau.set_num_threads(2)
            times.setdefault(ALONE, []).append(timed(alone))
            flambeau.set_num_threads(1)
            mark.touch()
        while not mark.exists():
            time.sleep(0.002)
    link = measured_link(rounds)
    if rank == 0:
        seconds = {name: statistics.median(t[2:]) for name, t in times.items()}
        predicted = predictions(seconds[APART], ranks, link)
        text = json.dumps({"seconds": seconds, "predicted": predicted})
        (folder / "measured.json").write_text(text)
    distributed.destroy_process_group()


def measured_link(rounds: int) -> Link:
    """Latency and bandwidth from all_reduces of two sizes between all ranks."""
    took, counts = [], (256, 1 << 20)
    for count in counts:
        x = flambeau.ones(count)

        def call(x: Any = x) -> None:
            distributed.all_reduce(x)
            x.data_ptr()

        each = []
        for _ in range(3 * rounds):
            default_group().barrier()
            each.append(timed(call))
        took.append(statistics.median(each))
    # as `Link.collective` counts: rounds of a small message, and how often large ones are sent
    size = distributed.get_world_size()
    rounds = math.ceil(math.log2(size))
    sent = min(rounds, 2 * (size - 1) / size)
    small, large = took
    return Link(small / rounds, sent * 4 * counts[1] / max(large - small, 1e-9))


def predictions(one_rank: float, ranks: int, link: Link) -> dict[str, float]:
    """Seconds that the plan gives to a step.

    Args:
        one_rank: seconds that a rank computes for.
        ranks: how many there are.
        link: between them.
    """
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
        name: Plan(work, cluster, replace(layout, data=ranks, shard=shard)).estimate().seconds
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
