"""Ranks on a Ray cluster: Ray finds the hosts and starts MPI's proxies there, MPI does the rest.

A placement group has one processor for each rank. MPI's launcher is told to start nothing and
prints the command of each host's proxy (hydra's `-launcher manual`); an actor on that host runs it.
A restart places the ranks anew, on the hosts that are left.
"""

from __future__ import annotations

import shlex
import subprocess
from collections import Counter
from collections.abc import Sequence
from typing import Any

from flambeau.distributed.launch import LaunchError

_SECONDS = 300.0


class _Host:
    """What runs on each host: one proxy, as a child process that ends with it."""

    def run(self, command: str) -> int:
        """Run a command to its end; -> its exit code."""
        return subprocess.run(shlex.split(command), stdin=subprocess.DEVNULL).returncode


class Cluster:
    """A running Ray cluster, which this host is part of.

    Args:
        address: of its head, as `ray.init` takes it.

    Raises:
        LaunchError: Ray is not installed, or there is no cluster.
    """

    def __init__(self, address: str = "auto") -> None:
        try:
            import ray
        except ImportError:
            raise LaunchError("Ray is not installed; `pip install flambeau[ray]`") from None
        try:
            ray.init(address=address, logging_level="error", log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise LaunchError(f"there is no Ray cluster at {address!r}: {error}") from error
        self._ray: Any = ray
        self._group: Any = None
        self._actors: list[Any] = []
        self.address: str = ray.util.get_node_ip_address()

    def place(self, ranks: int) -> str:
        """Reserve processors; -> the hosts and their numbers of ranks, as MPI takes them.

        Raises:
            LaunchError: there are not enough for some minutes.
        """
        ray = self._ray
        self._group = ray.util.placement_group([{"CPU": 1}] * ranks, strategy="PACK")
        if not self._group.wait(_SECONDS):
            self.release()
            raise LaunchError(f"Ray has no {ranks} free processors, after {_SECONDS:g} s")
        nodes = ray.util.placement_group_table(self._group)["bundles_to_node_id"]
        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        bundles = {addresses[node]: bundle for bundle, node in nodes.items()}
        counts = Counter(addresses[node] for node in nodes.values())
        strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        host = ray.remote(_Host)
        self._actors = [
            host.options(
                num_cpus=0, scheduling_strategy=strategy(self._group, bundles[address])
            ).remote()
            for address in counts
        ]
        return ",".join(f"{address}:{count}" for address, count in counts.items())

    def start(self, proxies: Sequence[str]) -> None:
        """Run one command on each host, in their order."""
        for actor, command in zip(self._actors, proxies, strict=True):
            actor.run.remote(command)

    def release(self) -> None:
        """Give the processors back."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        if self._group is not None:
            self._ray.util.remove_placement_group(self._group)
            self._group = None
