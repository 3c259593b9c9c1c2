"""torch's own list of optimizers: every set of options it is tested with, and its refusals."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import flambeau
from tests.parity.same import Library, array, assert_same, given, plain

torch = pytest.importorskip("torch")
database = pytest.importorskip("torch.testing._internal.common_optimizers")

INFOS = {info.optim_cls.__name__: info for info in database.optim_db}
#: Options for devices and compilers that make no difference to the formula.
FORMS = ("foreach", "fused", "capturable")
SPARSE = ("SparseAdam",)


def options(name: str) -> list[dict[str, Any]]:
    """The sets of options, each once."""
    found: list[dict[str, Any]] = []
    for sample in INFOS[name].optim_inputs_func(device="cpu", dtype=torch.float64):
        chosen = {k: v for k, v in sample.kwargs.items() if k not in FORMS}
        if chosen not in found and not any(isinstance(v, torch.Tensor) for v in chosen.values()):
            found.append(chosen)
    return found


def trajectory(lib: Library, name: str, chosen: dict[str, Any], dtype: str) -> Any:
    shapes = [(3, 2), (2, 4)] if name == "Muon" else [(3, 2), (2,), ()]
    params = [given(lib, array(s, i, dtype), grad=True) for i, s in enumerate(shapes)]
    optimizer = getattr(lib.optim, name)(params, **chosen)
    x = given(lib, array((5, 3), 7, dtype))

    def closure() -> Any:
        optimizer.zero_grad()
        found = (lib.tanh(x @ params[0]) - 0.3).square().sum()
        for p in params[1:]:
            found = found + (p.exp() - p.sin() * 0.5).mean() + p.square().sum()
        found.backward()
        return found

    losses = []
    for _ in range(3 if name == "LBFGS" else 20):
        loss = optimizer.step(closure)
        losses.append(float(loss))
    return [losses, params]


@pytest.mark.parametrize("name", [n for n in INFOS if n not in SPARSE])
def test_trajectories(name: str) -> None:
    for chosen in options(name):
        if chosen.get("differentiable"):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = plain(trajectory(torch, name, dict(chosen), "float64"))
            got = plain(trajectory(flambeau, name, dict(chosen), "float64"))
        # Muon's matrices are products in bfloat16, whose order of sums is not torch's
        rtol, atol = (2e-2, 2e-2) if name == "Muon" else (1e-9, 1e-10)
        try:
            assert_same(got, want, rtol=rtol, atol=atol)
        except AssertionError as error:
            raise AssertionError(f"{name}({chosen}): {error}") from error


@pytest.mark.parametrize("name", INFOS)
def test_refusals(name: str) -> None:
    for sample in INFOS[name].optim_error_inputs_func(device="cpu", dtype=torch.float32):
        given_, error = sample.optimizer_error_input, sample.error_type
        try:
            made: dict[int, Any] = {}
            params = convert([torch.zeros(2, 2)] if given_.params is None else given_.params, made)
            chosen = convert(given_.kwargs, made)
        except TypeError:
            continue  # sparse tensors
        if any(chosen.get(form) for form in FORMS):
            continue
        with pytest.warns(error) if issubclass(error, Warning) else pytest.raises(error):
            optimizer = getattr(flambeau.optim, name)(params, **chosen)
            if sample.error_on == database.OptimizerErrorEnum.STEP_ERROR:
                for p in params:
                    p.grad = flambeau.ones_like(p)
                optimizer.step()


def convert(value: Any, made: dict[int, Any]) -> Any:
    """torch's tensors as flambeau's, one that comes twice as one."""
    if isinstance(value, torch.Tensor):
        if value.is_sparse:
            raise TypeError("sparse")
        if id(value) not in made:
            found = flambeau.tensor(np.array(value.detach().numpy()))
            if isinstance(value, torch.nn.Parameter):
                found = flambeau.nn.Parameter(found)
            made[id(value)] = found.requires_grad_(value.requires_grad)
        return made[id(value)]
    if isinstance(value, dict):
        return {k: convert(v, made) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(convert(v, made) for v in value)
    return value


def test_sparse_gradients() -> None:
    def program(lib: Library) -> Any:
        param = lib.nn.Parameter(given(lib, array((3, 2), 0, "float64")))
        optimizer = lib.optim.SparseAdam([param], lr=0.1)
        for k in range(5):
            places = lib.tensor([[0, 2, 0]])
            values = given(lib, array((3, 2), k + 1, "float64"))
            param.grad = lib.sparse_coo_tensor(places, values, (3, 2))
            optimizer.step()
        return [param, optimizer.state_dict()["state"]]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, got = plain(program(torch)), plain(program(flambeau))
    assert_same(got, want, rtol=1e-12, atol=1e-13)
