"""Plain programs inside `context_parallel`, and functions of the parts of distributed tensors: what
they give is what one process gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.distributed import functional
from flambeau.distributed.groups import spawn_local
from flambeau.distributed.tensor import (
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
    init_device_mesh,
)
from flambeau.distributed.tensor.experimental import (
    context_parallel,
    implicit_replication,
    local_map,
)
from flambeau.distributed.tensor.experimental._attention import (
    _context_parallel_shard,
    _cp_options,
    _HeadTailLoadBalancer,
    _LoadBalancer,
    _PerDocumentHeadTailLoadBalancer,
    _PTRRLoadBalancer,
    context_parallel_unshard,
    set_rotate_method,
)
from flambeau.nn.attention.flex_attention import create_block_mask, flex_attention

pytestmark = pytest.mark.timeout(120)
B, H, L, E = 2, 2, 16, 8


class Net(nn.Module):
    """A program that knows nothing of ranks: positions, attention, a loss."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(H * E, (H + 2 * heads) * E, dtype=flambeau.float64)
        positions = flambeau.arange(L, dtype=flambeau.float64).sin()
        self.register_buffer("positions", positions.unsqueeze(-1))

    def forward(self, x: Any) -> Any:
        """Of (B, L, H * E)."""
        sizes = [n * E for n in (H, self.heads, self.heads)]
        parts = self.project(x + self.positions).split(sizes, -1)
        q, k, v = (t.unflatten(-1, (-1, E)).transpose(1, 2) for t in parts)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != H)
        return out.transpose(1, 2).flatten(2)


@pytest.fixture(params=["allgather", "alltoall"])
def method(request: Any) -> Any:
    set_rotate_method(request.param)
    yield request.param
    set_rotate_method("allgather")


