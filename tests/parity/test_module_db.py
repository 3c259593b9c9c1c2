"""torch's own list of modules: values, gradients, state, representation, in both modes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import flambeau

torch = pytest.importorskip("torch")
database = pytest.importorskip("torch.testing._internal.common_modules")

INFOS = {info.module_cls.__name__: info for info in database.module_db}
#: Their results are chance.
RANDOM = ("FractionalMaxPool2d", "FractionalMaxPool3d")
#: Samples beyond this many are like those before them.
MOST = 12


class Foreign(Exception):
    """Arguments that hold torch's own functions or classes."""


def convert(value: Any, made: dict[int, Any]) -> Any:
    """torch's tensors and dtypes as flambeau's."""
    if isinstance(value, torch.Tensor):
        if id(value) not in made:
            found = flambeau.tensor(np.array(value.detach().numpy()))
            made[id(value)] = found.requires_grad_(value.requires_grad)
        return made[id(value)]
    if isinstance(value, torch.dtype):
        return getattr(flambeau, str(value).removeprefix("torch."))
    if isinstance(value, dict):
        return {k: convert(v, made) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(convert(v, made) for v in value)
    if "torch" in (getattr(value, "__module__", None) or ""):
        raise Foreign
    return value


def flat(value: Any) -> list[Any]:
    if hasattr(value, "detach"):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in flat(v)] if isinstance(value, (tuple, list)) else []


def weighted(lib: Any, outputs: list[Any]) -> Any:
    return sum(
        (t * lib.cos(lib.arange(t.numel(), dtype=lib.float64)).reshape(t.shape)).sum()
        for t in outputs
        if t.requires_grad
    )


def is_random(module: Any) -> bool:
    kinds = (torch.nn.modules.dropout._DropoutNd, torch.nn.RReLU)
    return module.training and any(
        isinstance(m, kinds) and getattr(m, "p", 1) > 0 for m in module.modules()
    )


def compare(name: str, sample: Any, training: bool) -> None:
    given = sample.constructor_input
    made: dict[int, Any] = {}
    mine = getattr(flambeau.nn, name)(*convert(given.args, made), **convert(given.kwargs, made))
    theirs = getattr(torch.nn, name)(*given.args, **given.kwargs)
    mine, theirs = mine.double().train(training), theirs.double().train(training)
    assert repr(mine) == repr(theirs)
    if isinstance(theirs, torch.nn.modules.lazy.LazyModuleMixin):  # a call gives the sizes
        call = sample.forward_input
        theirs(*call.args, **call.kwargs)
        mine(*convert(call.args, made), **convert(call.kwargs, made))
        assert repr(mine) == repr(theirs)
    state = theirs.state_dict()
    assert list(mine.state_dict()) == list(state)
    mine.load_state_dict({k: flambeau.tensor(np.array(v.numpy())) for k, v in state.items()})
    if sample.forward_input is None:
        return
    args, kwargs = sample.forward_input.args, sample.forward_input.kwargs
    own, named = convert(args, made), convert(kwargs, made)
    want, got = flat(theirs(*args, **kwargs)), flat(mine(*own, **named))
    assert [tuple(t.shape) for t in got] == [tuple(t.shape) for t in want]
    if name in RANDOM or is_random(theirs):
        return
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-7, atol=1e-8)
    leaves = [
        [t for t in flat([a, k]) if t.requires_grad] + list(m.parameters())
        for a, k, m in ((own, named, mine), (args, kwargs, theirs))
    ]
    totals = weighted(flambeau, got), weighted(torch, want)
    if not leaves[0] or not hasattr(totals[0], "requires_grad"):
        return
    slopes = flambeau.autograd.grad(totals[0], leaves[0], allow_unused=True)
    wanted = torch.autograd.grad(totals[1], leaves[1], allow_unused=True)
    for a, b in zip(slopes, wanted, strict=True):
        x = np.zeros(()) if a is None else a.detach().numpy()
        y = np.zeros(()) if b is None else b.detach().numpy()
        np.testing.assert_allclose(x, np.broadcast_to(y, x.shape), rtol=1e-6, atol=1e-7)


def problem(name: str) -> str | None:
    """The first sample of a module that does not agree, in training or in evaluation."""
    info = INFOS[name]
    for training in (True, False):
        samples = info.module_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number, sample in enumerate(samples[:MOST]):
                try:
                    compare(name, sample, training)
                except Foreign:
                    continue
                except (AssertionError, RuntimeError, TypeError, ValueError) as error:
                    given = sample.constructor_input
                    where = f"sample {number}, training {training}: {given.args} {given.kwargs}"
                    return f"{where}: {error}"
    return None


@pytest.mark.parametrize("name", INFOS)
def test_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")  # modules are tested, not the compiler
    found = problem(name)
    assert found is None, found
