"""Distributed tensors: every call agrees with the plain one, forwards and backwards, however its
arguments lie."""

from __future__ import annotations

import copy
import functools
import io
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.distributed.groups import spawn_local
from flambeau.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
    init_device_mesh,
    randn,
    zeros,
)
from flambeau.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleOutput,
    loss_parallel,
    parallelize_module,
)
from tests.distributed.forms import GPT, PLANS, Setting
from tests.table import cases

pytestmark = pytest.mark.timeout(120)
PUBLIC = [name for name in cases.SAMPLED if cases.public(name) is not None]
#: Rows whose own derivative leaves out what their body's has, and calls that cannot agree.
APART = {
    "native_batch_norm": "no gradient goes through the statistics that it returns",
    "native_layer_norm": "no gradient goes through the statistics that it returns",
    "istft": "the sample's result is not differentiable on parts of complex numbers",
}


def ranks(shape: tuple[int, ...], fn: Any) -> list[Any]:
    """Run fn(mesh, rank) on a mesh of threads."""

    def run(rank: int) -> Any:
        return fn(init_device_mesh("cpu", shape), rank)

    return spawn_local(math.prod(shape), run, timeout=60)


def lie(t: Any, mesh: Any, rng: np.random.Generator) -> DTensor:
    """A leaf that lies in one of all ways."""
    ways: list[Any] = [Replicate(), *(Shard(d) for d in range(t.dim()))]
    ways += [Partial()] if t.dtype.is_floating_point else []
    chosen = [ways[rng.integers(len(ways))] for _ in range(mesh.ndim)]
    plain = distribute_tensor(t.detach(), mesh, src_data_rank=None)
    return plain.redistribute(mesh, chosen).detach().requires_grad_(t.requires_grad)


def whole(t: Any) -> Any:
    return t.full_tensor() if isinstance(t, DTensor) else t


def _laid(laid: dict[int, DTensor], t: Any) -> DTensor:
    return laid[id(t)]


def check(name: str, mesh: Any) -> None:
    """One row's samples, each with its arguments lying in some way."""
    function = cases.public(name)
    rng = np.random.default_rng([mesh.size(), *name.encode()])
    for call in cases.calls(name, cases.Draw(flambeau.float64, grad=True))[:2]:
        given = cases.tensors([*call.args, *call.kwargs.values()])
        flambeau.manual_seed(1)
        try:
            want = cases.tensors(function(*call.args, **call.kwargs))
        except cases.REFUSALS:
            continue
        laid = {id(t): lie(t, mesh, rng) for t in given}
        if not laid:
            continue
        how = f"{name} of {[t.placements for t in laid.values()]}"
        args = cases.mapped(call.args, functools.partial(_laid, laid))
        kwargs = cases.mapped(call.kwargs, functools.partial(_laid, laid))
        flambeau.manual_seed(1)
        got = [whole(t) for t in cases.tensors(function(*args, **kwargs))]
        for g, w in zip(got, want, strict=True):
            kind = w.dtype.name if w.dtype.is_floating_point else "float64"
            assert not cases.difference(cases.array(g), cases.array(w), kind, 100), how
        losses = cases.weighted(want), cases.weighted(got)
        if losses[0] is None:
            continue
        for t in given:  # samples may share some
            t.grad = None
        for total in losses:
            total.backward()
        for t in given:
            g = laid[id(t)].grad
            if t.grad is not None:
                zero = np.zeros(tuple(t.shape), t.dtype.numpy)
                found = zero if g is None else cases.array(whole(g))
                difference = cases.difference(found, cases.array(t.grad), "float64", 100)
                assert not difference, f"gradient of {how}: {difference}"


@pytest.mark.parametrize("name", [n for n in PUBLIC[::8] if n not in APART])
def test_calls_agree_with_plain_ones(name: str) -> None:
    ranks((2,), lambda mesh, rank: check(name, mesh))


