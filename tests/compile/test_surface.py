"""What programs say to `torch.compile`, `torch.compiler` and `torch._dynamo`."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import flambeau
from flambeau import compiler, nn
from flambeau.compiler import report
from flambeau.interpose.standins import _dynamo

try:
    import torch
except ImportError:
    torch = None

#: Names of torch.compiler that are not here: reason.
ABSENT = {
    "config": "settings of torch's own caches",
    "load_compiled_function": "compiled functions are not files",
}


def names(fn: Any) -> list[str]:
    """The parameters of a function, without those that stand for any."""
    found = inspect.signature(fn).parameters.values()
    return [p.name for p in found if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


@pytest.mark.skipif(torch is None, reason="torch is not installed")
def test_names_and_parameters_are_torchs() -> None:
    assert names(flambeau.compile) == names(torch.compile)
    missing = {n for n in torch.compiler.__all__ if not hasattr(compiler, n)}
    assert missing == set(ABSENT)
    for name in set(torch.compiler.__all__) - missing - {"compile"}:
        mine, theirs = getattr(compiler, name), getattr(torch.compiler, name)
        if inspect.isfunction(theirs) and inspect.isfunction(mine):
            own = names(mine)
            assert own == names(theirs)[: len(own)], name


@pytest.mark.skipif(torch is None, reason="torch is not installed")
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "default", "options": {"a": 1}},
        {"mode": "fast"},
        {"backend": "nothing"},
        {"unknown": 1},
    ],
)
def test_refusals_are_torchs(options: dict[str, Any]) -> None:
    found = []
    for package in (flambeau, torch):
        with pytest.raises(Exception, match=r".") as caught:
            package.compile(lambda x: x, **options)(package.ones(2))
        found.append(caught.value)
    assert isinstance(found[0], (RuntimeError, TypeError))
    assert isinstance(found[0], TypeError) == isinstance(found[1], TypeError)


@pytest.mark.parametrize(
    "options",
    [
        *({"mode": m} for m in ("default", "reduce-overhead", "max-autotune")),
        *({"backend": b} for b in ("inductor", "eager", "aot_eager")),
        *({"dynamic": d} for d in (None, True, False)),
        {"options": {"trace.enabled": False}},
        {"fullgraph": True, "name": "doubled", "recompile_limit": 2},
    ],
)
def test_ways_to_ask(options: dict[str, Any]) -> None:
    @flambeau.compile(**options)  # type: ignore[untyped-decorator]
    def fn(x: Any) -> Any:
        return x * 2

    for n in (3, 3, 3, 4, 5):
        assert fn(flambeau.ones(n)).tolist() == [2] * n
    assert report(fn).replays >= 1


def test_recordings_are_limited() -> None:
    fn = flambeau.compile(lambda x, k: x * k, recompile_limit=2, dynamic=False)
    for k in (2, 2, 3, 4, 5, 6):
        assert fn(flambeau.ones(()), k).item() == k
    assert report(fn).recordings == 2


def test_disabled() -> None:
    def fn(x: Any) -> Any:
        return x + 1

    assert flambeau.compile(fn, disable=True) is fn
    seen = []

    @compiler.disable
    def inner(x: Any) -> Any:
        seen.append(compiler.is_compiling())
        return x + 1

    outer = flambeau.compile(lambda x: inner(x) * 2)
    assert [outer(flambeau.ones(())).item() for _ in range(4)] == [4] * 4
    assert seen == [False] * 4
    assert report(outer).replays == 0


def test_modules_compile_in_place() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    keys = list(model.state_dict())
    model.compile(fullgraph=True)
    x = flambeau.ones(2, 3)
    first = model(x)
    for _ in range(3):
        assert flambeau.equal(model(x), first)
    assert list(model.state_dict()) == keys
    wrapped = flambeau.compile(model)
    assert isinstance(wrapped, _dynamo.OptimizedModule)
    assert list(wrapped.state_dict()) == [f"_orig_mod.{k}" for k in keys]


def test_what_programs_ask_while_they_are_recorded() -> None:
    seen = []

    @flambeau.compile
    def fn(x: Any) -> Any:
        seen.append(compiler.is_compiling())
        return x + 1

    fn(flambeau.ones(()))
    assert seen == [True]
    assert not compiler.is_compiling()
    assert not compiler.is_exporting()
    assert compiler.allow_in_graph(fn) is fn
    compiler.cudagraph_mark_step_begin()
    assert "inductor" in compiler.list_backends()


def test_reset_and_stances() -> None:
    fn = flambeau.compile(lambda x: x * 3)
    for _ in range(4):
        fn(flambeau.ones(2))
    assert report(fn).replays == 2
    with compiler.set_stance("fail_on_recompile"):
        fn(flambeau.ones(2))
        with pytest.raises(RuntimeError, match="fail_on_recompile"):
            fn(flambeau.ones(2, 2))
    _dynamo.reset()
    assert report(fn).recordings == report(fn).calls == 0
    _dynamo.config.recompile_limit = 16
    with pytest.raises(RuntimeError, match="stance"):
        compiler.set_stance("sideways")
