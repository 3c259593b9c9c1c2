"""The tape as a user sees it: entries, edges, hooks on several tensors, hooks on what is saved."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flambeau.tape import GradFn, Handle, edge_of, saved_hooks
from flambeau.tensor import Tensor

Node = GradFn


class GradientEdge(NamedTuple):
    """Where the gradient of a tensor goes: stands for the tensor in `grad` and `backward`.

    Attributes:
        node: the tape entry.
        output_nr: which of its results is meant.
        ownership_token: nothing here; entries keep what they need.
    """

    node: GradFn
    output_nr: int
    ownership_token: Any = None


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge that a tensor's gradient arrives on.

    Raises:
        RuntimeError: the tensor does not require grad.
    """
    if not tensor.requires_grad:
        raise RuntimeError(
            "It is not possible to get the gradient edge for a Tensor that does not "
            "require gradients"
        )
    return GradientEdge(*edge_of(tensor))


def increment_version(tensor: Any) -> None:
    """Count a write that autograd has not seen.

    Args:
        tensor: one tensor or several.
    """
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        t._cell.version += 1


class saved_tensors_hooks:
    """Inside, what the tape saves goes through `pack_hook`, and back through `unpack_hook` when a
    backward pass reads it.

    Args:
        pack_hook: tensor -> anything.
        unpack_hook: that thing -> a tensor with the same values.
    """

    def __init__(self, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> None:
        self.pack_hook = pack_hook
        self.unpack_hook = unpack_hook

    def __enter__(self) -> None:
        stack = saved_hooks()
        if _disabled.message is not None:
            raise RuntimeError(_disabled.message)
        stack.append((self.pack_hook, self.unpack_hook))

    def __exit__(self, *exc: object) -> None:
        saved_hooks().pop()


class _Disabled(threading.local):
    message: str | None = None


_disabled = _Disabled()


class disable_saved_tensors_hooks:
    """Inside, entering `saved_tensors_hooks` raises a RuntimeError with this message."""

    def __init__(self, error_message: str, prev_message: str | None = None) -> None:
        self.error_message = error_message

    def __enter__(self) -> None:
        self._was = _disabled.message
        _disabled.message = self.error_message

    def __exit__(self, *exc: object) -> None:
        _disabled.message = self._was


class save_on_cpu(saved_tensors_hooks):
    """Inside, what the tape saves is kept in the CPU's memory and moved back when it is read.

    Args:
        pin_memory: accepted; pages of host memory are not pinned.
        device_type: accepted as torch does.
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        def pack(tensor: Any) -> tuple[Any, Any]:
            return tensor.device, tensor.clone() if tensor.is_cpu else tensor.to("cpu")

        def unpack(packed: tuple[Any, Any]) -> Any:
            device, tensor = packed
            return tensor.to(device)

        super().__init__(pack, unpack)


class _Several:
    """The hooks of one `register_multi_grad_hook` call, removed together."""

    def __init__(self, handles: Sequence[Handle]) -> None:
        self.handles = tuple(handles)

    def remove(self) -> None:
        """Take all the hooks away."""
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> _Several:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Callable[..., Any], *, mode: str = "all"
) -> _Several:
    """Call a function once a backward pass has the gradients of several tensors.

    Args:
        tensors: which require grad.
        fn: called with a list of gradients (None where the pass has none) for "all", with the first
            gradient that is computed for "any".
        mode: "all" or "any".

    Raises:
        ValueError: another mode.
        RuntimeError: a tensor does not require grad.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    lock = threading.Lock()
    passes: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()
    edges = [edge_of(t) for t in tensors]

    def hook(place: int) -> Callable[[Any], None]:
        def run(gradient: Any) -> None:
            task = current_task()
            with lock:
                found = passes.get(task)
                if found is None:
                    expected = sum(task.reaches(edge[0]) for edge in edges)
                    found = passes[task] = [expected, 0, [None] * len(edges)]
                found[1] += 1
                found[2][place] = gradient
                first, last = found[1] == 1, found[1] == found[0]
            if mode == "any" and first:
                fn(gradient)
            elif mode == "all" and last:
                fn(found[2])

        return run

    return _Several([t.register_hook(hook(k)) for k, t in enumerate(tensors)])


#: The backward pass that runs in this thread, innermost last.
_running = threading.local()


def running_tasks() -> list[Any]:
    """The stack of backward passes of this thread."""
    stack: list[Any] = _running.__dict__.setdefault("stack", [])
    return stack


def current_task() -> Any:
    """The backward pass that calls a hook."""
    return running_tasks()[-1]


__all__ = [
    "GradientEdge",
    "Node",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]
