"""Operators of one's own: functions under a name `namespace::name`, with gradients (torch.library).

A custom operator is opaque: what its function does is not recorded for autograd. Its derivative is
what `register_autograd` says.

Example:
    >>> import numpy as np
    >>> import flambeau
    >>> @flambeau.library.custom_op("doc::sine", mutates_args=())
    ... def sine(x: flambeau.Tensor) -> flambeau.Tensor:
    ...     return flambeau.from_numpy(np.sin(x.numpy()))
    >>> sine.register_autograd(
    ...     lambda ctx, g: g * ctx.saved_tensors[0].cos(),
    ...     setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    ... )
    >>> x = flambeau.zeros(2, requires_grad=True)
    >>> flambeau.library.ops.doc.sine(x).sum().backward()
    >>> x.grad
    tensor([1., 1.])
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from flambeau import overriding
from flambeau.autograd.function import Function
from flambeau.ops.dispatching import OpOverloadPacket, overload_of
from flambeau.ops.entries import tracks
from flambeau.ops.rows import NAMES
from flambeau.overriding import UNCLAIMED
from flambeau.pytree import _broadcast_to_and_flatten, tree_flatten
from flambeau.tape import modes
from flambeau.tensor import Tensor

_REGISTERED: dict[str, CustomOpDef] = {}


class CustomOpDef:
    """An operator; call it as its function.

    Args:
        name: `namespace::name`.
        fn: what it computes, or None until a kernel is registered.
        mutates_args: names of the arguments it writes.
    """

    def __init__(
        self, name: str, fn: Callable[..., Any] | None, mutates_args: Iterable[str] | str = ()
    ) -> None:
        """Enter it under its name.

        Raises:
            ValueError: the name is not of the form `namespace::name`.
        """
        if len(name.split("::")) != 2:
            raise ValueError(f"Expected name to be of form namespace::name, got {name!r}")
        self._qualname = name
        self._init_fn = fn
        self._fake: Callable[..., Any] | None = None
        self._backward: Callable[..., Any] | None = None
        self._setup: Callable[..., Any] | None = None
        self._signature = None if fn is None else inspect.signature(fn)
        self.mutates_args = mutates_args
        _REGISTERED[name] = self

    def __repr__(self) -> str:
        return f"<CustomOpDef({self._qualname})>"

    @property
    def default(self) -> CustomOpDef:
        """The operator: it has one overload."""
        return self

    def register_kernel(self, device_types: Any, fn: Any = None, /) -> Any:
        """Set the function for devices; a decorator without `fn`. There is the CPU."""

        def register(fn: Callable[..., Any]) -> Callable[..., Any]:
            self._init_fn, self._signature = fn, inspect.signature(fn)
            return fn

        kinds = [device_types] if isinstance(device_types, str) else device_types
        if kinds is not None and "cpu" not in kinds:
            return (lambda fn: fn) if fn is None else fn
        return register if fn is None else register(fn)

    def register_fake(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Set what is called with meta tensors: the results' shapes."""
        self._fake = fn
        return fn

    def register_autograd(
        self, backward: Callable[..., Any], /, *, setup_context: Callable[..., Any] | None = None
    ) -> None:
        """Set the derivative.

        Args:
            backward: called as backward(ctx, *cotangents of the outputs); returns a cotangent, or
                None, for each argument.
            setup_context: called as setup_context(ctx, inputs, output) after the function.
        """
        self._backward, self._setup = backward, setup_context

    def register_vmap(self, func: Any = None, /) -> Any:
        """Accepted; batches are made example by example."""
        return (lambda fn: fn) if func is None else func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's result, with a tape entry where an argument needs a gradient.

        Raises:
            NotImplementedError: no function was registered.
        """
        if overriding.on and (answer := overriding.ask(self, args, kwargs)) is not UNCLAIMED:
            return answer
        if self._signature is not None:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        leaves, spec = tree_flatten((args, kwargs))
        call = self._init_fn
        if self._fake is not None and any(isinstance(a, Tensor) and a.is_meta for a in leaves):
            call = self._fake
        if call is None:
            raise NotImplementedError(f"{self._qualname}: no kernel was registered for the CPU")
        if not (modes.grad and tracks(leaves)) or self.mutates_args:
            return call(*args, **kwargs)
        return _Entry.apply(self, call, spec, *leaves)


class _Entry(Function):
    """One call of an operator, over the leaves of its arguments."""

    @staticmethod
    def forward(ctx: Any, op: CustomOpDef, call: Any, spec: Any, *leaves: Any) -> Any:
        """Call the function and let the operator keep what its derivative reads."""
        args, kwargs = spec.unflatten(leaves)
        found = call(*args, **kwargs)
        ctx.op, ctx.spec = op, spec
        ctx.needs_input_grad = ctx.needs_input_grad[3:]
        if op._setup is not None:
            only = {"keyword_only_inputs": kwargs} if kwargs else {}
            op._setup(ctx=ctx, inputs=args, output=found, **only)
        return tuple(found) if isinstance(found, list) else found

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        """The cotangents of the leaves."""
        op: CustomOpDef = ctx.op
        if op._backward is None:
            raise RuntimeError(
                f"Trying to backward through {op._qualname} but no autograd formula was "
                "registered. Please use register_autograd to add one."
            )
        found = op._backward(ctx, *cotangents)
        found = found if isinstance(found, tuple) else (found,)
        leaves = _broadcast_to_and_flatten(found, ctx.spec.child(0))
        if leaves is None:
            raise RuntimeError(
                f"the derivative of {op._qualname} must return a gradient, or None, for each of "
                f"its {ctx.spec.child(0).num_children} inputs; it returned {len(found)}"
            )
        return (None, None, None, *leaves, *[None] * ctx.spec.child(1).num_leaves)


def custom_op(
    name: str,
    fn: Callable[..., Any] | None = None,
    /,
    *,
    mutates_args: str | Iterable[str],
    device_types: Any = None,
    schema: str | None = None,
    tags: Any = None,
) -> Any:
    """Make a function an operator; a decorator without `fn`.

    Args:
        name: `namespace::name`.
        fn: tensors and other arguments to tensors.
        mutates_args: names of the arguments it writes; calls of such operators have no gradient.
        device_types: the devices that the function is for.
        schema: accepted; the function's signature says it.
        tags: accepted.

    Returns:
        The `CustomOpDef`.
    """

    def define(fn: Callable[..., Any]) -> CustomOpDef:
        kinds = [device_types] if isinstance(device_types, str) else device_types
        here = kinds is None or "cpu" in kinds
        return CustomOpDef(name, fn if here else None, mutates_args)

    return define if fn is None else define(fn)


def _op(which: Any) -> CustomOpDef:
    if isinstance(which, CustomOpDef):
        return which
    name = str(which).removesuffix(".default")
    found = _REGISTERED.get(name)
    return CustomOpDef(name, None) if found is None else found


def register_kernel(op: Any, device_types: Any, func: Any = None, /, *, lib: Any = None) -> Any:
    """`CustomOpDef.register_kernel` of an operator that was named."""
    return _op(op).register_kernel(device_types, func)


def register_fake(op: Any, func: Any = None, /, *, lib: Any = None, **options: Any) -> Any:
    """`CustomOpDef.register_fake` of an operator that was named; a decorator without `func`."""
    found = _op(op)
    return found.register_fake if func is None else found.register_fake(func)


impl_abstract = register_fake


def register_autograd(
    op: Any, backward: Callable[..., Any], /, *, setup_context: Any = None, lib: Any = None
) -> None:
    """`CustomOpDef.register_autograd` of an operator that was named."""
    _op(op).register_autograd(backward, setup_context=setup_context)


def register_vmap(op: Any, func: Any = None, /, *, lib: Any = None) -> Any:
    """`CustomOpDef.register_vmap` of an operator that was named."""
    return _op(op).register_vmap(func)


class Library:
    """Operators of a namespace, declared by schemas and defined later.

    Args:
        ns: the namespace.
        kind: "DEF", "IMPL" or "FRAGMENT".
        dispatch_key: for `impl` where that says none.
    """

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        """Remember the namespace."""
        if kind not in ("DEF", "IMPL", "FRAGMENT"):
            raise ValueError(f"Unsupported kind: {kind}")
        self.ns, self.kind, self.dispatch_key = ns, kind, dispatch_key

    def define(self, schema: str, alias_analysis: str = "", *, tags: Any = ()) -> str:
        """Declare `name(Tensor x, ...) -> Tensor`; arguments marked `(a!)` are written."""
        name = schema.partition("(")[0].strip()
        written = re.findall(r"\(\w!\)\S*\s+(\w+)", schema)
        CustomOpDef(f"{self.ns}::{name}", None, written)
        return name

    def impl(self, op_name: Any, fn: Callable[..., Any], dispatch_key: str = "", **_: Any) -> None:
        """Define an operator for a dispatch key: the CPU's kernel, or the shapes for Meta."""
        name = op_name if isinstance(op_name, str) else op_name._qualname
        op = _op(name if "::" in name else f"{self.ns}::{name}")
        key = (dispatch_key or self.dispatch_key or "CompositeImplicitAutograd").lower()
        if key == "meta":
            op.register_fake(fn)
        elif key == "cpu" or key.startswith("composite"):
            op.register_kernel("cpu", fn)


