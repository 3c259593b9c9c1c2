"""What a region of autocast does: dtypes, nesting, the cache of weights, gradients, decorators."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import amp, bfloat16, float16, float32, float64, record
from flambeau.nn import functional as F
from flambeau.ops.rows import ROWS
from tests.conftest import HAS_TORCH

if HAS_TORCH:
    pass

half = pytest.mark.parametrize("dtype", [bfloat16, float16])


@pytest.fixture(autouse=True)
def _off_again() -> Iterator[None]:
    yield
    assert not flambeau.is_autocast_enabled("cpu")
    assert flambeau.get_autocast_dtype("cpu") is bfloat16


def rand(*shape: int, seed: int = 0, dtype: Any = float32, grad: bool = False) -> Any:
    """Standard normal values."""
    values = np.random.default_rng(seed).standard_normal(shape)
    t = flambeau.tensor(values).to(dtype)
    return t.requires_grad_(grad)


def rounded(t: Any, dtype: Any = bfloat16) -> np.ndarray:
    """The values after rounding to a dtype, as float64."""
    return t.detach().to(dtype).to(float64).numpy()


# -- dtypes and values -----------------------------------------------------------------------------


@half
def test_products_run_in_the_low_dtype(dtype: Any) -> None:
    a, b = rand(5, 7), rand(7, 3, seed=1)
    with flambeau.autocast("cpu", dtype):
        c = a @ b
    assert c.dtype is dtype
    exact = rounded(a, dtype) @ rounded(b, dtype)
    np.testing.assert_allclose(c.to(float64).numpy(), exact, rtol=2**-7, atol=2**-7)


def test_losses_run_in_float32() -> None:
    a, b = rand(6, dtype=bfloat16), rand(6, seed=1, dtype=bfloat16)
    with flambeau.autocast("cpu"):
        loss = F.mse_loss(a, b)
    assert loss.dtype is float32
    exact = np.mean((rounded(a) - rounded(b)) ** 2)
    np.testing.assert_allclose(loss.item(), exact, rtol=1e-6)
    assert F.mse_loss(a, b).dtype is bfloat16


def test_joining_takes_the_widest() -> None:
    low, full = rand(2, dtype=bfloat16), rand(2)
    with flambeau.autocast("cpu"):
        assert flambeau.cat([low, full]).dtype is float32
        assert flambeau.stack((low, low)).dtype is bfloat16
        assert flambeau.cat([full, full.double()]).dtype is float64


def test_everything_else_computes_in_what_it_is_given() -> None:
    with flambeau.autocast("cpu"):
        for dtype in (bfloat16, float32):
            x = rand(3, 4, dtype=dtype)
            for y in (x + 1, x.exp(), F.softmax(x, -1), F.layer_norm(x, (4,)), x.sum(), F.gelu(x)):
                assert y.dtype is dtype


def test_float64_and_integers_are_left_alone() -> None:
    with flambeau.autocast("cpu"):
        assert (rand(2, 2, dtype=float64) @ rand(2, 2, dtype=float64)).dtype is float64
        n = flambeau.arange(4).reshape(2, 2)
        assert (n @ n).dtype is flambeau.int64


def test_forms_that_write_are_left_alone() -> None:
    a, b = rand(3, 3), rand(3, 3, seed=1)
    out = flambeau.empty(3, 3)
    with flambeau.autocast("cpu"):
        flambeau.mm(a, b, out=out)
        total = a.clone().addmm_(a, b)
    exact = a.double().numpy() @ b.double().numpy()
    np.testing.assert_allclose(out.numpy(), exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total.numpy(), a.numpy() + exact, rtol=1e-5, atol=1e-5)


def test_the_body_of_a_row_is_not_converted_again() -> None:
    """`mv` is on no list, though it is written as a product; a kept row's body likewise."""
    with flambeau.autocast("cpu"):
        assert flambeau.mv(rand(3, 3), rand(3)).dtype is float32
        assert flambeau.dot(rand(3), rand(3)).dtype is float32
        q = rand(1, 2, 4, 8)
        assert F.scaled_dot_product_attention(q, q, q).dtype is bfloat16
        assert F.layer_norm(rand(2, 4), (4,)).dtype is float32


