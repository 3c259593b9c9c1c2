"""State, conversion, copies and hooks of modules are those of torch."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections import OrderedDict
from typing import Any

import pytest

import flambeau
from tests.parity.same import Library, array, assert_same, both, fill, given, parent, plain

torch = pytest.importorskip("torch")

X = array((4, 6), 1)
Y = array((4, 6), 11)


# -- modules as containers of state ---------------------------------------------------------------


def test_names_and_order() -> None:
    def program(lib: Library) -> Any:
        m = parent(lib.nn)
        m.again = m.child
        m.register_buffer("hidden", lib.zeros(2), persistent=False)
        m.own = lib.nn.Buffer(lib.ones(3))
        m.list = lib.nn.ParameterList([lib.zeros(1), lib.nn.Parameter(lib.ones(2))])
        return {
            "modules": [n for n, _ in m.named_modules()],
            "all modules": [n for n, _ in m.named_modules(remove_duplicate=False)],
            "prefixed": [n for n, _ in m.named_modules(prefix="p")],
            "children": [n for n, _ in m.named_children()],
            "parameters": [n for n, _ in m.named_parameters()],
            "own parameters": [n for n, _ in m.named_parameters("p", recurse=False)],
            "shared": [n for n, _ in m.named_parameters(remove_duplicate=False)],
            "buffers": [n for n, _ in m.named_buffers()],
            "state": dict(m.state_dict(prefix="q.")),
            "metadata": dict(m.state_dict()._metadata),
            "dir": [n for n in ("weight", "kept", "child", "own", "training") if n in dir(m)],
        }

    def zeroed(lib: Library) -> Any:
        found = program(lib)
        found["state"] = {k: list(v.shape) for k, v in found["state"].items()}
        return found

    both(zeroed)


def test_loading() -> None:
    def program(lib: Library) -> Any:
        nn = lib.nn
        m = parent(nn)
        seen: list[Any] = []
        m.register_load_state_dict_pre_hook(lambda mod, state, prefix, *rest: seen.append(prefix))
        m.child.register_load_state_dict_post_hook(
            lambda mod, keys: seen.append(list(keys.missing_keys))
        )
        result = m.load_state_dict({"weight": lib.full((3, 2), 2.0), "other": 1}, strict=False)
        assigned = nn.Linear(2, 1).double()
        linear = nn.Linear(2, 1)
        kept = linear.weight
        text = linear.load_state_dict(assigned.state_dict(), assign=True)
        scalar = nn.Module()
        scalar.value = nn.Parameter(lib.tensor(0.0))
        scalar.load_state_dict({"value": lib.tensor([3.0])})
        return [
            [result.missing_keys, result.unexpected_keys, repr(text), seen],
            [m.weight, scalar.value],
            [str(linear.weight.dtype).split(".")[-1], linear.weight is kept],
            isinstance(linear.weight, nn.Parameter),
            linear.weight.requires_grad,
        ]

    both(program)


def test_state_dict_hooks_and_extra_state() -> None:
    def program(lib: Library) -> Any:
        class Counter(lib.nn.Module):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                super().__init__()
                self.count = 3

            def get_extra_state(self) -> Any:
                return {"count": self.count}

            def set_extra_state(self, state: Any) -> None:
                self.count = state["count"]

        m = Counter()
        m.inner = Counter()
        m.register_state_dict_pre_hook(lambda mod, prefix, keep: setattr(mod, "count", 7))
        m.register_state_dict_post_hook(lambda mod, state, prefix, meta: state.update(added=1))
        m.inner._register_state_dict_hook(
            lambda mod, state, prefix, meta: OrderedDict(list(state.items()) + [("more", prefix)])
        )
        state = dict(m.state_dict())
        other = Counter()
        other.inner = Counter()
        missing = other.load_state_dict({"_extra_state": {"count": 9}}, strict=False)
        return [state, other.count, list(missing.missing_keys)]

    both(program)


def test_conversion_keeps_parameters_and_moves_gradients() -> None:
    def program(lib: Library) -> Any:
        module = lib.nn.Sequential(lib.nn.Linear(2, 2), lib.nn.BatchNorm1d(2))
        fill(module, lib)
        module(given(lib, array((3, 2)))).sum().backward()
        weight = module[0].weight
        found = []
        for change in (
            lambda: module.double(),
            lambda: module.to(lib.float32),
            lambda: module.half(),
            lambda: module.to("cpu", lib.float64),
            lambda: module.to(lib.zeros(1)),
            lambda: module.bfloat16().float(),
            lambda: module.type(lib.float64),
        ):
            assert change() is module
            assert module[0].weight is weight
            found.append(
                [
                    [str(t.dtype).split(".")[-1] for t in module.state_dict().values()],
                    str(weight.grad.dtype).split(".")[-1],
                ]
            )
        return [found, weight.grad]

    both(program, rtol=1e-2, atol=1e-2)


def test_deepcopy_and_pickle() -> None:
    def program(lib: Library) -> Any:
        module = lib.nn.Sequential(lib.nn.Linear(2, 2), lib.nn.BatchNorm1d(2))
        fill(module, lib)
        module[0].bias.requires_grad_(False)
        module.eval()
        twin = copy.deepcopy(module)
        again = pickle.loads(pickle.dumps(module))
        with lib.no_grad():
            module[0].weight.zero_()
        return [
            [dict(m.state_dict()) for m in (module, twin, again)],
            [[p.requires_grad for p in m.parameters()] for m in (twin, again)],
            [m.training for m in (twin, again)],
            [isinstance(m[0].weight, lib.nn.Parameter) for m in (twin, again)],
            repr(again),
        ]

    both(program)


# -- hooks ----------------------------------------------------------------------------------------


def shapes(grads: Any) -> list[Any]:
    return [None if g is None else g.detach().clone() for g in grads]


def test_forward_hooks() -> None:
    def program(lib: Library) -> Any:
        class Scale(lib.nn.Module):  # type: ignore[name-defined, misc]
            def forward(self, x: Any, by: float = 1.0) -> Any:
                if by == 0:
                    raise ValueError("by nothing")
                return x * by

        seen: list[Any] = []
        m = Scale()
        x = given(lib, X)

        def note(name: str, result: Any = None) -> Any:
            return lambda mod, *rest: (seen.append([name, len(rest)]), result)[1]

        handles = [
            lib.nn.modules.module.register_module_forward_pre_hook(note("global pre"))
            if lib is torch
            else lib.nn.hooks.register_module_forward_pre_hook(note("global pre")),
            m.register_forward_pre_hook(note("pre", x + 1)),
            m.register_forward_pre_hook(
                lambda mod, args, kwargs: (args, {"by": kwargs["by"] * 2}), with_kwargs=True
            ),
            m.register_forward_pre_hook(note("first"), prepend=True),
            m.register_forward_hook(note("hook")),
            m.register_forward_hook(note("kwargs"), with_kwargs=True),
            m.register_forward_hook(note("always"), always_call=True),
            m.register_forward_hook(lambda mod, args, out: out - 1, prepend=True),
        ]
        out = m(x, by=2.0)
        with pytest.raises(ValueError, match="by nothing"):
            m(x, by=0)
        for handle in handles:
            handle.remove()
        return [seen, out, m(x, by=3.0), len(seen)]

    both(program)


@pytest.mark.parametrize("which", ["both", "first", "none"])
def test_full_backward_hooks(which: str) -> None:
    def program(lib: Library) -> Any:
        class Pair(lib.nn.Module):  # type: ignore[name-defined, misc]
            def forward(self, x: Any, y: Any, n: int) -> Any:
                return x * w * n + y, y * w * x

        seen: list[Any] = []
        w = given(lib, array((6,), 3), grad=True)
        m = Pair()
        m.register_full_backward_pre_hook(
            lambda mod, grads: (seen.append(["pre", shapes(grads)]), None)[1]
        )
        m.register_full_backward_pre_hook(lambda mod, grads: tuple(g * 2 for g in grads))
        m.register_full_backward_hook(
            lambda mod, gi, go: (seen.append([shapes(gi), shapes(go)]), None)[1]
        )
        if which != "none":
            m.register_full_backward_hook(
                lambda mod, gi, go: tuple(None if g is None else g * 3 for g in gi)
            )
        x = given(lib, X, grad=which != "none")
        y = given(lib, Y, grad=which == "both")
        a, b = m(x * 1, y * 1, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ((a * a).sum() + b.sum()).backward()
        return [seen, x.grad, y.grad, w.grad]

    both(program)


def test_backward_hook_with_one_output_used() -> None:
    def program(lib: Library) -> Any:
        class Two(lib.nn.Module):  # type: ignore[name-defined, misc]
            def forward(self, x: Any) -> Any:
                return x * 2, x * 3

        seen: list[Any] = []
        m = Two()
        m.register_full_backward_hook(lambda mod, gi, go: seen.append([shapes(gi), shapes(go)]))
        x = given(lib, X, grad=True)
        m(x)[1].sum().backward()
        return [seen, x.grad]

    both(program)


def test_backward_hooks_of_a_network() -> None:
    def program(lib: Library) -> Any:
        net = lib.nn.Sequential(lib.nn.Linear(6, 3), lib.nn.Tanh(), lib.nn.Linear(3, 2))
        fill(net, lib)
        seen: list[Any] = []
        for name, module in net.named_modules():
            module.register_full_backward_hook(
                lambda mod, gi, go, name=name: seen.append([name, shapes(gi), shapes(go)])
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net(given(lib, X)).square().sum().backward()
        return [seen, {n: p.grad for n, p in net.named_parameters()}]

    both(program)


def test_regular_backward_hook() -> None:
    def program(lib: Library) -> Any:
        seen: list[Any] = []
        m = lib.nn.Tanh()
        m.register_backward_hook(lambda mod, gi, go: seen.append([shapes(gi), shapes(go)]))
        x = given(lib, X, grad=True)
        m(x * 1).sum().backward()
        return [seen, x.grad]

    both(program)


def test_registration_hooks() -> None:
    def program(lib: Library) -> Any:
        source = torch.nn.modules.module if lib is torch else lib.nn.hooks
        seen: list[Any] = []
        note = lambda mod, name, value: seen.append([type(mod).__name__, name])
        handles = [
            source.register_module_parameter_registration_hook(note),
            source.register_module_buffer_registration_hook(note),
            source.register_module_module_registration_hook(note),
        ]
        lib.nn.Sequential(lib.nn.Linear(2, 2), lib.nn.BatchNorm1d(2))
        for handle in handles:
            handle.remove()
        return sorted(seen)

    both(program)


def test_torch_reads_our_state() -> None:
    """State dicts go from one library to the other as arrays, in both directions."""
    build = lambda nn: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.LayerNorm(4))
    ours, theirs = build(flambeau.nn), build(torch.nn)
    theirs.load_state_dict(
        {k: torch.tensor(v.numpy().copy()) for k, v in ours.state_dict().items()}
    )
    want = theirs(torch.tensor(X)).detach().numpy()
    assert_same(plain(ours(flambeau.tensor(X))), want)
    state = {k: flambeau.tensor(v.numpy()) for k, v in theirs.state_dict().items()}
    back = build(flambeau.nn)
    assert repr(back.load_state_dict(state)) == "<All keys matched successfully>"
    assert_same(
        plain(back.eval()(flambeau.tensor(X))),
        plain(theirs.eval()(torch.tensor(X))),
    )
