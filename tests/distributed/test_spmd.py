"""`spmd` and `check_spmd`: what is believed, inferred, refused and left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn, record
from flambeau.distributed import functional
from flambeau.distributed.check import check_spmd
from flambeau.distributed.groups import default_group, is_initialized, spawn_local
from flambeau.distributed.spmd import (
    I,
    P,
    R,
    S,
    SpmdTypeError,
    V,
    all_gather,
    all_reduce,
    assert_type,
    convert,
    current,
    local_map,
    reinterpret,
    spmd,
    type_of,
)
from flambeau.ir.graph import Node, _initialise

pytestmark = pytest.mark.timeout(60)


def two(fn: Any) -> list[Any]:
    """Run on two ranks with an open block of one axis, "tp"."""

    def run(rank: int) -> Any:
        with spmd({"tp": default_group()}):
            return fn(rank)

    return spawn_local(2, run, timeout=30)


def test_nothing_is_watched_outside() -> None:
    two(lambda rank: flambeau.ones(2) + 1)
    assert Node.__init__ is _initialise
    with pytest.raises(RuntimeError, match="no types outside"):
        current()


def test_what_nobody_vouched_for_varies() -> None:
    def run(rank: int) -> None:
        ones = assert_type(flambeau.ones(2), {"tp": I})
        assert type_of(ones + 1) == {"tp": I}
        x = flambeau.tensor([1.0, 2.0])
        made = type_of(x * 2)
        assert made == {"tp": V}
        assert type_of(flambeau.zeros(2) + 1)["tp"].word == "Constant"
        assert type_of(flambeau.rand(2)) == {"tp": V}
        assert_type(x, {"tp": R})
        assert type_of(x * 2) == {"tp": R}
        with pytest.raises(
            SpmdTypeError, match="is Replicated along mesh axis 'tp', not Invariant"
        ):
            assert_type(x * 2, {"tp": I})
        with pytest.raises(ValueError, match="no mesh axis 'dp'"):
            assert_type(x, {"dp": R})

    two(run)


def test_what_was_said_lasts_as_long_as_the_memory() -> None:
    w = flambeau.ones(3, requires_grad=True)

    def run(rank: int) -> None:
        group = default_group()
        with spmd({"tp": group}):
            assert_type(w, {"tp": R})
        with flambeau.no_grad():
            w.mul_(1.0)
        record.flush()
        with spmd({"tp": group}):
            assert type_of(w * 2) == {"tp": R}
        with pytest.raises(SpmdTypeError, match="was given a Varying value"), spmd({"tp": group}):
            with flambeau.no_grad():
                w.copy_(flambeau.rand(3))

    spawn_local(1, run)


def test_parts_of_a_whole_are_followed() -> None:
    def run(rank: int) -> None:
        x = assert_type(flambeau.tensor(np.ones((4, 6))), {"tp": S(0)})
        assert type_of(x.t() * 2) == {"tp": S(1)}
        assert type_of(x.reshape(24)) == {"tp": S(0)}
        assert type_of(x.sum(0)) == {"tp": V}
        assert type_of(x.sum(1)) == {"tp": S(0)}
        whole = all_gather(x, "tp", dst=I)
        assert type_of(whole) == {"tp": I}
        assert type_of(convert(whole, "tp", src=I, dst=V, dim=1)) == {"tp": S(1)}

    two(run)


def test_gradients_have_the_dual_types() -> None:
    def run(rank: int) -> Any:
        w = flambeau.tensor([1.0, 2.0], requires_grad=True)
        x = flambeau.tensor([1.0 + rank, 3.0])
        assert_type(w, {"tp": R})
        loss = reinterpret((w * x).sum(), "tp", src=V, dst=P)
        loss.backward()
        assert type_of(w.grad) == {"tp": P}
        (g,) = flambeau.autograd.grad(reinterpret((w * x).sum(), "tp", src=V, dst=P), w)
        assert type_of(g) == {"tp": P}
        with pytest.raises(SpmdTypeError, match="counted once for each rank"):
            flambeau.optim.SGD([w], lr=0.1).step()
        w.grad = all_reduce(w.grad, "tp", dst=R)
        flambeau.optim.SGD([w], lr=0.1).step()
        return w.tolist()

    assert two(run) == [[pytest.approx(0.7), pytest.approx(1.4)]] * 2


def test_what_a_loss_may_be() -> None:
    def run(rank: int) -> None:
        x = flambeau.tensor([1.0 + rank], requires_grad=True)
        with pytest.raises(SpmdTypeError, match="of a Varying loss"):
            (x * x).sum().backward()
        terms = reinterpret((x * x).sum(), "tp", src=V, dst=P)
        with pytest.raises(SpmdTypeError, match="as many times too large as there are ranks"):
            all_reduce(terms, "tp", dst=R).backward()
        all_reduce(terms, "tp", dst=I).backward()
        assert x.grad.tolist() == [2.0 * (1 + rank)]
        with pytest.raises(SpmdTypeError, match="gradient of a Partial value is Replicated"):
            terms.backward(x.detach().sum())

    two(run)


def test_hooks_of_leaves_see_types() -> None:
    """A hook that reduces gradients, as data parallelism does, makes them what optimizers want."""

    def run(rank: int) -> Any:
        w = assert_type(flambeau.tensor([1.0], requires_grad=True), {"tp": R})

        def reduce(leaf: Any) -> None:
            leaf.grad = all_reduce(leaf.grad, "tp", dst=R)

        w.register_post_accumulate_grad_hook(reduce)
        x = flambeau.tensor([rank + 1.0])
        reinterpret((w * x).sum(), "tp", src=V, dst=P).backward()
        assert type_of(w.grad) == {"tp": R}
        return w.grad.tolist()

    assert two(run) == [[3.0], [3.0]]


def test_plain_collectives_are_typed_and_a_mode_says_what_it_supposed() -> None:
    def run(rank: int) -> None:
        group = default_group()
        x = flambeau.tensor([1.0 + rank], requires_grad=True)
        with spmd({"tp": group}):
            with pytest.raises(SpmdTypeError, match=r"(?s)takes a Partial value.*reinterpret"):
                functional.all_reduce(x * 2, "sum", group)
            given = reinterpret(x * 2, "tp", src=V, dst=P)
            assert type_of(functional.all_reduce(given, "sum", group)) == {"tp": R}
        with spmd({"tp": group}, infer=True) as typing:
            assert type_of(functional.all_reduce(x * 2, "sum", group)) == {"tp": R}
            (x * x).sum().backward()
        assert len(typing.notes) == 2
        assert all("test_spmd.py" in note for note in typing.notes)
        with spmd({"tp": group}, infer=True), pytest.raises(SpmdTypeError, match="Replicated loss"):
            functional.all_reduce(x * 2, "sum", group).sum().backward()

    spawn_local(2, run, timeout=30)


def test_inside_a_local_map_nothing_is_typed() -> None:
    def run(rank: int) -> None:
        x = assert_type(flambeau.tensor([1.0, 2.0]), {"tp": P})
        with pytest.raises(SpmdTypeError, match="exp of a sum"):
            x.exp()
        f = local_map(lambda t: t.exp(), {"tp": V}, [{"tp": P}])
        assert type_of(f(x)) == {"tp": V}
        with pytest.raises(SpmdTypeError, match="not Partial"):
            f(x * 0 + f(x))

    two(run)


# -- check_spmd ------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 8)
        self.down = nn.Linear(8, 2)

    def forward(self, x: Any) -> Any:
        return self.down(flambeau.relu(self.up(x)))


def _step(net: Net, x: Any, reduced: bool, scale: bool = True) -> Any:
    optimizer = flambeau.optim.AdamW(net.parameters(), lr=0.1)

    def step() -> None:
        loss = net(x).square().mean()
        reinterpret(loss / 512 if scale else loss, "dp", src=V, dst=P).backward()
        for p in net.parameters():
            if reduced:
                p.grad = all_reduce(p.grad, "dp", dst=R)
        print(f"loss {loss.item()}")
        optimizer.step()
        optimizer.zero_grad()

    return step


def test_a_step_is_checked_without_ranks_and_leaves_nothing(capsys: Any) -> None:
    net, x = Net(), flambeau.rand(3, 4)
    before = [p.tolist() for p in net.parameters()]
    flushes = record.counters.flushes
    found = check_spmd(
        _step(net, x, reduced=True), {"dp": 512}, types=[(net, {"dp": R}), (x, {"dp": S(0)})]
    )
    assert record.counters.flushes <= flushes + 1
    assert [c.name for c in found.collectives] == ["all_reduce"] * 4
    assert {c.axes for c in found.collectives} == {("dp",)}
    assert sum(c.nbytes for c in found.collectives) == sum(p.nbytes for p in net.parameters())
    assert "4 collectives, no mistakes" in str(found)
    assert [p.tolist() for p in net.parameters()] == before
    assert all(p.grad is None for p in net.parameters())
    assert not is_initialized()
    assert Node.__init__ is _initialise


def test_a_forgotten_reduction_is_found_in_the_optimizer() -> None:
    net, x = Net(), flambeau.rand(3, 4)
    with pytest.raises(SpmdTypeError, match=r"(?s)Partial.*test_spmd.py.*optimizer.step"):
        check_spmd(
            _step(net, x, reduced=False), {"dp": 4}, types=[(net, {"dp": R}), (x, {"dp": S(0)})]
        )
    assert all(p.grad is None for p in net.parameters())
    net(x).sum().backward()


def test_tensor_parallel_layers_are_checked() -> None:
    """Megatron's pair: the input enters by I -> R, the terms are summed into I."""
    up, down = (flambeau.rand(8, 4, requires_grad=True) for _ in range(2))
    x = flambeau.rand(3, 4)
    said = [(up, {"tp": S(0)}), (down, {"tp": S(0)}), (x, {"tp": I})]

    def step(enter: bool, leave: bool) -> None:
        h = convert(x, "tp", src=I, dst=R) if enter else x
        h = flambeau.relu(h @ up.t())
        out = reinterpret(h @ down, "tp", src=V, dst=P)
        if leave:
            out = all_reduce(out, "tp", dst=I)
        (out + x).square().mean().backward()

    check_spmd(step, {"tp": 8}, True, True, types=said)
    with pytest.raises(SpmdTypeError, match="an Invariant value"):
        check_spmd(step, {"tp": 8}, False, True, types=said)
    with pytest.raises(SpmdTypeError, match="Partial"):
        check_spmd(step, {"tp": 8}, True, False, types=said)


