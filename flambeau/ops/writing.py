"""Writing into tensors that exist: the checks, the stores and the history of in-place forms."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from flambeau import overriding, record, snapshots
from flambeau.ir.graph import ASSIGN, CAST, COPY, VIEW, Node, Op
from flambeau.ops.entries import attach, tracks
from flambeau.ops.rows import NAMES, ROWS
from flambeau.overriding import UNCLAIMED, ask, claims
from flambeau.size import contiguous_strides
from flambeau.tape import modes, without_autocast
from flambeau.tensor import Tensor, make, over


def _refuse_twice(t: Tensor) -> None:
    if t._map is not None and any(
        s == 0 and n > 1 for n, s in zip(t._shape, t._map[0], strict=True)
    ):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor "
            "refers to a single memory location. Please clone() the tensor before "
            "performing the operation."
        )


def check_writable(t: Tensor) -> None:
    """Refuse in-place writes that torch refuses, before anything is recorded."""
    _refuse_twice(t)
    if t._inference and not modes.inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not "
            "allowed.You can make a clone to get a normal tensor before doing "
            "inplace update.See https://github.com/pytorch/rfcs/pull/17 for more "
            "details."
        )
    if modes.grad and t.requires_grad:
        base = t._base
        if t.grad_fn is None:
            raise RuntimeError(
                "a leaf Variable that requires grad is being used in an in-place operation."
            )
        # the leaf is the base, or another view of a base that has no history itself
        if base is not None and base._grad_fn is None:
            raise RuntimeError(
                "a view of a leaf Variable that requires grad is being used in an "
                "in-place operation."
            )
        if t._multi_view:
            raise RuntimeError(
                "Output 0 of Unbind is a view and is being modified "
                "inplace. This view is the output of a function that returns "
                "multiple views. Such functions do not allow the output views to "
                "be modified inplace. You should replace the inplace operation by "
                "an out-of-place one."
            )


def write_into(t: Tensor, value: Tensor) -> None:
    """Store `value` in `t`'s memory, with history: the second half of every in-place form."""
    if value._shape != t._shape:
        raise RuntimeError(
            f"output with shape {list(t._shape)} doesn't match the broadcast shape "
            f"{list(value._shape)}"
        )
    if value.dtype.category > t.dtype.category:
        raise RuntimeError(
            f"result type {value.dtype.word} can't be cast to the desired output "
            f"type {t.dtype.word}"
        )
    store(t, value)


def store(t: Tensor, value: Tensor) -> None:
    """As `write_into`, converting freely between dtypes (copy_, indexing)."""
    node = value._node()
    if node.dtype is not t.dtype:
        node = Node(CAST, (node,), (), node.shape, t.dtype)
    elif node.buffer is not None or node.op is VIEW:
        node = Node(COPY, (node,), (), node.shape, node.dtype)
    target = t._map
    if t.dtype is not t._cell.node.dtype:
        node, target = _through_bits(t, node), None
    exposed = record.is_exposed(value._cell)
    if modes.grad and (value.requires_grad or t.requires_grad):
        rebase(t, value)
    record.write(t._cell, node, None if target is None else (t._shape, *target))
    if (t if t._base is None else t._base)._unseen:
        t._cell.version -= 1
    if exposed:
        snapshots.settle([value._cell])


def _through_bits(t: Tensor, value: Node) -> Node:
    """The whole storage of `t` after a write through its view of the bits as another dtype."""
    old = t._cell.node
    bits = ROWS["bits_as"]
    count = t._storage_numel
    flat = Node(bits, (old,), (t.dtype,), (count,), t.dtype)
    assert t._map is not None
    written = Node(ASSIGN, (flat, value), (t._shape, *t._map), (count,), t.dtype)
    back = Node(bits, (written,), (old.dtype,), (old.numel,), old.dtype)
    shaped = Node(VIEW, (back,), (contiguous_strides(old.shape), 0), old.shape, old.dtype)
    return Node(COPY, (shaped,), (), old.shape, old.dtype)


