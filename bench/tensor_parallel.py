"""What a call on distributed tensors costs to record, beside the same call on plain ones.

    python -m bench.tensor_parallel [--rounds 9]

On a mesh of one rank, so that nothing is sent: CPU time of a call that needs gradients, and of the
step of a small MLP that `parallelize_module` laid on the mesh, beside the same without a mesh.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import flambeau
from flambeau import nn, optim
from flambeau.distributed import init_device_mesh, spawn_local
from flambeau.distributed.tensor import Replicate, Shard, distribute_tensor
from flambeau.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from flambeau.nn import functional as F

#: Name -> a call of an input (8, 32), a weight (64, 32) and a bias (64,).
CALLS: dict[str, Callable[..., Any]] = {
    "x + x": lambda x, w, b: x + x,
    "w.sum(0)": lambda x, w, b: w.sum(0),
    "w.t() + b": lambda x, w, b: w.t() + b,
    "linear": F.linear,
    "softmax": lambda x, w, b: F.softmax(w, 0),
    "layer_norm": lambda x, w, b: F.layer_norm(w, (32,)),
}
#: Name -> how these three lie.
LAYOUTS = {
    "columns": (Replicate(), Shard(0), Shard(0)),
    "rows": (Shard(1), Shard(1), Replicate()),
}


def cost(call: Callable[[], Any], rounds: int, calls: int) -> float:
    """CPU seconds of a call, the least of some rounds."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(calls):
            call()
        found.append(time.process_time() - start)
    return min(found) / calls


def compare(
    name: str, plain: Callable[[], Any], laid: Callable[[], Any], rounds: int, calls: int
) -> None:
    """Print the costs of two calls, measured in turns."""
    pairs = [(cost(plain, rounds, calls), cost(laid, rounds, calls)) for _ in range(3)]
    first, second = (min(column) * 1e6 for column in zip(*pairs, strict=True))
    print(f"{name:24}{first:10.1f}{second:10.1f}{second / first:8.1f}")


def trained(mesh: Any) -> Callable[[], None]:
    """A training step of an MLP, laid on a mesh or plain."""
    flambeau.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
    if mesh is not None:
        parallelize_module(net, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    optimizer = optim.AdamW(net.parameters(), lr=1e-3)
    x = flambeau.ones(8, 32)

    def step() -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    for _ in range(12):
        step()
    return step


def main(argv: list[str] | None = None) -> None:
    """Print microseconds a call: plain, on parts, and how many times as much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args(argv).rounds

    def program(rank: int) -> None:
        mesh = init_device_mesh("cpu", (1,))
        plain = [flambeau.ones(*s, requires_grad=True) for s in ((8, 32), (64, 32), (64,))]
        print(f"{'microseconds':24}{'plain':>10}{'parts':>10}{'times':>8}")
        for layout, ways in LAYOUTS.items():
            laid = [distribute_tensor(t, mesh, [p]) for t, p in zip(plain, ways, strict=True)]
            for name, call in CALLS.items():
                on_parts = functools.partial(call, *laid)
                compare(f"{name}, {layout}", functools.partial(call, *plain), on_parts, rounds, 60)
        compare("step of an MLP", trained(None), trained(mesh), rounds, 10)

    spawn_local(1, program)


if __name__ == "__main__":
    main()