def test_keywords_lists_and_views_are_converted() -> None:
    x, w = rand(4, 6), rand(3, 6, seed=1)
    with flambeau.autocast("cpu"):
        y = F.linear(input=x.t().contiguous().t(), weight=w, bias=None)
        z = flambeau.einsum("ij,kj->ik", [x[:, ::1], w])
    assert y.dtype is z.dtype is bfloat16
    np.testing.assert_array_equal(y.float().numpy(), z.float().numpy())


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (2, 0, 3), (3,)])
def test_odd_sizes(shape: tuple[int, ...]) -> None:
    w = rand(2, 3, grad=True)
    with flambeau.autocast("cpu"):
        y = F.linear(rand(*shape), w)
    assert y.dtype is bfloat16
    assert tuple(y.shape) == (*shape[:-1], 2)
    y.float().sum().backward()
    assert w.grad.dtype is float32


# -- gradients and the cache -----------------------------------------------------------------------


def test_gradients_have_their_leaves_dtypes() -> None:
    x, w = rand(5, 4, grad=True), rand(3, 4, seed=1, grad=True)
    b = rand(3, seed=2, grad=True)
    with flambeau.autocast("cpu"):
        y = F.linear(x, w, b)
        loss = F.mse_loss(y, flambeau.zeros(5, 3))
    loss.backward()
    assert x.grad.dtype is w.grad.dtype is b.grad.dtype is float32
    g = 2 * y.double().detach().numpy() / 15
    np.testing.assert_allclose(w.grad.numpy(), g.T @ rounded(x), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(x.grad.numpy(), g @ rounded(w), rtol=0.02, atol=0.02)


def test_backward_in_a_region_computes_as_outside() -> None:
    w = rand(3, 4, grad=True)
    grads = []
    for inside in (False, True):
        with flambeau.autocast("cpu"):
            loss = F.linear(rand(5, 4, seed=1), w).square().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        grads.append(w.grad.numpy().copy())
        w.grad = None
    np.testing.assert_array_equal(*grads)


def casts(graph: Any) -> int:
    """Conversions to bfloat16 in a program."""
    return sum(n.op.name == "cast" and n.dtype is bfloat16 for n in graph.nodes)


def test_a_weight_is_converted_once() -> None:
    w = rand(4, 4, grad=True)
    x = rand(2, 4, dtype=bfloat16, seed=1)
    w.tolist(), x.tolist()
    with flambeau.autocast("cpu"):
        y = F.linear(x, w)
        with flambeau.autocast("cpu"):
            z = F.linear(y, w)
    assert casts(record.pending_graph()) == 1
    z.float().sum().backward()
    assert w.grad.dtype is float32
    record.flush()
    with flambeau.autocast("cpu", cache_enabled=False):
        y = F.linear(x, w)
        z = F.linear(y, w)
    assert casts(record.pending_graph()) == 2


def test_the_cache_ends_with_the_outermost_region() -> None:
    w = rand(2, 2, grad=True)
    x = flambeau.eye(2)
    with flambeau.autocast("cpu"):
        before = (x @ w).float().tolist()
    with flambeau.no_grad():
        w.mul_(2)
    with flambeau.autocast("cpu"):
        after = (x @ w).float()
        with flambeau.no_grad():
            w.mul_(2)  # unlike torch's, the cache sees writes
        last = (x @ w).float()
    np.testing.assert_allclose(after.tolist(), 2 * np.array(before))
    np.testing.assert_allclose(last.tolist(), 4 * np.array(before))


def test_a_conversion_without_history_is_not_used_where_one_is_wanted() -> None:
    w = rand(2, 2, grad=True)
    x = flambeau.eye(2)
    with flambeau.autocast("cpu"):
        with flambeau.no_grad():
            _ = x @ w
        y = x @ w
        assert y.requires_grad
    y.float().sum().backward()
    assert w.grad is not None


def test_flushes_inside_a_region_change_nothing() -> None:
    w = rand(4, 4, grad=True)
    with flambeau.autocast("cpu"):
        y = F.linear(rand(2, 4), w)
        y.tolist()
        z = F.gelu(F.linear(y, w))
        z.tolist()
    assert z.dtype is bfloat16
    z.float().sum().backward()
    assert bool(flambeau.isfinite(w.grad).all())


# -- the region itself -----------------------------------------------------------------------------


def test_nesting() -> None:
    x = rand(2, 2)
    with flambeau.autocast("cpu"):
        with flambeau.autocast("cpu", enabled=False):
            assert not flambeau.is_autocast_enabled("cpu")
            assert (x @ x).dtype is float32
            with flambeau.autocast("cpu", float16):
                assert (x @ x).dtype is float16
            assert (x @ x).dtype is float32
        assert (x @ x).dtype is bfloat16
        assert flambeau.get_autocast_dtype("cpu") is bfloat16
    assert (x @ x).dtype is float32


def test_one_region_may_be_entered_again_within_itself() -> None:
    region = flambeau.autocast("cpu")

    @region
    def depth(n: int) -> Any:
        return rand(2, 2) @ rand(2, 2) if n == 0 else depth(n - 1)

    assert depth(3).dtype is bfloat16


def test_an_error_leaves_the_region() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"), flambeau.autocast("cpu"):
        rand(2, 3) @ rand(2, 3)
    assert (rand(2, 2) @ rand(2, 2)).dtype is float32


def test_decorated_functions_and_methods() -> None:
    class Layer(flambeau.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = flambeau.nn.Linear(3, 2)

        @flambeau.autocast("cpu")
        def forward(self, x: Any) -> Any:
            """Said of the method."""
            return self.inner(x)

    assert Layer()(rand(1, 3)).dtype is bfloat16
    assert Layer.forward.__doc__ == "Said of the method."
    with pytest.raises(TypeError, match="requires a callable"):
        flambeau.autocast("cpu")(rand(2))  # type: ignore[arg-type]


def test_regions_belong_to_their_thread() -> None:
    found = []

    def other() -> None:
        found.append((rand(2, 2) @ rand(2, 2)).dtype)
        with flambeau.autocast("cpu", float16):
            found.append((rand(2, 2) @ rand(2, 2)).dtype)

    with flambeau.autocast("cpu"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        found.append((rand(2, 2) @ rand(2, 2)).dtype)
    assert found == [float32, float16, bfloat16]


def test_what_is_refused_or_switched_off() -> None:
    with pytest.warns(UserWarning, match="target dtype is not supported"):
        region = flambeau.autocast("cpu", float32)
    with region:
        assert not flambeau.is_autocast_enabled("cpu")
    with pytest.warns(UserWarning, match="not available"):
        flambeau.autocast("cuda")
    with pytest.raises(ValueError, match="Expected `device_type` of type `str`"):
        flambeau.autocast(flambeau.device("cpu"))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="unsupported scalarType"):
        flambeau.autocast("meta")
    with pytest.raises(RuntimeError, match="device type at start of device string"):
        flambeau.autocast("toaster")


def test_functions_beside_the_region() -> None:
    assert amp.is_autocast_available("cpu")
    assert amp.is_autocast_available("cuda")
    assert not amp.is_autocast_available("meta")
    assert flambeau.get_autocast_dtype("cuda") is float16
    flambeau.set_autocast_enabled("cpu", True)
    flambeau.set_autocast_dtype("cpu", float16)
    try:
        assert flambeau.is_autocast_enabled("cpu")
        with pytest.warns(DeprecationWarning, match="is deprecated"):
            assert flambeau.is_autocast_cpu_enabled()
        assert not flambeau.is_autocast_enabled()  # of CUDA
        assert (rand(2, 2) @ rand(2, 2)).dtype is float16
    finally:
        flambeau.set_autocast_enabled("cpu", False)
        flambeau.set_autocast_dtype("cpu", bfloat16)
    assert flambeau.is_autocast_cache_enabled()
    assert flambeau.autocast_increment_nesting() == 1
    assert flambeau.autocast_decrement_nesting() == 0
    flambeau.clear_autocast_cache()
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        assert flambeau.get_autocast_cpu_dtype() is bfloat16


def test_meta_tensors_are_left_alone() -> None:
    x = flambeau.empty(2, 2, device="meta")
    with flambeau.autocast("cpu"):
        assert (x @ x).dtype is float32


def test_a_row_says_what_autocast_does_to_it() -> None:
    words = {row.autocast for row in ROWS.values()}
    assert words == {None, "lower", "float32", "promote", "exempt"}


# -- functions of one's own ------------------------------------------------------------------------


class Scaled(flambeau.autograd.Function):
    """x @ x, whose passes note in which state they ran."""

    seen: list[Any] = []

    @staticmethod
    @amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        Scaled.seen.append((x @ x).dtype)
        return x * 2

    @staticmethod
    @amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        Scaled.seen.append((x @ x).dtype)
        return g * 2


@pytest.mark.parametrize("inside", [True, False])
def test_backward_runs_in_the_state_of_forward(inside: bool) -> None:
    Scaled.seen.clear()
    x = rand(2, 2, grad=True)
    with flambeau.autocast("cpu", enabled=inside):
        y = Scaled.apply(x)
    with flambeau.autocast("cpu", enabled=not inside):
        y.sum().backward()
    assert Scaled.seen == [bfloat16 if inside else float32] * 2


def test_forward_with_converted_inputs() -> None:
    class Full(flambeau.autograd.Function):
        @staticmethod
        @amp.custom_fwd(device_type="cpu", cast_inputs=float32)
        def forward(ctx: Any, x: Any, others: Any, word: str) -> Any:
            assert x.dtype is others[0].dtype is others[1]["k"].dtype is float32
            assert word == "as it is"
            assert not flambeau.is_autocast_enabled("cpu")
            return x @ x

        @staticmethod
        @amp.custom_bwd(device_type="cpu")
        def backward(ctx: Any, g: Any) -> Any:
            assert g.dtype is float32
            assert not flambeau.is_autocast_enabled("cpu")
            return g, None, None

    x = rand(2, 2, dtype=bfloat16, grad=True)
    other = (rand(1, dtype=float16), {"k": rand(1, dtype=bfloat16)})
    with flambeau.autocast("cpu"):
        y = Full.apply(x, other, "as it is")
        assert y.dtype is float32
        y.sum().backward()
    assert x.grad.dtype is bfloat16


# -- training --------------------------------------------------------------------------------------


@half
def test_a_small_network_learns(dtype: Any) -> None:
    flambeau.manual_seed(0)
    model = flambeau.nn.Sequential(
        flambeau.nn.Linear(8, 32), flambeau.nn.GELU(), flambeau.nn.Linear(32, 1)
    )
    optimizer = flambeau.optim.AdamW(model.parameters(), lr=1e-2)
    x = rand(64, 8)
    y = x.square().sum(-1, keepdim=True).sqrt()
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        with flambeau.autocast("cpu", dtype):
            loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert all(p.dtype is float32 for p in model.parameters())


@pytest.mark.parity
def test_training_follows_torch() -> None:
    import torch

    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(s) * 0.4 for s in ((16, 8), (16,), (4, 16), (4,))]
    x, y = rng.standard_normal((32, 8)), rng.integers(0, 4, 32)
    runs = []
    for lib in (flambeau, torch):
        linear = lib.nn.functional.linear
        ps: Any = [lib.tensor(w).float().requires_grad_() for w in weights]
        optimizer = lib.optim.AdamW(ps, lr=3e-2)
        data, target = lib.tensor(x).float(), lib.tensor(y)
        losses = []
        for _ in range(12):
            optimizer.zero_grad()
            with lib.autocast("cpu", lib.bfloat16):
                hidden = lib.nn.functional.gelu(linear(data, ps[0], ps[1]))
                logits = linear(lib.nn.functional.layer_norm(hidden, (16,)), ps[2], ps[3])
                loss = lib.nn.functional.cross_entropy(logits, target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        runs.append(losses)
    np.testing.assert_allclose(*runs, rtol=0.02)
