"""Hooks of modules: when they run, what they see and what they may change."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any

import pytest

import flambeau
from flambeau import nn
from flambeau.nn import hooks


class Scale(nn.Module):
    """``x * by``, refusing 0."""

    def forward(self, x: Any, by: float = 1.0) -> Any:
        if by == 0:
            raise ValueError("by nothing")
        return x * by


def ones(n: int = 2) -> Any:
    return flambeau.ones(n, requires_grad=True)


def test_forward_hooks_see_and_replace() -> None:
    m = Scale()
    order: list[str] = []
    m.register_forward_pre_hook(lambda mod, args: order.append("pre"))
    m.register_forward_pre_hook(lambda mod, args: args[0] + 1)
    m.register_forward_pre_hook(
        lambda mod, args, kwargs: (args, {"by": kwargs["by"] * 10}), with_kwargs=True
    )
    m.register_forward_pre_hook(lambda mod, args: order.append("first"), prepend=True)
    m.register_forward_hook(lambda mod, args, out: out + 3)
    m.register_forward_hook(
        lambda mod, args, kwargs, out: order.append(f"by {kwargs['by']}"), with_kwargs=True
    )
    assert m(flambeau.zeros(2), by=2).tolist() == [23.0, 23.0]
    assert order == ["first", "pre", "by 20"]


def test_a_wrong_pre_hook_is_named() -> None:
    m = Scale()
    m.register_forward_pre_hook(lambda mod, args, kwargs: args, with_kwargs=True)
    with pytest.raises(RuntimeError, match="must return None or a tuple of"):
        m(flambeau.zeros(2))


def test_handles() -> None:
    m = Scale()
    handle = m.register_forward_hook(
        lambda mod, args, kwargs, out: out + 1, with_kwargs=True, always_call=True
    )
    assert m(flambeau.zeros(1)).item() == 1
    handle.remove()
    handle.remove()
    assert not m._forward_hooks
    assert not m._forward_hooks_with_kwargs
    assert not m._forward_hooks_always_called
    with m.register_forward_hook(lambda mod, args, out: out + 5):
        assert m(flambeau.zeros(1)).item() == 5
    assert m(flambeau.zeros(1)).item() == 0
    registry: Any = OrderedDict()
    kept = hooks.RemovableHandle(registry)
    registry[kept.id] = 1
    registry_again, again = pickle.loads(pickle.dumps((registry, kept)))
    again.remove()
    assert not registry_again
    assert hooks.RemovableHandle(registry).id > kept.id


def test_always_called_hooks_run_once_when_forward_fails() -> None:
    m = Scale()
    seen: list[str] = []
    m.register_forward_hook(lambda mod, args, out: seen.append("usual"))
    m.register_forward_hook(lambda mod, args, out: seen.append("always"), always_call=True)
    with hooks.register_module_forward_hook(
        lambda mod, args, out: seen.append("global"), always_call=True
    ):
        with pytest.raises(ValueError, match="by nothing"):
            m(flambeau.zeros(1), by=0)
        assert seen == ["global", "always"]
        m(flambeau.zeros(1))
    assert seen[2:] == ["global", "usual", "always"]

    def fail(mod: Any, args: Any, out: Any) -> None:
        seen.append("failed")
        raise KeyError("mine")

    m.register_forward_hook(fail, always_call=True)
    seen.clear()
    with pytest.raises(KeyError, match="mine"):
        m(flambeau.zeros(1))
    assert seen == ["usual", "always", "failed"]
    with (
        pytest.warns(UserWarning, match="was silenced as another error was raised"),
        pytest.raises(ValueError, match="by nothing"),
    ):
        m(flambeau.zeros(1), by=0)


def test_global_hooks_reach_all_modules() -> None:
    net = nn.Sequential(Scale(), Scale())
    seen: list[str] = []
    pre = hooks.register_module_forward_pre_hook(
        lambda mod, args: seen.append("> " + type(mod).__name__)
    )
    post = hooks.register_module_forward_hook(
        lambda mod, args, kwargs, out: seen.append("< " + type(mod).__name__), with_kwargs=True
    )
    net(flambeau.zeros(1))
    pre.remove()
    post.remove()
    assert seen == ["> Sequential", "> Scale", "< Scale", "> Scale", "< Scale", "< Sequential"]
    net(flambeau.zeros(1))
    assert len(seen) == 6


def test_full_backward_hooks_see_and_replace() -> None:
    m = Scale()
    seen: list[Any] = []
    m.register_full_backward_pre_hook(lambda mod, grads: (grads[0] * 10,))
    m.register_full_backward_hook(lambda mod, gi, go: seen.append((gi[0].tolist(), go[0].tolist())))
    m.register_full_backward_hook(lambda mod, gi, go: (gi[0] + 1,))
    m.register_full_backward_hook(lambda mod, gi, go: seen.append("first"), prepend=True)
    x = ones()
    m(x, by=3.0).sum().backward()
    assert seen == ["first", ([30.0, 30.0], [10.0, 10.0])]
    assert x.grad.tolist() == [31.0, 31.0]


def test_backward_hooks_run_once_per_call() -> None:
    m = nn.Tanh()
    seen: list[int] = []
    m.register_full_backward_hook(lambda mod, gi, go: seen.append(1))
    x = ones()
    out = m(m(x))
    out.sum().backward(retain_graph=True)
    out.sum().backward()
    assert len(seen) == 4


def test_backward_hooks_without_inputs_that_need_gradients() -> None:
    m = nn.Linear(2, 1)
    seen: list[Any] = []
    m.register_full_backward_hook(lambda mod, gi, go: seen.append((gi, go[0].tolist())))
    out = m(flambeau.ones(1, 2))
    with pytest.warns(UserWarning, match="no inputs require gradients"):
        out.sum().backward()
    assert seen == [((None,), [[1.0]])]
    assert m.weight.grad is not None


def test_backward_hooks_of_the_wrong_length() -> None:
    m = Scale()
    m.register_full_backward_hook(lambda mod, gi, go: (None, None))
    with pytest.raises(RuntimeError, match="invalid number of grad_input, got 2, but expected 1"):
        m(ones()).sum().backward()
    m = Scale()
    m.register_full_backward_pre_hook(lambda mod, go: ())
    with pytest.raises(RuntimeError, match="invalid number of grad_output, got 0, but expected 1"):
        m(ones()).sum().backward()


def test_backward_hooks_do_not_disturb_double_backward() -> None:
    m = nn.Tanh()
    m.register_full_backward_hook(lambda mod, gi, go: None)
    x = flambeau.tensor([0.3, -0.2], dtype=flambeau.float64, requires_grad=True)
    (g,) = flambeau.autograd.grad(m(x).sum(), x, create_graph=True)
    g.sum().backward()
    t = flambeau.tanh(x.detach())
    assert x.grad.tolist() == pytest.approx((-2 * t * (1 - t * t)).tolist())


def test_hooks_do_not_run_without_gradients() -> None:
    m = Scale()
    m.register_full_backward_hook(lambda mod, gi, go: pytest.fail("no backward was asked for"))
    x = ones()
    with flambeau.no_grad():
        assert not m(x).requires_grad
    assert m(flambeau.ones(2)).tolist() == [1.0, 1.0]


def test_kinds_of_backward_hooks_do_not_mix() -> None:
    m = Scale()
    m.register_backward_hook(lambda mod, gi, go: None)
    with pytest.raises(RuntimeError, match="Cannot use both regular backward hooks"):
        m.register_full_backward_hook(lambda mod, gi, go: None)


def test_regular_backward_hook_sees_the_last_operation() -> None:
    m = nn.Tanh()
    seen: list[Any] = []
    m.register_backward_hook(lambda mod, gi, go: seen.append((len(gi), go[0].tolist())))
    m(ones() * 1).sum().backward()
    assert seen == [(1, [1.0, 1.0])]


def test_hooks_survive_pickling_of_weak_references() -> None:
    m = nn.Linear(1, 1)
    m.register_load_state_dict_pre_hook(print)
    twin = pickle.loads(pickle.dumps(m))
    (hook,) = twin._load_state_dict_pre_hooks.values()
    assert hook.module() is twin
