"""fully_shard: training is that of one process, and each rank has a part of everything."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import Tensor, nn, optim
from flambeau.autograd import forward_ad
from flambeau.distributed import checkpoint, recorder
from flambeau.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from flambeau.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    full_state_dict,
    fully_shard,
    register_fsdp_forward_method,
)
from flambeau.distributed.groups import get_world_size, spawn_local
from flambeau.distributed.mesh import init_device_mesh
from flambeau.distributed.tensor import DTensor, Shard
from flambeau.utils.checkpoint import checkpoint as recompute
from tests.distributed import training

pytestmark = pytest.mark.timeout(120)


def sharded(**options: Any) -> Any:
    """The tiny GPT with its blocks and the rest cut."""
    net = training.model()
    for block in net.blocks:
        fully_shard(block, **options)
    fully_shard(net, **options)
    register_fsdp_forward_method(net, "loss")
    return net


def train(rank: int, net: Any = None, accumulate: int = 1) -> tuple[list[float], dict[str, Any]]:
    """Some steps on this rank's share of the batches."""
    ranks = get_world_size()
    net = sharded() if net is None else net
    optimizer = training.optimizer_of(net.parameters())
    losses = []
    for tokens in training.batches():
        pieces = training.part(tokens, rank, ranks).chunk(accumulate)
        optimizer.zero_grad()
        total = 0.0
        for k, piece in enumerate(pieces):
            net.set_requires_gradient_sync(k == len(pieces) - 1)
            loss = net.loss(piece[:, :-1], piece[:, 1:]) / accumulate
            loss.backward()
            total = total + loss.detach()
        optimizer.step()
        losses.append(total.item())
    return losses, {
        name: p.numpy() for name, p in full_state_dict(net).items() if "head" not in name
    }


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_training_is_that_of_one_process(ranks: int) -> None:
    training.check(ranks, train)


def test_training_without_resharding() -> None:
    training.check(2, lambda rank: train(rank, sharded(reshard_after_forward=False)))


def test_training_with_resharding_everywhere() -> None:
    training.check(2, lambda rank: train(rank, sharded(reshard_after_forward=True)))


def test_training_with_parts_at_neighbours() -> None:
    """After forward two ranks keep a half each, and gather for backward from each other."""
    training.check(4, lambda rank: train(rank, sharded(reshard_after_forward=2)))

    def fn(rank: int) -> None:
        net = fully_shard(nn.Linear(8, 8, bias=False), reshard_after_forward=2)
        x = flambeau.ones(2, 8, requires_grad=True)
        net(x).square().sum().backward()
        net.weight.grad.to_local().tolist()

    spawn_local(4, fn)
    gathers = [e.group for e in recorder.flight_record()[-12:] if e.call == "all_gather"]
    assert gathers.count("world") == 4  # entries, of one call on four ranks
    assert len(gathers) == 8
    assert len(set(gathers)) == 3


def test_gradients_are_accumulated_whole() -> None:
    training.check(2, lambda rank: train(rank, accumulate=2))


def test_training_of_replicated_shards() -> None:
    def fn(rank: int) -> Any:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        return train(rank, sharded(mesh=mesh))

    training.check(4, fn)


def test_a_rank_has_a_part_of_each_parameter() -> None:
    def fn(rank: int) -> Any:
        flambeau.manual_seed(0)
        whole = nn.Linear(3, 5)
        net = fully_shard(nn.Sequential(whole, nn.ReLU()))
        assert isinstance(net, FSDPModule)
        assert isinstance(net, nn.Sequential)
        assert all(isinstance(p, DTensor) for p in net.parameters())
        assert all(isinstance(p, nn.Parameter) for p in net.parameters())
        for weight in (net[0].weight, net.state_dict()["0.weight"]):
            assert isinstance(weight, DTensor)
            assert weight.placements == (Shard(0),)
            assert weight.shape == (5, 3)
        parts = [list(p.to_local().shape) for p in net.parameters()]
        return parts, net[0].weight.detach().full_tensor().tolist()

    found = spawn_local(4, fn)
    assert [f[0] for f in found] == [[[2, 3], [2]], [[2, 3], [2]], [[1, 3], [1]], [[0, 3], [0]]]
    assert all(f[1] == found[0][1] for f in found)