def test_plain_code_is_read_as_it_was_meant() -> None:
    """A data-parallel step that says nothing of types."""
    net, x = Net(), flambeau.rand(3, 4)
    group = None

    def step() -> None:
        net(x).square().mean().backward()
        for p in net.parameters():
            p.grad = functional.all_reduce(p.grad, "avg", group)
        flambeau.optim.SGD(net.parameters(), lr=0.1).step()

    found = check_spmd(step, {"dp": 2}, types=[(net, {"dp": R})], infer=True)
    assert len(found.notes) == 1
    assert "Varying loss" in found.notes[0]


def test_data_parallel_training_is_checked_as_it_stands() -> None:
    """The wrapper's own collectives and hooks, on a script that says nothing of types."""
    net, x = Net(), flambeau.rand(3, 4)

    def step(wrapped: bool) -> None:
        model = nn.parallel.DistributedDataParallel(net) if wrapped else net
        optimizer = flambeau.optim.AdamW(model.parameters(), lr=0.1)
        model(x).square().mean().backward()
        optimizer.step()

    said = [(net, {"dp": R}), (x, {"dp": S(0)})]
    found = check_spmd(step, {"dp": 4}, True, types=said, infer=True)
    assert "all_reduce" in {c.name for c in found.collectives}
    with pytest.raises(SpmdTypeError, match=r"optimizer\.step"):
        check_spmd(step, {"dp": 4}, False, types=said, infer=True)