def define(qualname: str, schema: str, *, lib: Any = None, tags: Any = ()) -> None:
    """Declare an operator `namespace::name` with the schema of its arguments."""
    ns, _, name = qualname.partition("::")
    Library(ns, "FRAGMENT").define(name + schema)


def impl(qualname: Any, types: Any, func: Any = None, *, lib: Any = None) -> Any:
    """Define an operator for device types; with a `Library`, `impl(lib, name, dispatch_key)`."""
    if isinstance(qualname, Library):
        library, key = qualname, func or ""

        def register(fn: Callable[..., Any]) -> Callable[..., Any]:
            library.impl(types, fn, key)
            return fn

        return register
    return _op(qualname).register_kernel(None if types == "default" else types, func)


class _Namespace:
    """`ops.NAMESPACE`: its operators as attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found: Any = _REGISTERED.get(f"{self._name}::{name}")
        if found is None and self._name in ("aten", "prims"):
            call: Any = NAMES.get(name) or getattr(Tensor, name, None)
            if hasattr(call, "row") or getattr(call, "whole", False):
                found = self.__dict__[name] = OpOverloadPacket(overload_of(call))
        if found is None:
            raise AttributeError(
                f"'_OpNamespace' '{self._name}' object has no attribute '{name}'", name=name
            )
        return found


class _Ops:
    """torch's `ops`: operators by namespace and name."""

    def __getattr__(self, name: str) -> _Namespace:
        if name.startswith("__"):
            raise AttributeError(name)
        space = self.__dict__[name] = _Namespace(name)
        return space

    def load_library(self, path: Any) -> None:
        """Refuses: compiled extensions of PyTorch need PyTorch.

        Raises:
            OSError: always.
        """
        raise OSError(f"{path} is an extension of PyTorch's own binaries and cannot be loaded")


ops = _Ops()
"""Operators by namespace: `ops.mylib.name(...)`; `ops.aten.name` is the function of that name."""
