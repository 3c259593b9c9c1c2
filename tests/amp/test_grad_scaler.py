"""GradScaler: what it does to losses, gradients, steps and its own scale; against torch's."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import float16, record
from flambeau.amp import GradScaler
from flambeau.amp.grad_scaler import check_and_unscale, update_scale
from tests.conftest import HAS_TORCH

if HAS_TORCH:
    import torch


def problem(lib: Any) -> tuple[Any, Any]:
    """Two parameters and an optimizer."""
    ps = [
        lib.tensor(v, dtype=lib.float32).requires_grad_()
        for v in ([1.0, 2.0, 3.0], [[0.5], [0.25]])
    ]
    return ps, lib.optim.SGD(ps, lr=0.1)


def run(lib: Any, bad: dict[int, float], steps: int, unscale: bool = False) -> list[Any]:
    """What each step leaves: the scale, its tracker and the parameters.

    Args:
        bad: step -> what stands in a gradient then.
        unscale: call `unscale_` first, and clip.
    """
    ps, optimizer = problem(lib)
    scaler = lib.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3, backoff_factor=0.25)
    found = []
    for k in range(steps):
        optimizer.zero_grad()
        loss = (ps[0] * ps[1]).sum() * (k + 1)
        scaler.scale(loss).backward()
        if k in bad:
            with lib.no_grad():
                ps[k % 2].grad.reshape(-1)[0] = bad[k]
        if unscale:
            scaler.unscale_(optimizer)
            found.append(float(lib.nn.utils.clip_grad_norm_(ps, 1.0)))
        scaler.step(optimizer)
        scaler.update()
        state = scaler.state_dict()
        found += [state["scale"], state["_growth_tracker"], *(p.tolist() for p in ps)]
    return found


INF, NAN = float("inf"), float("nan")
BAD = {2: INF, 3: NAN, 8: -INF}


@pytest.mark.parity
@pytest.mark.parametrize("unscale", [False, True])
def test_trajectories_are_torchs(unscale: bool) -> None:
    got, want = run(flambeau, BAD, 12, unscale), run(torch, BAD, 12, unscale)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5)


def test_the_scale_moves_by_what_is_found() -> None:
    found = run(flambeau, BAD, 12)
    scales = found[0::4]
    #       2 fine, two bad, 3 fine (grows), bad, 3 fine (grows)
    assert scales == [8, 8, 2, 0.5, 0.5, 0.5, 1, 1, 0.25, 0.25, 0.25, 0.5]
    trackers = found[1::4]
    assert trackers == [1, 2, 0, 0, 1, 2, 0, 1, 0, 1, 2, 0]


def test_a_bad_step_is_left_out() -> None:
    found = run(flambeau, {1: NAN}, 3)
    before, after, later = found[2], found[6], found[10]
    assert before == after
    assert after != later


def test_without_overflow_the_steps_are_those_without_scaler() -> None:
    ps, optimizer = problem(flambeau)
    for k in range(5):
        optimizer.zero_grad()
        ((ps[0] * ps[1]).sum() * (k + 1)).backward()
        optimizer.step()
    found = run(flambeau, {}, 5)
    np.testing.assert_allclose(found[-2], ps[0].tolist(), rtol=1e-6)
    np.testing.assert_allclose(found[-1], ps[1].tolist(), rtol=1e-6)


def test_all_gradients_are_checked_in_one_program() -> None:
    ps, optimizer = problem(flambeau)
    scaler = GradScaler("cpu")
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale((ps[0] * ps[1]).sum()).backward()
        before = record.counters.flushes
        scaler.step(optimizer)
        scaler.update()
    # one for the forward and backward passes, the check and the scale's last update; one to step
    assert record.counters.flushes - before == 2


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (5, 3)])
def test_checking_odd_shapes(shape: tuple[int, ...], dtype: str) -> None:
    g = flambeau.ones(shape, dtype=getattr(flambeau, dtype)) * 4
    found = check_and_unscale([g], flambeau.tensor(0.5))
    assert found.item() == 0.0
    assert (g == 2).all().item()
    assert g.dtype is getattr(flambeau, dtype)
    if g.numel():
        g.fill_(INF)
        assert check_and_unscale([flambeau.ones(2), g], flambeau.tensor(0.5)).item() == 1.0


def test_gradients_that_are_views_are_unscaled_in_place() -> None:
    base = flambeau.ones(4, 6)
    found = check_and_unscale([base.t()[::2], base[:, 1]], flambeau.tensor(3.0))
    assert found.item() == 0.0
    want = np.ones((4, 6))
    want[:, ::2] *= 3
    want[:, 1] *= 3
    assert base.tolist() == want.tolist()
    assert check_and_unscale([], flambeau.tensor(3.0)).item() == 0.0


@pytest.mark.parity
@pytest.mark.parametrize("scale", [1.0, 3e38, 1e-45])
@pytest.mark.parametrize("tracker", [0, 1, 2])
@pytest.mark.parametrize("found", [0.0, 1.0, 2.0])
def test_the_scale_alone(scale: float, tracker: int, found: float) -> None:
    ours = flambeau.tensor(scale), flambeau.tensor(tracker, dtype=flambeau.int32)
    theirs = torch.tensor(scale), torch.tensor(tracker, dtype=torch.int32)
    update_scale(*ours, flambeau.tensor(found), 2.0, 0.5, 2)
    torch._amp_update_scale_(*theirs, torch.tensor(found), 2.0, 0.5, 2)
    assert [t.item() for t in ours] == [t.item() for t in theirs]


def test_structures_are_scaled() -> None:
    scaler = GradScaler("cpu", init_scale=4.0)
    one, two = flambeau.ones(2), flambeau.ones(())
    a, (b, c) = scaler.scale([one, (two, one)])
    assert (a.tolist(), b.item(), c.tolist()) == ([4, 4], 4, [4, 4])
    with pytest.raises(ValueError, match="outputs must be a Tensor or an iterable of Tensors"):
        scaler.scale(3.0)


def test_a_scaler_that_is_off() -> None:
    ps, optimizer = problem(flambeau)
    scaler = GradScaler("cpu", enabled=False)
    loss = ps[0].sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_allclose(ps[0].tolist(), [0.9, 1.9, 2.9], rtol=1e-6)
    assert scaler.get_scale() == 1.0
    assert scaler.state_dict() == {}
    scaler.load_state_dict({})
    with pytest.warns(UserWarning, match="CUDA is not available"):
        assert not GradScaler().is_enabled()


def test_state_is_saved_and_loaded() -> None:
    scaler = GradScaler("cpu", init_scale=16.0, growth_factor=3.0, growth_interval=5)
    ps, optimizer = problem(flambeau)
    scaler.scale(ps[0].sum()).backward()
    scaler.step(optimizer)
    with pytest.raises(AssertionError, match="may only be pickled"):
        pickle.dumps(scaler)
    scaler.update()
    state = scaler.state_dict()
    assert state == {
        "scale": 16.0,
        "growth_factor": 3.0,
        "backoff_factor": 0.5,
        "growth_interval": 5,
        "_growth_tracker": 1,
    }
    copy = pickle.loads(pickle.dumps(scaler))
    assert copy.state_dict() == state
    other = GradScaler("cpu")
    other.scale(ps[0].sum())
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert other.scale(flambeau.ones(())).item() == 16.0
    with pytest.raises(RuntimeError, match="source state dict is empty"):
        other.load_state_dict({})


def test_the_scale_is_set() -> None:
    scaler = GradScaler("cpu")
    scaler.scale(flambeau.ones(()))
    scaler.update(32.0)
    assert scaler.get_scale() == 32.0
    scaler.update(flambeau.tensor([64.0]))
    assert scaler.get_scale() == 64.0
    with pytest.raises(AssertionError, match="new_scale should be a float"):
        scaler.update(flambeau.ones(2))
    scaler.set_growth_factor(4.0)
    scaler.set_backoff_factor(0.1)
    scaler.set_growth_interval(7)
    assert (scaler.get_growth_factor(), scaler.get_backoff_factor()) == (4.0, 0.1)
    assert scaler.get_growth_interval() == 7


def test_the_order_of_calls_is_checked() -> None:
    ps, optimizer = problem(flambeau)
    scaler = GradScaler("cpu")
    with pytest.raises(AssertionError, match="Attempted step but _scale is None"):
        scaler.step(optimizer)
    with pytest.raises(AssertionError, match="Attempted update but _scale is None"):
        scaler.update()
    scaler.scale(ps[0].sum()).backward()
    with pytest.raises(AssertionError, match="No inf checks were recorded prior to update"):
        scaler.update()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called on this optimizer"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="already been called since the last update"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="is being called after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="Closure use"):
        scaler.step(optimizer, closure=lambda: None)
    scaler.update()
    optimizer.zero_grad()
    with pytest.raises(AssertionError, match="No inf checks were recorded for this optimizer"):
        scaler.step(optimizer)
    with pytest.raises(AssertionError, match="growth factor must be > 1"):
        GradScaler("cpu", growth_factor=1.0)
    with pytest.raises(AssertionError, match="backoff factor must be < 1"):
        GradScaler("cpu", backoff_factor=1.0)


def test_float16_gradients_are_refused() -> None:
    p = flambeau.ones(2, dtype=float16).requires_grad_()
    scaler = GradScaler("cpu")
    scaler.scale(p.float().sum()).backward()
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scaler.unscale_(flambeau.optim.SGD([p], lr=0.1))


def test_optimizers_that_scale_themselves() -> None:
    class Own(flambeau.optim.SGD):
        _step_supports_amp_scaling = True

        def step(self, closure: Any = None) -> Any:
            self.seen = self.grad_scale.item(), self.found_inf.item()  # type: ignore[attr-defined]

    p = flambeau.ones(2).requires_grad_()
    optimizer: Any = Own([p], lr=0.1)
    scaler = GradScaler("cpu", init_scale=2.0)
    scaler.scale(p.sum() * INF).backward()
    scaler.step(optimizer)
    scaler.update()
    assert optimizer.seen == (2.0, 1.0)
    assert not hasattr(optimizer, "found_inf")
    assert scaler.get_scale() == 1.0


def test_two_optimizers_share_a_scale() -> None:
    p, q = flambeau.ones(2).requires_grad_(), flambeau.ones(2).requires_grad_()
    first, second = flambeau.optim.SGD([p], lr=1.0), flambeau.optim.SGD([q], lr=1.0)
    scaler = GradScaler("cpu", init_scale=2.0)
    scaler.scale(p.sum() + q.sum() * INF).backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert p.tolist() == [0.0, 0.0]
    assert q.tolist() == [1.0, 1.0]
    assert scaler.get_scale() == 1.0