def test_states_go_in_and_out_whole() -> None:
    def fn(rank: int) -> Any:
        flambeau.manual_seed(1)
        plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        state = {name: t.clone() for name, t in plain.state_dict().items()}
        flambeau.manual_seed(2)
        net = fully_shard(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
        net.load_state_dict(state)
        found = full_state_dict(net)
        net.load_state_dict(net.state_dict())  # of DTensors
        assert all(bool((full_state_dict(net)[name] == state[name]).all()) for name in state)
        assert list(found) == list(state)
        return all(bool((found[name] == state[name]).all()) for name in state)

    assert spawn_local(3, fn) == [True] * 3


def test_dtypes_of_the_policy() -> None:
    def fn(rank: int) -> Any:
        policy = MixedPrecisionPolicy(flambeau.bfloat16, flambeau.float32, flambeau.float32)
        seen = []
        net = nn.Linear(4, 4)
        net.register_forward_pre_hook(lambda m, a: seen.append((a[0].dtype, m.weight.dtype)))
        fully_shard(net, mp_policy=policy)
        out = net(flambeau.ones(2, 4))
        out.sum().backward()
        assert seen == [(flambeau.bfloat16, flambeau.bfloat16)]
        assert net.weight.grad.dtype is net.weight.dtype is flambeau.float32
        return out.dtype, net.weight.grad.tolist()

    for dtype, grad in spawn_local(2, fn):
        assert dtype is flambeau.float32
        assert grad == [[2.0] * 4] * 4


def test_the_norm_is_that_of_all_ranks() -> None:
    def fn(rank: int, p: float) -> Any:
        net = fully_shard(nn.Linear(3, 5, bias=False))
        net.weight.grad = flambeau.ones_like(net.weight) * 3
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0, p)
        return norm.item(), net.weight.grad.to_local().flatten().tolist()

    for p, size in ((2.0, 3 * 15**0.5), (float("inf"), 3.0)):
        for norm, grads in spawn_local(4, fn, p):
            assert norm == pytest.approx(size)
            np.testing.assert_allclose(grads, [3 / size] * len(grads), rtol=1e-5)


def test_backward_gathers_what_forward_let_go_of() -> None:
    """The tape of a call holds no gathered parameter; a second gather is recorded by backward."""

    def fn(rank: int, reshard: bool) -> int:
        net = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(3)))
        for layer in net:
            fully_shard(layer, reshard_after_forward=reshard)
        x = flambeau.ones(2, 8, requires_grad=True)

        def step() -> list[Tensor]:
            net(x).square().sum().backward()
            return [p.grad for p in net.parameters()]

        flambeau.record.flush()
        return flambeau.explain(step).recorded.count("all_gather")

    assert spawn_local(1, fn, False) == [3]
    assert spawn_local(1, fn, True) == [6]


def test_what_is_read_after_a_step_is_new() -> None:
    def fn(rank: int) -> list[float]:
        net = fully_shard(nn.Linear(2, 2, bias=False))
        x = flambeau.ones(1, 2)
        net.unshard()
        assert type(net.weight) is Tensor
        assert net.weight.shape == (2, 2)
        net.reshard()
        net.unshard(async_op=True).wait()
        with flambeau.no_grad():
            net.weight.fill_(7.0)  # what is gathered, and dropped
        net.reshard()
        with flambeau.no_grad():
            net.weight.fill_(1.0)
        first = net(x).sum().item()
        with flambeau.no_grad():
            net.weight.fill_(2.0)
        return [first, net(x).sum().item()]

    assert spawn_local(2, fn) == [[4.0, 8.0]] * 2