@pytest.mark.parametrize(
    "name",
    ["matmul", "linear", "softmax", "layer_norm", "cat", "reshape", "sum", "mean", "var", "gather",
     "embedding", "gelu", "where", "mul", "transpose", "stack", "pad", "cumsum", "flip"],
)  # fmt: skip
def test_calls_agree_on_meshes_of_two_axes(name: str) -> None:
    ranks((2, 2), lambda mesh, rank: check(name, mesh))


WAYS = [Replicate(), Shard(0), Shard(1), Partial()]


@pytest.mark.parametrize(("shape", "step"), [((4, 6), 5), ((5, 3), 3), ((1, 2), 7)])
def test_redistribute_between_placements(shape: tuple[int, int], step: int) -> None:
    ways = list(itertools.product(WAYS, repeat=4))[::step]

    def run(mesh: Any, rank: int) -> None:
        values = np.random.default_rng(0).normal(size=shape)
        weights = flambeau.tensor(np.random.default_rng(1).normal(size=shape))
        for *have, first, second in ways:
            laid = distribute_tensor(flambeau.tensor(values), mesh).redistribute(mesh, have)
            leaf = laid.detach().requires_grad_()
            made = leaf.redistribute(mesh, (first, second))
            assert made.placements == (first, second)
            (made.full_tensor() * weights).sum().backward()
            np.testing.assert_allclose(leaf.grad.tolist(), weights.tolist(), atol=1e-12)
            np.testing.assert_allclose(made.tolist(), values, atol=1e-12)

    ranks((2, 2), run)


def test_parts_are_those_of_chunk() -> None:
    x = flambeau.arange(21.0).reshape(7, 3)

    def run(mesh: Any, rank: int) -> None:
        d = distribute_tensor(x, mesh, [Shard(0)])
        want = x.chunk(3)[rank]
        assert d.to_local().tolist() == want.tolist()
        assert tuple(d.shape) == (7, 3)
        assert d.numel() == 21
        assert d.stride() == (3, 1)
        again = DTensor.from_local(d.to_local(), mesh, [Shard(0)], shape=(7, 3))
        assert again.tolist() == x.tolist()

    ranks((3,), run)


def test_gradients_pass_between_parts_and_the_whole() -> None:
    def run(mesh: Any, rank: int) -> None:
        x = flambeau.tensor([1.0, 2.0], requires_grad=True)
        d = DTensor.from_local(x, mesh, [Replicate()])
        w = distribute_tensor(flambeau.tensor([3.0, 5.0]), mesh, [Shard(0)])
        (d * w).sum().full_tensor().backward()
        assert x.grad.tolist() == [3.0, 5.0]
        y = distribute_tensor(flambeau.tensor([1.0, 2.0], requires_grad=True), mesh)
        part = y.to_local(grad_placements=[Partial()])
        (part * (rank + 1)).sum().backward()  # each rank makes its own use of it
        assert y.grad.placements == (Replicate(),)
        assert y.grad.tolist() == [3.0, 3.0]

    ranks((2,), run)


def test_writes_and_optimizers_keep_the_layout() -> None:
    def run(mesh: Any, rank: int) -> Any:
        flambeau.manual_seed(3)
        w = flambeau.randn(4, 3, dtype=flambeau.float64, requires_grad=True)
        x = flambeau.randn(5, 4, dtype=flambeau.float64)
        d = nn.Parameter(distribute_tensor(w, mesh, [Shard(0)]))
        assert isinstance(d, DTensor)
        assert isinstance(d, nn.Parameter)
        laid = distribute_tensor(x, mesh)
        for p, given in ((w, x), (d, laid)):
            optimizer = flambeau.optim.AdamW([p], lr=0.1)
            for _ in range(3):
                whole((given @ p).square().mean()).backward()
                nn.utils.clip_grad_norm_([p], 0.5)
                optimizer.step()
                optimizer.zero_grad()
        assert d.placements == (Shard(0),)
        state = optimizer.state[d]["exp_avg"]
        assert state.to_local().shape == (2, 3)
        np.testing.assert_allclose(d.tolist(), w.tolist(), atol=1e-12)
        with flambeau.no_grad():
            d.mul_(2).add_(1)
        np.testing.assert_allclose(d.tolist(), (w * 2 + 1).tolist(), atol=1e-12)
        return True

    assert all(ranks((2,), run))