def rebase(t: Tensor, value: Tensor) -> None:
    """Give `t` (through its base, if it is a view) the history of a value written to it."""
    base = t._base
    if base is None:
        if value.dtype is not t.dtype:
            value = NAMES["to_dtype"](value, t.dtype)
        t._grad_fn, t._output_nr, t._rg = value.grad_fn, value._output_nr, value._rg
        if t._grad_fn is None and value._rg:  # the value is a leaf: go through a copy
            copied = NAMES["clone"](value)
            t._grad_fn, t._output_nr = copied._grad_fn, copied._output_nr
        t._generation += 1
        return
    geometry = (
        t._shape,
        t._strides,
        t.storage_offset(),
        base._strides,
        base.storage_offset(),
        t._storage_numel,
    )
    args = (base, value)
    entry_of = over(base._cell, base._shape, base.dtype, base._map)
    attach(ASSIGN, args, {"geometry": geometry}, (entry_of,))
    base._grad_fn, base._output_nr, base._rg = entry_of._grad_fn, 0, True
    base._generation += 1


def _refuse_overlap(out: Any, args: Any, apart: bool) -> None:
    """Refuse an `out=` that shows one place twice, or shares some of an argument's places.

    Args:
        apart: refuse also what is the argument itself.
    """
    if isinstance(args, (tuple, list)):
        for a in args:
            _refuse_overlap(out, a, apart)
        return
    if not isinstance(args, Tensor) or args._cell is not out._cell or not args.numel():
        return
    mine, other = (
        (t.storage_offset(), tuple((n, s) for n, s in zip(t._shape, t._strides) if n != 1))
        for t in (out, args)
    )
    if mine == other and not apart:
        return
    ends = [o + sum((n - 1) * s for n, s in walk) for o, walk in (mine, other)]
    if mine[0] <= ends[1] and other[0] <= ends[0]:
        raise RuntimeError(
            "unsupported operation: some elements of the input tensor and the written-to tensor "
            "refer to a single memory location. Please clone() the tensor before performing the "
            "operation."
        )


def write_out(out: Any, value: Any, args: Any = (), how: Any = ()) -> Any:
    """Store a result in the tensor(s) given as `out=`, which take its shape.

    Args:
        args: the arguments of the call, which `out` must not share some places with.
        how: "apart": nor may it be one of them; "exact": it must have the result's dtype.
    """
    if isinstance(value, tuple):
        outs = tuple(write_out(o, v, args, how) for o, v in zip(out, value, strict=True))
        return type(value)(*outs) if hasattr(value, "_fields") else outs
    if modes.grad and (out.requires_grad or value.requires_grad):
        raise RuntimeError(
            f"{value.grad_fn.name() if value.grad_fn else 'out'}(): functions with "
            "out=... arguments don't support automatic differentiation, but one of "
            "the arguments requires grad."
        )
    _refuse_twice(out)
    _refuse_overlap(out, args, "apart" in how)
    if "exact" in how and value.dtype is not out.dtype:
        raise RuntimeError(
            f"Expected out tensor to have dtype {value.dtype}, but got {out.dtype} instead"
        )
    if value.dtype.category > out.dtype.category:
        raise RuntimeError(
            f"result type {value.dtype.word} can't be cast to the desired output "
            f"type {out.dtype.word}"
        )
    if out._shape != value._shape:
        fresh = make(
            Node(COPY, (value._node(),), (), value._shape, value.dtype), value._cell.device
        )
        if fresh.dtype is not out.dtype:
            fresh = NAMES["to_dtype"](fresh, out.dtype)
        out._cell, out._map, out._shape = fresh._cell, None, fresh._shape
        return out
    store(out, value)
    return out


