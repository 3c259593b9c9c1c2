"""Functions whose saved tensors are computed again run and call hooks as often as torch's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.same import Library, array, both, given

torch = pytest.importorskip("torch")


def checkpoints(lib: Library) -> Any:
    """The module `utils.checkpoint` of a library."""
    return __import__(f"{lib.__name__}.utils.checkpoint", fromlist=["checkpoint"])


def weights(lib: Library) -> list[Any]:
    return [given(lib, array((4, 4), k), grad=True) for k in range(3)]


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("graph", [False, True])
def test_hooks_and_runs(early: bool, graph: bool) -> None:
    def program(lib: Library) -> Any:
        module, (x, v, w) = checkpoints(lib), weights(lib)
        log: list[str] = []

        def note(name: str) -> Any:
            def hook(g: Any) -> None:
                log.append(name)

            return hook

        def function(x: Any, *, scale: Any) -> Any:
            log.append("begins")
            h = lib.tanh(x @ v)
            h.register_hook(note("hidden"))
            y = lib.sin(h @ w) * scale
            log.append("saved")
            y = y + 1
            log.append("ends")
            return y, x * 2

        x.register_hook(note("x"))
        with module.set_checkpoint_early_stop(early):
            y, z = module.checkpoint(function, x, use_reentrant=False, scale=v)
        log.append("backward")
        loss = (y * y).sum() + z.sum()
        grads = lib.autograd.grad(loss, [x, v, w], retain_graph=True, create_graph=graph)
        log.append("again")
        if graph:
            grads += lib.autograd.grad(sum((g * g).sum() for g in grads), [x, v, w])
        else:
            loss.backward()
        return [list(log), grads, [t.grad for t in (x, v, w)]]

    both(program, rtol=1e-4, atol=1e-5)


def test_nested() -> None:
    def program(lib: Library) -> Any:
        module, (x, v, w) = checkpoints(lib), weights(lib)
        runs: list[str] = []

        def inner(h: Any) -> Any:
            runs.append("inner")
            return lib.exp(lib.sin(h @ w))

        def outer(x: Any) -> Any:
            runs.append("outer")
            h = lib.cos(x @ v)
            h = module.checkpoint(inner, h, use_reentrant=False)
            return lib.sin(h)

        module.checkpoint(outer, x, use_reentrant=False).sum().backward()
        return [runs, x.grad, v.grad, w.grad]

    both(program, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["shape", "more", "fewer"])
def test_other_tensors_the_second_time(kind: str) -> None:
    def program(lib: Library) -> Any:
        module, (x, *_) = checkpoints(lib), weights(lib)
        first = [True]

        def function(x: Any) -> Any:
            y = lib.sin(x)
            if first.pop() if first else False:
                return lib.exp(lib.cos(y)) if kind == "fewer" else y * y
            if kind == "shape":
                y = y[:2]
            return lib.exp(y) if kind == "fewer" else y * y * y

        with module.set_checkpoint_early_stop(kind == "fewer"):
            y = module.checkpoint(function, x, use_reentrant=False)
        with pytest.raises(module.CheckpointError, match="different"):
            y.sum().backward()
        return []

    both(program)


def test_without_gradients() -> None:
    def program(lib: Library) -> Any:
        module, (x, v, _) = checkpoints(lib), weights(lib)
        with lib.no_grad():
            y = module.checkpoint(lambda a: a @ v, x, use_reentrant=False)
        with pytest.raises(ValueError, match="use_reentrant=False"):
            module.checkpoint(lambda a: a, x, use_reentrant=True, context_fn=lambda: None)
        return [y, y.requires_grad]

    both(program)