def test_what_is_made_whole_leaves_its_source_alone() -> None:
    def run(mesh: Any, rank: int) -> None:
        terms = DTensor.from_local(flambeau.tensor([rank + 1.0]), mesh, [Partial()])
        assert terms.flip(0).tolist() == terms.tolist() == [3.0]
        for same in (terms.cpu(), terms.to("cpu", copy=True), terms.to(flambeau.float64)):
            assert same.placements == terms.placements
            assert same.tolist() == [3.0]
        assert terms.to_local().tolist() == [rank + 1.0]

    ranks((2,), run)


def test_factories_and_what_is_refused() -> None:
    def run(mesh: Any, rank: int) -> None:
        flambeau.manual_seed(5)
        made = randn(4, 2, device_mesh=mesh, placements=[Shard(0)])
        flambeau.manual_seed(5)
        assert made.tolist() == flambeau.randn(4, 2).tolist()
        assert zeros(3, device_mesh=mesh).tolist() == [0, 0, 0]
        with pytest.raises(RuntimeError, match=r"mixed torch.Tensor and DTensor"):
            made + flambeau.ones(4, 2)
        with pytest.raises(RuntimeError, match="full_tensor"):
            made.numpy()
        with pytest.raises(TypeError, match=r"distributed\.checkpoint"):
            flambeau.save({"w": made}, io.BytesIO())
        with pytest.raises(TypeError, match="full_tensor"):
            pickle.dumps(made)
        made.copy_(flambeau.ones(4, 2))  # whole on every rank
        assert made.tolist() == [[1, 1]] * 4
        with pytest.raises(ValueError, match="same length as"):
            distribute_tensor(flambeau.ones(2), mesh, [Shard(0), Shard(0)])
        with pytest.raises(RuntimeError, match="is not this rank's"):
            DTensor.from_local(flambeau.ones(2), mesh, [Shard(0)], shape=(7,))
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            made @ made
        with pytest.raises(NotImplementedError, match=r"only supports nn\.Linear"):
            parallelize_module(nn.LayerNorm(2), mesh, ColwiseParallel())
        with pytest.raises(ValueError, match="no submodule is called"):
            parallelize_module(nn.Linear(2, 2), mesh, {"up": ColwiseParallel()})

    ranks((2,), run)


@pytest.mark.parametrize("index", [4, -1])
def test_an_index_that_no_rank_has_raises(index: int) -> None:
    def run(mesh: Any, rank: int) -> Any:
        table = distribute_tensor(flambeau.ones(4, 2), mesh, [Shard(0)])
        return F.embedding(distribute_tensor(flambeau.tensor([index, 3]), mesh), table).tolist()

    with pytest.raises(IndexError, match="index out of range"):
        ranks((2,), run)