def test_what_cannot_be_cut_is_refused() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(flambeau.ones(()))

    with pytest.raises(ValueError, match="support scalar parameters"):
        spawn_local(1, lambda rank: fully_shard(Scaled()))
    with pytest.raises(ValueError, match="should be a factor of 3"):
        spawn_local(3, lambda rank: fully_shard(nn.Linear(1, 1), reshard_after_forward=2))


def test_a_checkpoint_is_read_by_other_numbers_of_ranks(tmp_path: Any) -> None:
    def net(seed: int) -> Any:
        flambeau.manual_seed(seed)
        made = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
        fully_shard(made[0])
        return fully_shard(made)

    def values(made: Any) -> dict[str, Any]:
        return {name: t.tolist() for name, t in full_state_dict(made).items()}

    def save(rank: int) -> dict[str, Any]:
        made = net(0)
        checkpoint.save({"model": made.state_dict()}, checkpoint_id=str(tmp_path / "c"))
        return values(made)

    def load(rank: int) -> dict[str, Any]:
        made = net(1)
        state = {"model": made.state_dict()}
        checkpoint.load(state, checkpoint_id=str(tmp_path / "c"))
        made.load_state_dict(state["model"])
        return values(made)

    saved = spawn_local(2, save)[0]
    assert spawn_local(4, load) == [saved] * 4
    assert spawn_local(1, load) == [saved]


def _two_layers(seed: int, cut: bool, mesh: Any = None) -> Any:
    flambeau.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    if cut:
        fully_shard(made[0], mesh=mesh)
        fully_shard(made, mesh=mesh)
    return made