@pytest.mark.parametrize(
    ("ranks", "balanced", "heads"), [(2, True, 2), (2, False, 1), (4, True, 1)]
)
def test_a_plain_program_in_parts(method: str, ranks: int, balanced: bool, heads: int) -> None:
    values = np.random.default_rng(0).normal(size=(B, L, H * E))
    flambeau.manual_seed(0)
    net = Net(heads)
    want = net(flambeau.tensor(values))
    want.square().sum().backward()
    state = net.state_dict()

    def program(rank: int) -> Any:
        mesh = init_device_mesh("cpu", (ranks,))
        mine = Net(heads)
        mine.load_state_dict(state)
        x = flambeau.tensor(values)
        buffers = [x, mine.positions]
        with context_parallel(
            mesh, buffers=buffers, buffer_seq_dims=[1, 0], no_restore_buffers={x}
        ):
            assert mine.positions.shape == (L // ranks, 1)
            out = mine(x)
            out.square().sum().backward()
            (whole,) = context_parallel_unshard(mesh, [out], [1])
        assert x.shape == (B, L // ranks, H * E)
        np.testing.assert_array_equal(mine.positions.tolist(), net.positions.tolist())
        summed = functional.all_reduce(mine.project.weight.grad, "sum", mesh.get_group())
        return whole.numpy(), summed.numpy()

    _cp_options.enable_load_balance = balanced
    try:
        for out, grad in spawn_local(ranks, program):
            np.testing.assert_allclose(out, want.detach().numpy(), atol=1e-10)
            np.testing.assert_allclose(grad, net.project.weight.grad.numpy(), atol=1e-9)
    finally:
        _cp_options.enable_load_balance = True


@pytest.mark.parametrize("method", ["allgather", "alltoall"])
@pytest.mark.parametrize("shape", [(16, 16), (3, 16, 16), (2, 1, 16, 16)])
def test_masks_inside_context_parallel(method: str, shape: tuple[int, ...]) -> None:
    """Of bools where they are of all batches, else of numbers; over the whole sequence."""

    def program(rank: int) -> None:
        flambeau.manual_seed(0)
        x = flambeau.randn(2, 3, 16, 8, dtype=flambeau.float64)
        mask = flambeau.randn(*shape, dtype=flambeau.float64)
        if len(shape) < 4:
            mask = (mask > 0) | flambeau.eye(16, dtype=flambeau.bool)
        whole = x.clone().requires_grad_()
        wanted = F.scaled_dot_product_attention(whole, whole, whole, mask)
        wanted.square().sum().backward()
        mesh = init_device_mesh("cpu", (2,))
        with context_parallel(mesh, buffers=[x], buffer_seq_dims=[2]):
            x.requires_grad_()
            part = F.scaled_dot_product_attention(x, x, x, mask)
            part.square().sum().backward()
            found = context_parallel_unshard(mesh, [part.detach(), x.grad], [2, 2])
            with pytest.raises(RuntimeError, match="over the whole sequence"):
                F.scaled_dot_product_attention(x, x, x, mask[..., :8, :8])
            with pytest.raises(RuntimeError, match="when is_causal=True"):
                F.scaled_dot_product_attention(x, x, x, mask, is_causal=True)
            x.requires_grad_(False)
        for a, b in zip(found, (wanted.detach(), whole.grad), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9)

    set_rotate_method(method)
    try:
        spawn_local(2, program)
    finally:
        set_rotate_method("allgather")


DOCUMENTS = [[4, 12], [8, 8]]


def within_documents(b: Any, h: Any, q: Any, k: Any) -> Any:
    """Causal, within documents that differ from one sequence to the next."""
    of = flambeau.tensor(np.stack([np.repeat([0, 1], lengths) for lengths in DOCUMENTS]))
    return (of[b, q] == of[b, k]) & (q >= k)


def alibi(s: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
    return s - 0.1 * (q - k) * (h + 1)


class Shuffled(_LoadBalancer):
    """A balancer that a program wrote."""

    def _generate_indices(self, restore: bool = False) -> Any:
        order = flambeau.tensor(np.random.default_rng(0).permutation(L)).unsqueeze(0)
        return order.argsort(-1) if restore else order


BALANCERS = {
    "default": lambda mask: None,
    "head and tail": lambda mask: _HeadTailLoadBalancer(L, 2, "cpu"),
    "documents": lambda mask: _PerDocumentHeadTailLoadBalancer(DOCUMENTS, 2, "cpu"),
    "blocks": lambda mask: _PTRRLoadBalancer(mask, 2),
    "own": lambda mask: Shuffled(),
}


@pytest.mark.parametrize("balancer", BALANCERS)
def test_flex_attention_inside_context_parallel(method: str, balancer: str) -> None:
    def program(rank: int) -> None:
        flambeau.manual_seed(0)
        x = flambeau.randn(2, 3, L, E, dtype=flambeau.float64)
        mask = create_block_mask(within_documents, 2, None, L, L, BLOCK_SIZE=2)
        whole = x.clone().requires_grad_()
        wanted = flex_attention(whole, whole, whole, alibi, mask)
        wanted.square().sum().backward()
        mesh = init_device_mesh("cpu", (2,))
        chosen = BALANCERS[balancer](mask)
        with context_parallel(mesh, buffers=[x], buffer_seq_dims=[2], load_balancer=chosen):
            x.requires_grad_()
            part = flex_attention(x, x, x, score_mod=alibi, block_mask=mask)
            part.square().sum().backward()
            parts = [part.detach(), x.grad]
            found = context_parallel_unshard(mesh, parts, [2, -2], load_balancer=chosen)
            x.requires_grad_(False)
        for a, b in zip(found, (wanted.detach(), whole.grad), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9)

    spawn_local(2, program)


def test_balancers_give_ranks_as_much_to_do() -> None:
    mask = create_block_mask(within_documents, 2, None, L, L, BLOCK_SIZE=1)
    seen = mask.to_dense()[:, 0].sum(-1).numpy()  # keys of each query
    for ranks, documents in ((2, DOCUMENTS), (4, [[8, 8], [16]])):
        per_document = _PerDocumentHeadTailLoadBalancer(documents, ranks)
        order = per_document._generate_indices().numpy()
        back = per_document._generate_indices(restore=True).numpy()
        for positions, places, lengths in zip(order, back, documents, strict=True):
            np.testing.assert_array_equal(positions[places], np.arange(L))
            within = np.concatenate([np.arange(1, n + 1) for n in lengths])
            assert len(set(within[positions].reshape(ranks, -1).sum(1))) == 1
    order = _PTRRLoadBalancer(mask, 2)._generate_indices().numpy()
    work = np.take_along_axis(seen, order, 1).reshape(2, 2, -1).sum(-1)
    assert np.abs(work[:, 0] - work[:, 1]).max() <= 1
    times = flambeau.tensor([9, 14, 2, 20, 10, 15, 8, 14, 16, 19, 15, 3, 12, 1, 12, 10])
    groups = _PTRRLoadBalancer.ptrr_scheduling(times, 4).tolist()  # as in torch's text
    assert groups == [[3, 12, 13, 14], [2, 4, 7, 9], [1, 8, 11, 15], [0, 5, 6, 10]]


def test_what_balancers_refuse() -> None:
    mask = create_block_mask(within_documents, 2, None, L, L, BLOCK_SIZE=(2, 4))
    for make, said in (
        (lambda: _HeadTailLoadBalancer(6, 2), "cannot be cut into 4 equal pieces"),
        (lambda: _PerDocumentHeadTailLoadBalancer([[4, 6]], 2), "cannot be cut into 4"),
        (lambda: _PTRRLoadBalancer(mask, 2), "blocks of 2 queries and 4 keys"),
        (lambda: _PTRRLoadBalancer(create_block_mask(earlier, 1, 1, L, L), 2), "shared by 2"),
    ):
        with pytest.raises(ValueError, match=said):
            make()

    def program(rank: int) -> None:
        mesh = init_device_mesh("cpu", (2,))
        documents = _PerDocumentHeadTailLoadBalancer(DOCUMENTS, 2)
        for shape, dim in (((3, L), 1), ((L, 2), 0)):
            with pytest.raises(ValueError, match="has no positions of 2 sequences"):
                _context_parallel_shard(mesh, [flambeau.zeros(*shape)], [dim], documents)
        with pytest.raises(ValueError, match="load balance index expects shape"):
            _context_parallel_shard(mesh, [flambeau.zeros(2, 8)], [1], documents)
        x = flambeau.zeros(2, 1, 8, E)
        with context_parallel(mesh):
            with pytest.raises(NotImplementedError, match="gives values alone"):
                flex_attention(x, x, x, return_lse=True)
            half = create_block_mask(earlier, 1, 1, 8, L)
            with pytest.raises(ValueError, match="over the whole sequence of 16 was expected"):
                flex_attention(x, x, x, block_mask=half)

    spawn_local(2, program)


def earlier(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q >= k


def test_what_context_parallel_refuses() -> None:
    def program(rank: int) -> None:
        mesh = init_device_mesh("cpu", (2,))
        x = flambeau.zeros(1, 1, 4, 4)
        with pytest.raises(ValueError, match="same number of elements"):
            context_parallel(mesh, buffers=[x], buffer_seq_dims=[]).__enter__()
        with pytest.raises(ValueError, match="must be a subset"):
            context_parallel(mesh, no_restore_buffers={x}).__enter__()
        with context_parallel(mesh):
            with pytest.raises(NotImplementedError, match="with dropout_p inside"):
                F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
            with pytest.raises(NotImplementedError, match="of one sequence"):
                F.scaled_dot_product_attention(x, x[:, :, :2], x[:, :, :2])

    spawn_local(2, program)
    with pytest.raises(NotImplementedError, match="using ring for kv"):
        set_rotate_method("ring")


def test_local_map_of_a_product_in_parts() -> None:
    a, b = (np.random.default_rng(k).normal(size=(4, 4)) for k in range(2))

    def program(rank: int) -> None:
        mesh = init_device_mesh("cpu", (2,))

        @local_map(
            out_placements=[Partial()], in_placements=([Shard(1)], [Shard(0)]),
            redistribute_inputs=True,
        )  # fmt: skip
        def product(x: Any, y: Any) -> Any:
            assert x.shape == (4, 2)
            return x @ y

        x = distribute_tensor(flambeau.tensor(a), mesh, [Shard(0)]).requires_grad_()
        y = distribute_tensor(flambeau.tensor(b), mesh, [Shard(0)])
        found = product(x, y)
        assert found.placements == (Partial(),)
        np.testing.assert_allclose(found.tolist(), a @ b, atol=1e-12)
        found.full_tensor().sum().backward()
        np.testing.assert_allclose(x.grad.tolist(), np.ones((4, 4)) @ b.T, atol=1e-12)
        strict = local_map(lambda t: t, [Shard(0)], ([Shard(1)],))
        with pytest.raises(ValueError, match="mismatched placements"):
            strict(x)

    spawn_local(2, program)


def test_plain_tensors_are_whole_ones_where_that_is_said() -> None:
    def program(rank: int) -> None:
        mesh = init_device_mesh("cpu", (2,))
        x = distribute_tensor(flambeau.ones(4), mesh, [Shard(0)])
        plain = flambeau.arange(4.0)
        for _ in range(2):
            with implicit_replication():
                assert (x * plain).tolist() == [0, 1, 2, 3]
            with pytest.raises(RuntimeError, match="mixed"):
                x * plain
        y = distribute_tensor(flambeau.ones(4), mesh, [Replicate()])
        with implicit_replication():
            mixed: Any = y + plain
            assert mixed.placements == (Replicate(),)

    spawn_local(2, program)
