"""State dicts of optimizers: their form, exchange and what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import optim


def trained(steps: int = 3) -> tuple[list[Any], Any]:
    """Two parameters in two groups, and their optimizer after some steps."""
    params = [flambeau.ones(2, requires_grad=True), flambeau.zeros(3, requires_grad=True)]
    groups = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.5}]
    optimizer = optim.AdamW(groups, lr=0.1, amsgrad=True)
    train(params, optimizer, range(steps))
    return params, optimizer


def train(params: list[Any], optimizer: Any, steps: range) -> None:
    for i in steps:
        for p in params:
            p.grad = flambeau.full_like(p, np.sin(1.0 + i), requires_grad=False)
        optimizer.step()


def test_form() -> None:
    _, optimizer = trained()
    state = optimizer.state_dict()
    assert list(state) == ["state", "param_groups"]
    assert list(state["state"]) == [0, 1]
    assert list(state["state"][0]) == ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
    assert state["state"][0]["step"].item() == 3.0
    assert state["state"][0]["step"].shape == ()
    assert state["param_groups"][1] == {
        "lr": 0.5,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.01,
        "amsgrad": True,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "fused": None,
        "decoupled_weight_decay": True,
        "params": [1],
    }


@pytest.mark.parametrize("how", ["state dict", "deepcopy", "pickle"])
def test_training_continues(how: str) -> None:
    want, optimizer = trained(7)
    params, optimizer = trained(4)
    if how == "state dict":
        others, target = trained(1)
        for p, q in zip(params, others, strict=True):
            q.data = p.detach().clone()
        target.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    else:
        target = (
            copy.deepcopy(optimizer) if how == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
        )
        others = [p for group in target.param_groups for p in group["params"]]
        assert others[0] is not params[0]
    train(others, target, range(4, 7))
    for p, q in zip(want, others, strict=True):
        assert p.tolist() == q.tolist()
    assert target.state[others[0]]["step"].item() == 7.0


def test_step_counts_that_are_changed_are_noticed() -> None:
    params, optimizer = trained(2)
    twins, other = trained(2)
    optimizer.state[params[0]]["step"].fill_(100.0)
    other.state[twins[0]]["step"] = flambeau.tensor(100.0)
    for p, o in ((params, optimizer), (twins, other)):
        train(p, o, range(2, 3))
        assert o.state[p[0]]["step"].item() == 101.0
        assert o.state[p[1]]["step"].item() == 3.0
    assert params[0].tolist() == twins[0].tolist()
    fresh, _ = trained(3)
    assert params[0].tolist() != fresh[0].tolist()
    assert params[1].tolist() == fresh[1].tolist()


def test_loading_converts_but_keeps_step_counts() -> None:
    _, source = trained()
    p = flambeau.ones(2, dtype=flambeau.float64).requires_grad_()
    q = flambeau.zeros(3, dtype=flambeau.float64).requires_grad_()
    target = optim.AdamW([{"params": [p]}, {"params": [q]}], amsgrad=True)
    state = source.state_dict()
    target.load_state_dict(state)
    assert target.state[p]["exp_avg"].dtype is flambeau.float64
    assert target.state[p]["step"].dtype is flambeau.float32
    assert target.param_groups[1]["lr"] == 0.5
    assert target.param_groups[1]["params"] == [q]
    assert state["param_groups"][0]["params"] == [0], "the state dict is not changed"


def test_older_files_are_completed() -> None:
    params, optimizer = trained()
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        for key in ("foreach", "maximize", "capturable", "fused", "decoupled_weight_decay"):
            del group[key]
    for entry in state["state"].values():
        entry["step"] = 3
    optimizer.load_state_dict(state)
    assert optimizer.state[params[0]]["step"].item() == 3.0
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True
    optimizer.step()
    assert optimizer.state[params[0]]["step"].item() == 4.0


def test_misfits_are_refused() -> None:
    _, optimizer = trained()
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({**state, "param_groups": state["param_groups"][:1]})
    groups = copy.deepcopy(state["param_groups"])
    groups[0]["params"] = [0, 1]
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        optimizer.load_state_dict({**state, "param_groups": groups})


def test_hooks_of_state() -> None:
    _, optimizer = trained()
    seen: list[str] = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("second"))
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("first"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, s: {**s, "epoch": 4})
    state = optimizer.state_dict()
    assert seen == ["first", "second"]
    assert state["epoch"] == 4

    def remember(o: Any, s: dict[str, Any]) -> dict[str, Any]:
        seen.append(f"epoch {s['epoch']}")
        return {k: v for k, v in s.items() if k != "epoch"}

    optimizer.register_load_state_dict_pre_hook(remember)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    optimizer.load_state_dict(state)
    assert seen[2:] == ["epoch 4", "loaded"]


def test_names_of_parameters_are_kept() -> None:
    m = flambeau.nn.Linear(2, 1)
    optimizer = optim.SGD(m.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    state = optimizer.state_dict()
    assert state["param_groups"][0]["param_names"] == ["weight", "bias"]
    del state["param_groups"][0]["param_names"]
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


def test_what_cannot_be_optimized_is_refused() -> None:
    p = flambeau.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"an iterable of Tensors or dicts, but got torch"):
        optim.SGD(p)
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        optim.SGD([])
    with pytest.raises(ValueError, match="can't optimize a non-leaf Tensor"):
        optim.SGD([p * 2])
    with pytest.raises(TypeError, match="one of the params is int"):
        optim.SGD([3])
    with pytest.raises(TypeError, match="ordering of tensors in sets will change"):
        optim.SGD([{"params": {p}}])
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([p, p])
    with pytest.raises(ValueError, match=r"Invalid learning rate: -1\.0"):
        optim.Adam([p], lr=-1.0)
    with pytest.raises(RuntimeError, match="`fused` and `foreach` cannot be `True` together"):
        optim.Adam([p], fused=True, foreach=True)


def test_repr() -> None:
    text = repr(optim.SGD([flambeau.ones(1)], lr=0.25))
    assert text == (
        "SGD (\nParameter Group 0\n    dampening: 0\n    differentiable: False\n"
        "    foreach: None\n    fused: None\n    lr: 0.25\n    maximize: False\n"
        "    momentum: 0\n    nesterov: False\n    weight_decay: 0\n)"
    )