def _trained(made: Any, optimizer: Any, steps: int) -> list[float]:
    """Losses on a batch that every rank has."""
    x = flambeau.tensor(np.random.default_rng(3).normal(size=(4, 3)))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = made(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_optimizers_are_saved_and_read_by_other_numbers_of_ranks(tmp_path: Any) -> None:
    """Training goes on as it would have on 4 ranks, on 1, in replicas, and where nothing is cut."""
    folder = str(tmp_path / "c")
    whole = _two_layers(0, False)
    plain = optim.AdamW(whole.parameters(), lr=0.1)
    wanted = _trained(whole, plain, 4)

    def states(made: Any, optimizer: Any) -> dict[str, Any]:
        model_state, optimizer_state = get_state_dict(made, optimizer)
        return {"model": model_state, "optimizer": optimizer_state}

    def save(rank: int) -> list[float]:
        made = _two_layers(0, True)
        optimizer = optim.AdamW(made.parameters(), lr=0.1)
        losses = _trained(made, optimizer, 2)
        average = optimizer.state[made[0].weight]["exp_avg"]
        assert isinstance(average, DTensor)
        assert average.placements == (Shard(0),)
        checkpoint.save(states(made, optimizer), checkpoint_id=folder)
        return losses

    def load(rank: int, cut: bool, shape: tuple[int, ...]) -> list[float]:
        made = _two_layers(1, cut, init_device_mesh("cpu", shape) if cut else None)
        optimizer = optim.AdamW(made.parameters(), lr=0.1)
        state = states(made, optimizer)
        checkpoint.load(state, checkpoint_id=folder)
        set_state_dict(
            made,
            optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
        average = optimizer.state[made[0].weight]["exp_avg"]
        assert type(average) is (DTensor if cut else Tensor)
        assert not cut or average.placements == made[0].weight.placements
        return _trained(made, optimizer, 2)

    for losses in spawn_local(2, save):
        np.testing.assert_allclose(losses, wanted[:2], rtol=1e-12)
    for count, cut, shape in ((4, True, (4,)), (1, True, (1,)), (4, True, (2, 2)), (1, False, ())):
        for losses in spawn_local(count, load, cut, shape):
            np.testing.assert_allclose(losses, wanted[2:], rtol=1e-12)


def test_whole_states_are_on_rank_0_and_sent_from_there() -> None:
    whole = _two_layers(0, False)
    plain = optim.AdamW(whole.parameters(), lr=0.1)
    wanted = _trained(whole, plain, 4)

    def fn(rank: int) -> list[float]:
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        made = _two_layers(0, True)
        optimizer = optim.AdamW(made.parameters(), lr=0.1)
        _trained(made, optimizer, 2)
        model_state, optimizer_state = get_state_dict(made, optimizer, options=options)
        if rank:
            assert model_state == optimizer_state == {}
        else:
            assert model_state["0.weight"].shape == (5, 3)
            assert type(optimizer_state["state"]["0.weight"]["exp_avg"]) is Tensor
        other = _two_layers(1, True)
        again = optim.AdamW(other.parameters(), lr=0.5)
        set_state_dict(
            other,
            again,
            model_state_dict=model_state,
            optim_state_dict=optimizer_state,
            options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True),
        )
        assert again.state[other[0].weight]["exp_avg"].placements == (Shard(0),)
        return _trained(other, again, 2)

    for losses in spawn_local(3, fn):
        np.testing.assert_allclose(losses, wanted[2:], rtol=1e-12)


def test_parameters_are_cut_where_a_function_says() -> None:
    def fn(rank: int) -> Any:
        made = _two_layers(0, False)
        fully_shard(made, shard_placement_fn=lambda p: Shard(1) if p.dim() == 2 else None)
        assert made[0].weight.placements == (Shard(1),)
        shapes = [tuple(p.to_local().shape) for p in made.parameters()]
        return shapes, _trained(made, optim.AdamW(made.parameters(), lr=0.1), 3)

    whole = _two_layers(0, False)
    wanted = _trained(whole, optim.AdamW(whole.parameters(), lr=0.1), 3)
    found = spawn_local(2, fn)
    assert found[0][0] == [(5, 2), (3,), (2, 3), (1,)]
    assert found[1][0] == [(5, 1), (2,), (2, 2), (1,)]
    for _, losses in found:
        np.testing.assert_allclose(losses, wanted, rtol=1e-12)


def test_mixed_precision_computes_what_one_process_does() -> None:
    """Parameters and inputs in bfloat16, gradients summed in float32, as by hand."""
    x = flambeau.tensor(np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32))

    def by_hand(rows: Tensor) -> list[Any]:
        flambeau.manual_seed(2)
        net = nn.Linear(6, 5)
        low = [p.detach().bfloat16().requires_grad_() for p in net.parameters()]
        F.linear(rows.bfloat16(), *low).float().square().sum().backward()
        return [p.grad.float().numpy() for p in low]

    halves = [by_hand(half) for half in x.chunk(2)]
    wanted = [(a + b) / 2 for a, b in zip(*halves, strict=True)]

    def fn(rank: int) -> list[Any]:
        flambeau.manual_seed(2)
        policy = MixedPrecisionPolicy(flambeau.bfloat16, flambeau.float32, flambeau.float32)
        net = fully_shard(nn.Linear(6, 5), mp_policy=policy)
        net(x.chunk(2)[rank]).square().sum().backward()
        return [p.grad.full_tensor().numpy() for p in net.parameters()]

    for found in spawn_local(2, fn):
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(got, want)


def test_sums_over_replicas_may_wait() -> None:
    """Two passes whose parts' gradients are summed over replicas once give the sum of both."""

    def fn(rank: int) -> Any:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        net = _two_layers(0, True, mesh)
        x = flambeau.ones(2, 3, dtype=flambeau.float64) * (rank + 1)
        for last in (False, True):
            net.set_requires_all_reduce(last)
            net(x).square().sum().backward()
        once = [p.grad.full_tensor().tolist() for p in net.parameters()]
        net.zero_grad()
        seen: list[Any] = []
        net.set_all_reduce_hook(lambda g: seen.append(g.mul_(2)))
        for _ in range(2):
            net(x).square().sum().backward()
        return once, [p.grad.full_tensor().tolist() for p in net.parameters()], len(seen)

    for once, hooked, seen in spawn_local(4, fn):
        assert seen == 4  # the parameters of the outer module alone, in each pass
        for k, (a, b) in enumerate(zip(once, hooked, strict=True)):
            np.testing.assert_allclose(np.array(a) * (1 if k < 2 else 2), b, rtol=1e-12)


