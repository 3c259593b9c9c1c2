"""Steps as they are written, recorded for ranks that are not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import flambeau
from flambeau import distributed, nn, optim
from flambeau.distributed.fsdp import fully_shard
from flambeau.distributed.plan import A100_HOSTS
from flambeau.distributed.rehearsal import rehearse
from flambeau.distributed.simulate import Collective, Compute, Link, Wait
from flambeau.nn.parallel import DistributedDataParallel

WIDTH, LAYERS = 512, 4


def program(form: str) -> Callable[[], Callable[[], Any]]:
    """A chain of linear layers in a form, on meta."""

    def made() -> Callable[[], Any]:
        with flambeau.device("meta"):
            net: Any = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, False) for _ in range(LAYERS)))
            x = flambeau.zeros(4096, WIDTH)
            if form == "ddp":
                net = DistributedDataParallel(net, bucket_cap_mb=0.5)
            if form == "fsdp":
                for layer in net:
                    fully_shard(layer)
                fully_shard(net)
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def step() -> None:
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()

        return step

    return made


def test_replicas_reduce_each_gradient_once() -> None:
    found = rehearse(program("ddp"), 64, A100_HOSTS)
    traffic = found.traffic["all_reduce"]
    assert traffic.count == LAYERS
    assert traffic.nbytes == 4 * LAYERS * WIDTH * WIDTH
    assert found.sizes == {"0": 64}
    kinds = [type(i) for i in found.instructions]
    first, last = kinds.index(Collective), len(kinds) - 1 - kinds[::-1].index(Collective)
    assert Compute in kinds[first:last]  # what is computed meanwhile
    assert kinds.count(Wait) == LAYERS


def test_shards_are_gathered_twice_and_reduced_once() -> None:
    found = rehearse(program("fsdp"), 64, A100_HOSTS)
    whole = 4 * LAYERS * WIDTH * WIDTH
    assert found.traffic["all_gather"].nbytes == 2 * whole
    assert found.traffic["reduce_scatter"].nbytes == whole


@pytest.mark.parametrize("form", ["ddp", "fsdp"])
def test_communication_is_hidden_where_links_are_fast_enough(form: str) -> None:
    instant = replace(A100_HOSTS, inside=Link(0.0, 1e18), between=Link(0.0, 1e18))
    slow = replace(A100_HOSTS, inside=Link(1e-3, 1e8), between=Link(1e-3, 1e8))
    times = [
        rehearse(program(form), 8, cluster).simulate().seconds
        for cluster in (instant, A100_HOSTS, slow)
    ]
    assert times[0] < times[1] < times[2]
    alone = rehearse(program("alone"), 8, A100_HOSTS).simulate().seconds
    assert times[0] == pytest.approx(alone, rel=0.2)


def test_a_hundred_thousand_ranks() -> None:
    found = rehearse(program("ddp"), 100_000, A100_HOSTS)
    trace = found.simulate(jitter=0.05)
    assert trace.ends[0].shape == (100_000,)
    assert trace.seconds > found.simulate().seconds


def test_nothing_is_left_behind() -> None:
    state = flambeau.get_rng_state().tolist()
    rehearse(program("ddp"), 4, A100_HOSTS)
    assert not distributed.is_initialized()
    assert flambeau.get_rng_state().tolist() == state
    assert (flambeau.ones(2) * 3).tolist() == [3.0, 3.0]
