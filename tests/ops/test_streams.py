"""The stream of random numbers that PyTorch's CPU generator has, without PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.ops.streams import _Twister
from flambeau.random import get_stream, set_stream


@pytest.fixture(autouse=True)
def torchs() -> Iterator[None]:
    was = get_stream()
    set_stream("torch")
    yield
    set_stream(was)


def test_numbers_that_everybody_has_seen() -> None:
    """`torch.manual_seed(0)` and `torch.manual_seed(42)`, as PyTorch's documentation shows them."""
    flambeau.manual_seed(0)
    np.testing.assert_allclose(flambeau.rand(3).numpy(), [0.49625659, 0.76822180, 0.08847743])
    flambeau.manual_seed(0)
    np.testing.assert_allclose(
        flambeau.randn(3).numpy(), [1.54099607, -0.29342890, -2.17878938], rtol=1e-6
    )
    flambeau.manual_seed(42)
    np.testing.assert_allclose(
        flambeau.randn(3).numpy(), [0.33669037, 0.12880941, 0.23446237], rtol=1e-6
    )


def test_words_at_any_place_are_the_twisters() -> None:
    known = np.random.RandomState(5).randint(0, 1 << 32, size=3000, dtype=np.uint32)
    twister = _Twister()
    random = np.random.default_rng(0)
    for _ in range(100):
        first, count = int(random.integers(2500)), int(random.integers(500))
        assert (twister.words(5, first, count) == known[first : first + count]).all()
        assert (twister.words(5 + (1 << 32), first, 1) == known[first : first + 1]).all()


def test_kept_states_are_bounded() -> None:
    twister = _Twister()
    for seed in range(1000):
        twister.words(seed, 0, 3)
    assert len(twister._states) <= 512


@pytest.mark.parametrize("count", [1, 2, 3, 15, 16, 17, 40])
def test_draws_depend_on_the_state_alone(count: int) -> None:
    flambeau.manual_seed(3)
    flambeau.randn(count)
    state = flambeau.get_rng_state()
    first = [flambeau.randn(count), flambeau.rand(2), flambeau.randn(count)]
    values = [t.tolist() for t in first]
    flambeau.set_rng_state(state)
    again = [flambeau.randn(count), flambeau.rand(2), flambeau.randn(count)]
    assert [t.tolist() for t in reversed(again)] == values[::-1]  # made in another order


def test_normal_values_are_normal() -> None:
    flambeau.manual_seed(1)
    for values in (flambeau.randn(40_001), flambeau.cat([flambeau.randn(5) for _ in range(2000)])):
        found = values.double()
        assert abs(float(found.mean())) < 0.05
        assert abs(float((found**2).mean()) - 1) < 0.1


def test_masks_of_dropout_are_kept_for_the_gradient() -> None:
    x = flambeau.ones(100, requires_grad=True)
    y = flambeau.nn.functional.dropout(x, 0.5)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == y.tolist()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_draws_again_what_it_drew(reentrant: bool) -> None:
    layer = flambeau.nn.Sequential(flambeau.nn.Linear(6, 6), flambeau.nn.Dropout(0.5))
    x = flambeau.randn(7, 6, requires_grad=True)
    flambeau.manual_seed(2)
    layer(x).sum().backward()
    assert x.grad is not None
    plain = x.grad.tolist()
    x.grad = None
    flambeau.manual_seed(2)
    checkpoint = flambeau.utils.checkpoint.checkpoint
    checkpoint(layer, x, use_reentrant=reentrant).sum().backward()
    assert x.grad.tolist() == plain


def _step(x: Any) -> Any:
    return flambeau.nn.functional.dropout(x, 0.5) + flambeau.randn(20) + flambeau.rand(20)


def _odd(x: Any) -> Any:
    return flambeau.nn.functional.dropout(x, 0.5) + flambeau.randn(1)


@pytest.mark.parametrize("function", [_step, _odd])
def test_replays_draw_what_recorded_calls_draw(function: Any) -> None:
    x = flambeau.ones(20)
    flambeau.manual_seed(4)
    known = [function(x).tolist() for _ in range(6)]
    compiled = flambeau.compile(function)
    flambeau.manual_seed(4)
    assert [compiled(x).tolist() for _ in range(6)] == known
    set_stream("threefry")
    flambeau.manual_seed(4)
    others = [compiled(x).tolist() for _ in range(3)]
    flambeau.manual_seed(4)
    assert others == [function(x).tolist() for _ in range(3)]
    assert others != known[:3]


def test_examples_of_vmap_draw_values_of_their_own() -> None:
    def noisy(x: Any) -> Any:
        return x + flambeau.randn(3) + flambeau.rand(2).sum() + flambeau.randperm(4)[0]

    found = flambeau.vmap(noisy, randomness="different")(flambeau.zeros(5, 3))
    assert len(set(found.reshape(-1).tolist())) == 15
    same = flambeau.vmap(noisy, randomness="same")(flambeau.zeros(5, 3))
    assert len(set(same.reshape(-1).tolist())) == 3


def test_programs_that_are_run_draw_torchs_numbers_and_the_environment_decides() -> None:
    program = "import torch; torch.manual_seed(0); print(round(torch.rand(1).item(), 4))"
    command = [sys.executable, "-m", "flambeau", "run", "-c", program]
    env = {k: v for k, v in os.environ.items() if k != "FLAMBEAU_RANDOM"}
    found = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert found.stdout == "0.4963\n"
    env["FLAMBEAU_RANDOM"] = "threefry"
    other = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert other.stdout not in ("", found.stdout)
    env["FLAMBEAU_RANDOM"] = "dice"
    wrong = subprocess.run(command, capture_output=True, text=True, env=env)
    assert wrong.returncode != 0
    assert "expected a random stream among threefry, torch, got 'dice'" in wrong.stderr


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="among threefry, torch, got 'dice'"):
        set_stream("dice")
    assert get_stream() == "torch"
