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
    _cp_options,
    context_parallel_unshard,
    set_rotate_method,
)

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