def test_what_to_gather_ahead_can_be_told() -> None:
    """What a module was told lasts, and all that was told is gathered before its own work."""

    def fn(rank: int) -> list[str]:
        net = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3)))
        for layer in net:
            fully_shard(layer)
        net[0].set_modules_to_forward_prefetch([net[1], net[2]])
        x = flambeau.ones(2, 4)
        net(x)
        flambeau.record.flush()
        text = flambeau.explain(lambda: net(x)).recorded
        return [
            word
            for line in text.splitlines()
            for word in ("all_gather", "linear")
            if f" {word}" in line or f"{word}(" in line
        ]

    assert spawn_local(1, fn)[0] == ["all_gather"] * 3 + ["linear"] * 3


def test_steps_are_alike_and_leave_no_tensors_in_cycles() -> None:
    """A tensor that only the collector of cycles frees would make each step's program another."""

    def fn(rank: int) -> None:
        net = _two_layers(0, True)
        optimizer = optim.AdamW(net.parameters(), lr=0.1)
        for _ in range(2):
            _trained(net, optimizer, 2)
        compiled = flambeau.record.counters.compiled
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            _trained(net, optimizer, 2)
            gc.collect()
            assert not [o for o in gc.garbage if isinstance(o, Tensor)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert flambeau.record.counters.compiled == compiled

    spawn_local(1, fn)


def test_a_step_that_was_broken_off_leaves_nothing() -> None:
    def fn(rank: int) -> None:
        net = _two_layers(0, True)
        x = flambeau.ones(2, 3, dtype=flambeau.float64)
        net.set_requires_gradient_sync(False)
        net(x).sum().backward()
        net.reset_iter_state()
        net.set_requires_gradient_sync(True)
        net(x).sum().backward()
        again = _two_layers(0, True)
        again(x).sum().backward()
        for a, b in zip(net.parameters(), again.parameters(), strict=True):
            np.testing.assert_allclose(a.grad.tolist(), b.grad.tolist(), rtol=1e-12)
        with pytest.raises(NotImplementedError, match="custom communications"):
            net.set_custom_all_gather(None)

    spawn_local(2, fn)


class Mixed(nn.Module):
    """Layers of many kinds: a tied weight, a frozen one, statistics, a recurrence."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.again = again
        self.embedding = nn.Embedding(7, 6)
        self.front = nn.Sequential(nn.Conv1d(6, 5, 3, padding=1), nn.BatchNorm1d(5), nn.ReLU())
        self.frozen = nn.Linear(5, 5)
        self.frozen.weight.requires_grad_(False)
        self.recurrent = nn.LSTM(5, 6, batch_first=True)
        self.out = nn.Linear(6, 7)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of (B, T) tokens."""
        x = self.embedding(tokens).transpose(1, 2)
        x = recompute(self.front, x, use_reentrant=False) if self.again else self.front(x)
        x = self.frozen(x.transpose(1, 2)).tanh()
        logits: Tensor = self.out(self.recurrent(x)[0])
        return logits


@pytest.mark.parametrize("again", [False, True])
def test_layers_of_many_kinds(again: bool) -> None:
    tokens = np.random.default_rng(0).integers(0, 7, (4, 5))

    def trained(rank: int, ranks: int, cut: bool) -> Any:
        flambeau.manual_seed(0)
        net = Mixed(again).double().eval()
        if cut:
            for part in (net.front, net.recurrent, net):
                fully_shard(part)
        mine = flambeau.tensor(tokens).chunk(ranks)[rank]
        optimizer = optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(net(mine).flatten(0, 1), mine.flatten()).backward()
            optimizer.step()
        with flambeau.no_grad():
            return net(flambeau.tensor(tokens)).numpy()

    want = trained(0, 1, False)
    for got in spawn_local(2, lambda rank: trained(rank, 2, True)):
        np.testing.assert_allclose(got, want, atol=1e-12)


class _Mixed(nn.Module):
    """Parameters of two dtypes, one that is not trained, and one that a call may leave out."""

    def __init__(self) -> None:
        super().__init__()
        flambeau.manual_seed(3)
        self.scale = nn.Parameter(flambeau.randn(5, dtype=flambeau.float64))
        self.weight = nn.Parameter(flambeau.randn(3, 5))
        self.fixed = nn.Parameter(flambeau.randn(3, 3), requires_grad=False)
        self.spare = nn.Parameter(flambeau.randn(7))

    def forward(self, x: Tensor, spare: bool) -> Tensor:
        out = (x @ self.fixed @ self.weight).double() * self.scale
        return out.square().sum() + (self.spare.sum() if spare else 0)


def test_one_collective_of_a_dtype_gathers_and_sums_a_module() -> None:
    """What has no gradient keeps none, as in one process."""

    def fn(rank: int) -> None:
        plain, net = _Mixed(), fully_shard(_Mixed(), reshard_after_forward=True)
        x = flambeau.ones(2, 3, requires_grad=True)
        for spare in (False, True):

            def step(of: Any = net, spare: bool = spare) -> list[Tensor]:
                of(x, spare).backward()
                return [p.grad for p in of.parameters() if p.grad is not None]

            flambeau.record.flush()
            text = flambeau.explain(step).recorded
            assert text.count("all_gather") == 4
            assert text.count("reduce_scatter") == 2
            net.zero_grad()
            step()
            step(plain)
            for (name, p), q in zip(net.named_parameters(), plain.parameters(), strict=True):
                if q.grad is None:
                    assert p.grad is None, name
                else:
                    assert p.grad.dtype is p.dtype
                    found = p.grad.full_tensor().numpy()
                    np.testing.assert_allclose(found, q.grad.numpy(), rtol=1e-5)
            net.zero_grad()
            plain.zero_grad()

    spawn_local(3, fn)


@pytest.mark.parametrize("reshard", [False, True])
def test_derivatives_of_derivatives(reshard: bool) -> None:
    """Of the norm of a gradient, and forwards."""

    def penalty(net: Any, x: Tensor) -> list[Any]:
        (g,) = flambeau.autograd.grad(net(x).square().sum(), x, create_graph=True)
        g.square().sum().backward()
        with forward_ad.dual_level():
            seeded = forward_ad.make_dual(x, flambeau.ones_like(x))
            tangent = forward_ad.unpack_dual(net(seeded)).tangent
        return [tangent, *(p.grad for p in net.parameters())]

    def fn(rank: int) -> None:
        x = flambeau.tensor(np.random.default_rng(5).normal(size=(4, 3)), requires_grad=True)
        plain, net = _two_layers(0, False), _two_layers(0, False)
        for layer in (net[0], net[2]):
            fully_shard(layer, reshard_after_forward=reshard)
        for a, b in zip(penalty(net, x), penalty(plain, x), strict=True):
            whole = a.full_tensor() if isinstance(a, DTensor) else a
            np.testing.assert_allclose(whole.detach().numpy(), b.detach().numpy(), rtol=1e-9)

    spawn_local(2, fn)


def test_one_or_two_modules_are_whole_at_a_time() -> None:
    """A step's temporary memory does not grow with the number of modules but by their results."""

    def fn(rank: int, layers: int) -> Any:
        net = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(layers)))
        for layer in net:
            fully_shard(layer)
        x = flambeau.ones(2, 256, requires_grad=True)

        def step() -> list[Tensor]:
            net(x).square().sum().backward()
            return [p.grad for p in net.parameters()]

        step()  # after which each module knows its neighbours
        flambeau.record.flush()
        return flambeau.explain(step).peak

    one = 256 * 256 * 4
    few, many = (spawn_local(2, fn, layers)[0] for layers in (4, 12))
    # half of a parameter stays, and half of its gradient, twice
    assert (many - few) / 8 < 1.6 * one