def out_form(
    call: Callable[..., Any], body: Callable[..., Any], how: list[str]
) -> Callable[..., Any]:
    """A row's function with the parameter `out=`, which autocast leaves alone where it is given."""

    @functools.wraps(body)
    def with_out(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is None:
            return call(*args, **kwargs)
        if overriding.on:
            named = {**kwargs, "out": out}
            if (found := ask(with_out, args, named)) is not UNCLAIMED:
                return found
        with without_autocast():
            return write_out(out, call(*args, **kwargs), (*args, *kwargs.values()), how)

    return with_out


def strict_form(op: Op, call: Callable[..., Any]) -> Callable[..., Any]:
    """What users call where a row wants tensors at some positions."""
    names = op.parameters

    @functools.wraps(call)
    def strict(*args: Any, **kwargs: Any) -> Any:
        for i in op.tensors:
            given = args[i] if i < len(args) else kwargs.get(names[i])
            if type(given) is not Tensor and not isinstance(given, Tensor):
                if overriding.on or claims(args, kwargs):
                    if (found := ask(strict, args, kwargs)) is not UNCLAIMED:
                        return found
                raise TypeError(
                    f"{op.name}(): argument '{names[i]}' (position {i + 1}) must be Tensor, not "
                    f"{type(given).__name__}"
                )
        return call(*args, **kwargs)

    strict.unchecked = call  # type: ignore[attr-defined]
    return strict


def inplace_form(op: Op, call: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The form `name` + "_" of a row, which writes its result into its first argument."""
    if op.autocast is not None:
        call = _unconverted(call)

    def write(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if overriding.on and (found := ask(write, (input, *args), kwargs)) is not UNCLAIMED:
            return found
        check_writable(input)
        given = input
        if (
            modes.grad
            and (tracks((input,)) or tracks(args) or tracks(kwargs.values()))
            and (op.vjp is None or op.parameters[0] in op.saves)
        ):
            given = _before_writing(input)
        if input._cell.exposed is None:
            write_into(input, call(given, *args, **kwargs))
        else:
            with record.together():
                write_into(input, call(given, *args, **kwargs))
        return input

    write.__name__ = write.__qualname__ = name + "_"
    write.__signature__ = op.signature  # type: ignore[attr-defined]
    write.__doc__ = f"In-place form of `{name}`."
    return write


def view_form(op: Op, call: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The form `name` + "_" of a row that gives a view: the tensor itself becomes that view."""

    def show(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if overriding.on and (found := ask(show, (input, *args), kwargs)) is not UNCLAIMED:
            return found
        if modes.grad and input.requires_grad and input.grad_fn is None:
            raise RuntimeError(
                "a leaf Variable that requires grad is being used in an in-place operation."
            )
        found = call(input, *args, **kwargs)
        input._shape, input._map, input._view_cache = found._shape, found._map, None
        if found._grad_fn is not None:
            input._grad_fn, input._output_nr = found._grad_fn, found._output_nr
            input._generation += 1
        return input

    show.__name__ = show.__qualname__ = name + "_"
    show.__signature__ = op.signature  # type: ignore[attr-defined]
    show.__doc__ = f"In-place form of `{name}`: the same memory, shown otherwise."
    return show


def write_form(op: Op, call: Callable[..., Any], name: str, how: bool | str) -> Callable[..., Any]:
    """The form `name` + "_" of a row: of a view's ("view") or of another's."""
    return (view_form if how == "view" else inplace_form)(op, call, name)


def functional_form(
    op: Op, call: Callable[..., Any], write: Callable[..., Any]
) -> Callable[..., Any]:
    """The form that `nn.functional` has: a last parameter `inplace`."""
    count = len(op.parameters)

    @functools.wraps(op.body)  # type: ignore[arg-type]
    def form(*args: Any, inplace: bool = False, **kwargs: Any) -> Any:
        if overriding.on:
            named = {**kwargs, "inplace": inplace} if inplace else kwargs
            if (found := ask(form, args, named)) is not UNCLAIMED:
                return found
        if len(args) > count:
            *rest, inplace = args
            args = tuple(rest)
        return (write if inplace else call)(*args, **kwargs)

    last = inspect.Parameter("inplace", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False)
    form.__signature__ = op.signature.replace(  # type: ignore[attr-defined]
        parameters=[*op.signature.parameters.values(), last]
    )
    return form


def _unconverted(call: Callable[..., Any]) -> Callable[..., Any]:
    """A row's function that autocast leaves alone."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with without_autocast():
            return call(*args, **kwargs)

    return run


def _before_writing(t: Tensor) -> Tensor:
    """The value and history that `t` has now, for a derivative that reads it after the write."""
    kept = make(Node(COPY, (t._node(),), (), t._shape, t.dtype), t._cell.device)
    if t.requires_grad:
        kept._grad_fn, kept._output_nr, kept._rg = t.grad_fn, t._output_nr, True
    return kept