@pytest.mark.parametrize("smooth", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_of_split_classes(reduction: str, smooth: float) -> None:
    x = np.random.default_rng(0).normal(size=(6, 7)) * 3
    target = flambeau.tensor([0, 6, 3, -100, 2, 5])

    def run(mesh: Any, rank: int) -> None:
        how = {"reduction": reduction, "label_smoothing": smooth}
        plain = flambeau.tensor(x, requires_grad=True)
        want = F.cross_entropy(plain, target, **how)
        want.sum().backward()
        logits = distribute_tensor(flambeau.tensor(x), mesh, [Shard(1)]).requires_grad_()
        with loss_parallel():
            got = F.cross_entropy(logits, target, **how)
        np.testing.assert_allclose(got.tolist(), want.tolist(), atol=1e-12)
        got.sum().backward()
        assert logits.grad.placements == (Shard(1),)
        np.testing.assert_allclose(logits.grad.tolist(), plain.grad.tolist(), atol=1e-12)

    ranks((3,), run)


# -- a GPT -----------------------------------------------------------------------------------------


def test_copies_and_state_of_a_parallel_module() -> None:
    def run(mesh: Any, rank: int) -> None:
        model = parallelize_module(GPT(Setting()).double(), mesh, PLANS["tensor"])
        up = model.layers[1].up.weight
        assert up.placements == (Shard(0),)
        assert up.to_local().shape == (16, 8)
        other = copy.deepcopy(model)
        assert isinstance(other.back.head.weight, nn.Parameter)
        assert other.back.head.weight.placements == (Shard(0),)
        flambeau.manual_seed(9)
        plain = GPT(Setting()).double()
        other.load_state_dict(plain.state_dict())
        x = flambeau.tensor([[1, 2, 3]])
        np.testing.assert_allclose(other(x).tolist(), plain(x).tolist(), atol=1e-12)
        model.load_state_dict(other.state_dict())
        np.testing.assert_allclose(model(x).tolist(), plain(x).tolist(), atol=1e-12)

    ranks((2,), run)


def test_a_module_is_distributed_as_its_functions_say() -> None:
    def run(mesh: Any, rank: int) -> None:
        flambeau.manual_seed(0)
        module = nn.Linear(4, 2)
        x = flambeau.randn(6, 4)
        want = module(x)
        made = distribute_module(
            module,
            mesh,
            input_fn=lambda m, inputs, mesh: (distribute_tensor(inputs[0], mesh, [Shard(0)]),),
            output_fn=lambda m, outputs, mesh: outputs,
        )
        got = made(x)
        assert got.placements == (Shard(0),)
        np.testing.assert_allclose(got.tolist(), want.tolist(), atol=1e-6)
        out = PrepareModuleOutput(output_layouts=Shard(0), desired_output_layouts=Replicate())
        made = parallelize_module(made, mesh, out)
        assert made(x).tolist() == got.tolist()

    ranks((2,), run)


def test_rows_stay_where_they_are() -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=s) for s in ((2, 4, 6), (5, 6), (5,), (6,))]

    def run(mesh: Any, rank: int) -> None:
        for way in (Shard(0), Shard(1), Shard(2), Replicate()):
            laid, plain = [], []
            for k, a in enumerate(arrays):
                t = flambeau.tensor(a)
                laid.append(distribute_tensor(t, mesh, [way if not k else Replicate()]))
                plain.append(t.clone())
            for t in (*laid, *plain):
                t.requires_grad_()
            results = []
            for x, w, b, scale in (laid, plain):
                normed = F.layer_norm(x, (6,), scale)
                out = F.linear(F.rms_norm(normed, (6,), scale), w, b)
                out.square().sum().backward()
                results.append((normed, out))
            if way != Shard(2):
                assert [t.placements for t in results[0]] == [(way,)] * 2
            np.testing.assert_allclose(whole(results[0][1]).tolist(), results[1][1].tolist())
            for got, want in zip(laid, plain, strict=True):
                np.testing.assert_allclose(whole(got.grad).tolist(), want.grad.tolist(), atol=1e-9)

    ranks((2,), run)


def test_terms_whose_mean_is_meant() -> None:
    def run(mesh: Any, rank: int) -> None:
        term = flambeau.full((2,), rank + 1.0).requires_grad_()
        found = DTensor.from_local(term, mesh, [Partial("avg")])
        assert found.full_tensor().tolist() == [1.5, 1.5]
        found.full_tensor().sum().backward()
        assert term.grad.tolist() == [0.5, 0.5]
        with pytest.raises(NotImplementedError, match=r"Partial.max.: terms are added up"):
            DTensor.from_local(term.detach(), mesh, [Partial("max")])
        assert [str(p) for p in (Shard(1), Replicate(), Partial())] == ["S(1)", "R", "P(sum)"]

    ranks((2,), run)
