"""The table: how a row is declared, and the one mechanism that records calls of rows.

A row is a typed function. `elementwise`, `view` and `primitive` declare primitives, whose body is a
shape rule; `composite` declares a row whose body is its decomposition. From a row follow the public
function, the method, the in-place form `name_` and `out=`; gradients follow from its `vjp`.

    @elementwise(result="float")
    def exp(input): ...

    exp.vjp(lambda g, out, input: (g * out,), saves="out")
    exp.samples(lambda r: [(r(3, 4),), (r(),)])

A vjp gets the output's cotangent, the output and the arguments; tensors that `saves` does not
name arrive as `Spec` (shape and dtype only), so nothing is kept alive by accident.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from flambeau import overriding, record, snapshots
from flambeau.dtype import ALL, float64, get_default_dtype, result_type, scalar_dtype
from flambeau.dtype import bool as bool_dtype
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import CAST, PICK, Constant, Node, Op
from flambeau.ir.symbol import SymInt, as_float
from flambeau.ops.arguments import bind, by_torch_names, check_first, dtype_form
from flambeau.ops.autocast import cast_call
from flambeau.ops.entries import attach, attach_two, tracks
from flambeau.ops.rows import FUNCTIONAL, NAMES, ROWS, SPACES, new_row, set_samples, set_vjp
from flambeau.ops.writing import functional_form, out_form, strict_form, write_form, write_out
from flambeau.overriding import UNCLAIMED, Unasked, ask, claims
from flambeau.size import broadcast_shapes, contiguous_strides
from flambeau.tape import modes, without_autocast
from flambeau.tensor import Tensor, _new, make, over

Number = (bool, int, float)
_NUMBERS = frozenset((bool, int, float, complex, Constant))


# -- declaring ------------------------------------------------------------------------------------


def _finish(
    op: Op,
    call: Callable[..., Any],
    body: Callable[..., Any],
    *,
    public: bool = True,
    method: bool = True,
    inplace: bool | str = False,
    out: bool | str = False,
    functional: bool = False,
    aliases: Iterable[str] = (),
) -> Any:
    """Publish a row's function: namespace, method, in-place and out= forms, row attributes.

    An alias such as "linalg.svd" is the function's name in that module, and nothing else.
    """
    if call is not body:
        functools.update_wrapper(call, body)
    if out:
        call = out_form(call, body, str(out).split())
    if "dtype" in op.parameters:
        call = dtype_form(op, call)
    op.call = call
    call.row = op  # type: ignore[attr-defined]
    call.vjp = functools.partial(set_vjp, op)  # type: ignore[attr-defined]
    call.reference = functools.partial(setattr, op, "reference")  # type: ignore[attr-defined]
    call.samples = functools.partial(set_samples, op)  # type: ignore[attr-defined]
    call.results = functools.partial(setattr, op, "results")  # type: ignore[attr-defined]
    call.flops = functools.partial(setattr, op, "flops")  # type: ignore[attr-defined]
    call.batch = functools.partial(setattr, op, "batch")  # type: ignore[attr-defined]
    for name in (body.__name__, *aliases):
        space, _, short = name.rpartition(".")
        if space:
            SPACES[space][short] = call
            continue
        if public:
            NAMES[name] = call
        if method:
            setattr(Tensor, name, call)
        if functional:
            FUNCTIONAL[name] = call
        if inplace:
            write = write_form(op, call, name, inplace)
            if public:
                NAMES[name + "_"] = write
            if method:
                setattr(Tensor, name + "_", write)
            if functional:
                FUNCTIONAL[name] = functional_form(op, call, write)
                FUNCTIONAL[name + "_"] = write
    return call


# -- elementwise ----------------------------------------------------------------------------------


def elementwise(
    *,
    result: str = "same",
    method: bool = True,
    inplace: bool = True,
    public: bool = True,
    aliases: Iterable[str] = (),
    fixed: Iterable[int] = (),
    specialise: Iterable[int] = (),
    tensors: Iterable[int] = (),
    jvp: Any = "elementwise",
    differentiable: bool = True,
    **fields: Any,
) -> Callable[[Any], Any]:
    """Declare an elementwise primitive; its body has only a docstring.

    Args:
        result: "same" as the promoted dtype, "float" (integers become the default float), "bool";
            "number" and "floating" are as "same" and refuse bools, and all but floats;
            "integral" refuses floats, "power" integers to negative powers, "modulus" is real for
            complex numbers.
        fixed: positions outside promotion (the condition of `where`).
        specialise: positions of numbers whose integral values are compiled in.
        tensors: positions at which users may give no number; other rows' bodies may.
        fields: of the row (`Op`). The derivative of one that is `complex` may be that of a
            holomorphic function: cotangents are conjugated around it (`autograd.backward`).
    """

    def declare(body: Callable[..., Any]) -> Any:
        op = new_row(
            body.__name__,
            "elementwise",
            body,
            result=result,
            jvp=jvp,
            fixed=frozenset(fixed),
            specialise=frozenset(specialise),
            tensors=frozenset(tensors),
            differentiable=differentiable and result != "bool",
            **fields,
        )
        arity = len(op.parameters)
        if arity == 1:

            def unary(input: Any, *, out: Any = None) -> Any:
                found = record_elementwise(op, (input,))
                return found if out is None else write_out(out, found, (input,))

            call: Callable[..., Any] = unary
        elif arity == 2:
            fast = binary(op)

            def of_two(input: Any, other: Any, *, out: Any = None) -> Any:
                found = fast(input, other)
                return found if out is None else write_out(out, found, (input, other))

            call = of_two
            if op.parameters[1] != "other" or op.parameters[0] != "input":
                call = _by_name(op)
        else:
            call = _by_name(op)
        functools.update_wrapper(call, body)
        published = strict_form(op, call) if op.tensors else call
        _finish(
            op,
            published,
            body,
            method=method,
            inplace=inplace and result != "bool",
            public=public,
            aliases=aliases,
        )
        call.__dict__.update(published.__dict__)
        return call

    return declare


def _by_name(op: Op) -> Callable[..., Any]:
    names = op.parameters
    defaults = {
        p.name: p.default
        for p in op.signature.parameters.values()
        if p.default is not inspect.Parameter.empty
    }

    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if len(args) < len(names):
            try:
                args += tuple(
                    kwargs.pop(n) if n in kwargs else defaults[n] for n in names[len(args) :]
                )
            except KeyError as missing:
                raise TypeError(
                    f"{op.name}() missing 1 required positional argument: {missing}"
                ) from None
        if kwargs or len(args) > len(names):
            raise TypeError(f"{op.name}() got unexpected arguments {list(kwargs)}")
        found = record_elementwise(op, args)
        return found if out is None else write_out(out, found, args)

    return call


def record_elementwise(op: Op, args: tuple[Any, ...]) -> Any:
    """Record an elementwise row over tensors and numbers: broadcasting, promotion, tape."""
    if overriding.on and (found := ask(op.call, args, {})) is not UNCLAIMED:
        return found
    shape: Any = None
    dtype: Any = None
    device: Any = None
    simple = True
    track, exposed = False, []
    src: list[Any] = []
    for a in args:
        if isinstance(a, Tensor):
            cell = a._cell
            if shape is None:
                shape = a._shape
                dtype = a.dtype
                device = cell.device
            elif a.dtype is not dtype or a._shape != shape or cell.device is not device:
                simple = False
            if a._rg or (a._base is not None and a._tracked()):
                track = True
            if cell.exposed is not None and record.is_exposed(cell):
                exposed.append(cell)
            src.append(cell.node if a._map is None else a._node())
        else:
            kind = type(a)
            if kind not in _NUMBERS and claims(args, {}):
                return record_elementwise(op, args)
            if dtype is None:
                simple = False
            elif kind is float or kind is Constant:
                simple = simple and dtype.category == 2
            elif kind is int:
                if dtype.category == 2:
                    a = float(a)
                elif dtype.category == 0:
                    simple = False
            else:
                simple = False
            src.append(a)
    how = op.result
    if (
        not simple
        or op.fixed
        or how == "integral"
        or (dtype.category != 2 and (how != "same" or dtype.category == 3))
    ):
        shape, dtype, device = _meet(op, args, src)
    node = Node(op, tuple(src), (), shape, bool_dtype if how == "bool" else dtype)
    t: Any = _new(Tensor)
    t._cell = record.new_cell(node, device)
    t._shape = shape
    t.dtype = node.dtype
    if track and modes.grad and op.differentiable and t.dtype.category >= 2:
        attach(op, args, {}, (t,))
    if exposed:
        snapshots.settle(exposed)
    if modes.inference:
        t._inference = True
    return t


def binary(op: Op, general: Callable[..., Any] | None = None) -> Callable[[Any, Any], Any]:
    """The call of a two-argument row, with the common case written out: tensors of one shape and
    dtype, or one and a number of its kind. Everything else goes the `general` way."""
    general = general or (lambda a, b: record_elementwise(op, (a, b)))
    if op.result == "integral":
        return general
    to_bool = op.result == "bool"
    least = {"same": 0, "bool": 0, "number": 1}.get(op.result, 2)
    unusual = frozenset(d for d in ALL if d.is_complex or d.category < least)
    differentiable = op.differentiable
    pending = record._pending
    new, cell_of, node_of = _new, record.Cell, Node

    def call(a: Any, other: Any) -> Any:
        if not isinstance(a, Tensor) or overriding.on:
            return general(a, other)
        dtype = a.dtype
        shape = a._shape
        cell = a._cell
        device = cell.device
        if isinstance(other, Tensor):
            beside = other._cell
            if (
                other.dtype is not dtype
                or other._shape != shape
                or beside.device is not device
                or beside.exposed is not None
            ):
                return general(a, other)
            second: Any = beside.node if other._map is None else other._node()
            track_b = other._rg if other._base is None else other._tracked()
        else:
            kind = type(other)
            if dtype.category == 2 and (kind is float or kind is int):
                second = float(other)
            elif kind is int and dtype.category == 1:
                second = other
            else:
                return general(a, other)
            track_b = False
        if cell.exposed is not None or dtype in unusual:
            return general(a, other)
        t: Any = new(Tensor)
        t.dtype = dtype = bool_dtype if to_bool else dtype
        t._shape = shape
        t._cell = made = cell_of(
            node_of(op, (cell.node if a._map is None else a._node(), second), (), shape, dtype),
            device,
        )
        pending.append(made)
        if record.sync or len(pending) >= record._next_check:
            record._bound()
        track_a = a._rg if a._base is None else a._tracked()
        if (track_a or track_b) and differentiable and dtype.category >= 2 and modes.grad:
            attach_two(op, a, other, t, track_a, track_b)
        if modes.inference:
            t._inference = True
        return t

    return call


#: By what `result` says: the least category of dtypes that a row takes.
_LEAST = {"number": 1, "floating": 2}
REFUSALS = {
    "neg": "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
    "invert a mask, use the `~` or `logical_not()` operator instead.",
    "minus": "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` "
    "or `logical_xor()` operator instead.",
}


def _meet(op: Op, args: tuple[Any, ...], src: list[Any]) -> tuple[Any, Any, Any]:
    """The general case of meeting arguments: fills `src` with nodes of the common dtype."""
    participants = []
    shapes = []
    device = None
    for i, a in enumerate(args):
        if isinstance(a, Tensor):
            shapes.append(a._shape)
            if device is None:
                device = a._cell.device
            elif a._cell.device != device:
                if not a._shape and a._cell.device.type == "cpu":
                    pass
                elif all(
                    (isinstance(b, Tensor) and not b._shape) or not isinstance(b, Tensor)
                    for b in args[:i]
                ):
                    device = a._cell.device
                else:
                    raise RuntimeError(
                        f"Expected all tensors to be on the same device, but found at least two "
                        f"devices, {device} and {a._cell.device}!"
                    )
            if i not in op.fixed:
                participants.append((a.dtype, 2 if a._shape else 1))
        else:
            if isinstance(a, complex):
                src[i] = NAMES["tensor"](a)._node()
            elif not isinstance(a, (bool, int, float)):
                src[i] = a = _plain_number(op, i, a)
            if i not in op.fixed:
                participants.append((scalar_dtype(a), 0))
    if device is None:
        raise TypeError(
            f"{op.name}(): argument 'input' (position 1) must be Tensor, not "
            f"{type(args[0]).__name__}"
        )
    dtype = result_type(tuple(participants))
    if op.result == "float" and dtype.category < 2:
        dtype = get_default_dtype()
    if op.result == "power" and dtype.category < 2 and type(src[1]) is int and src[1] < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    if dtype.category < _LEAST.get(op.result, 0) or (
        dtype.category >= (2 if op.result == "integral" else 3 + op.complex)
    ):
        if op.name in REFUSALS:
            raise RuntimeError(REFUSALS[op.name])
        raise NotImplementedError(f"\"{op.name}_cpu\" not implemented for '{dtype.word}'")
    try:
        shape = broadcast_shapes(*shapes)
    except RuntimeError as error:
        raise RuntimeError(str(error)) from None
    for i, s in enumerate(src):
        if i in op.fixed:
            continue
        if type(s) is Node:
            if s.dtype is not dtype:
                src[i] = Node(CAST, (s,), (), s.shape, dtype)
        elif dtype.category >= 2:
            if type(s) is not Constant:
                src[i] = as_float(s)
        elif dtype.category == 1:
            src[i] = int(s) if type(s) is not SymInt else s
    return shape, dtype.to_real() if op.result == "modulus" else dtype, device


def _plain_number(op: Op, position: int, a: Any) -> Any:
    if hasattr(a, "item") and getattr(a, "shape", None) == ():
        return a.item()
    raise TypeError(
        f"{op.name}(): argument '{op.parameters[position]}' (position {position + 1}) "
        f"must be Tensor, not {type(a).__name__}"
    )


# -- views ----------------------------------------------------------------------------------------


def view(
    *, method: bool = True, public: bool = True, aliases: Iterable[str] = ()
) -> Callable[[Any], Any]:
    """Declare a view primitive: body(t, *args) -> (shape, strides, offset) over t's storage."""

    def declare(body: Callable[..., Any]) -> Any:
        op = new_row(body.__name__, "view", body, jvp="linear")

        def call(input: Tensor, *args: Any) -> Any:
            if overriding.on and (found := ask(op.call, (input, *args), {})) is not UNCLAIMED:
                return found
            shape, strides, offset = body(input, *args)
            return record_view(op, input, args, shape, strides, offset)

        return _finish(op, call, body, method=method, public=public, aliases=aliases)

    return declare


def record_view(
    op: Op,
    input: Tensor,
    args: tuple[Any, ...],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
) -> Tensor:
    """A tensor showing `input`'s cell by other strides."""
    t: Tensor = _new(Tensor)
    cell = input._cell
    t._cell = cell
    t._shape = shape
    t.dtype = input.dtype
    node = cell.node
    if (
        offset
        or shape != node.shape
        or strides != contiguous_strides(shape)
        or input.dtype is not node.dtype
    ):
        t._map = (strides, offset)
    base = input._base
    t._base = input if base is None else base
    t._seen_generation = t._base._generation
    if (input._rg or (base is not None and input._tracked())) and modes.grad:
        attach(op, (input, *args), {}, (t,))
    if input._inference:
        t._inference = True
    return t


# -- everything else ------------------------------------------------------------------------------


def primitive(
    kind: str,
    *,
    method: bool = False,
    public: bool = False,
    inplace: bool = False,
    autocast: str | None = None,
    **fields: Any,
) -> Callable[[Any], Any]:
    """Declare a primitive whose body calls `emit(op, ...)` through the row it is given.

    The body is called as body(row, *args) and returns the output tensor (or tuple); the tape entry
    is made here. `autocast` is as in `composite`; `fields` are the row's (`Op`).
    """

    def declare(body: Callable[..., Any]) -> Any:
        op = new_row(body.__name__, kind, body, autocast=autocast, **fields)
        given = list(op.signature.parameters.values())[1:]
        op.parameters = tuple(p.name for p in given if p.kind is not p.KEYWORD_ONLY)
        op.signature = op.signature.replace(parameters=given)

        def call(*args: Any, **kwargs: Any) -> Any:
            if overriding.on and (found := ask(op.call, args, kwargs)) is not UNCLAIMED:
                return found
            if autocast is not None and modes.autocast is not None:
                return cast_call(autocast, call, args, kwargs)
            found = body(op, *args, **kwargs)
            if op.vjp is not None and tracks(args):
                outs = found if isinstance(found, tuple) else (found,)
                attach(op, args, kwargs, outs)
            return found

        call.__signature__ = op.signature  # type: ignore[attr-defined]
        return _finish(op, call, body, method=method, public=public, inplace=inplace)

    return declare


def emit(
    op: Op,
    tensors: Iterable[Tensor],
    attrs: tuple[Any, ...],
    shape: tuple[int, ...],
    dtype: DType,
    numbers: tuple[Any, ...] = (),
    device: Any = None,
) -> Tensor:
    """Record one node over tensors (then numbers) and return its tensor, without a tape entry."""
    src: list[Any] = []
    exposed: list[record.Cell] = []
    for t in tensors:
        cell = t._cell
        src.append(cell.node if t._map is None else t._node())
        if cell.exposed is not None and record.is_exposed(cell):
            exposed.append(cell)
        if device is None:
            device = cell.device
        elif cell.device is not device and cell.device != device:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least "
                f"two devices, {device} and {cell.device}!"
            )
    src.extend(numbers)
    found = make(Node(op, tuple(src), attrs, shape, dtype), device or record_device())
    if exposed:
        snapshots.settle(exposed)
    return found


def emit_many(
    op: Op,
    tensors: Iterable[Tensor],
    attrs: tuple[Any, ...],
    specs: Iterable[tuple[tuple[int, ...], DType]],
    numbers: tuple[Any, ...] = (),
) -> tuple[Tensor, ...]:
    """Record one node over tensors (then numbers) with several results, taken apart by `pick`."""
    tensors = tuple(tensors)
    device = tensors[0]._cell.device
    specs = tuple(specs)
    src = (*[t._node() for t in tensors], *numbers)
    node = Node(op, src, (*attrs, specs), specs[0][0], specs[0][1])
    cells = [
        record.Cell(Node(PICK, (node,), (k,), shape, dtype), device)
        for k, (shape, dtype) in enumerate(specs)
    ]
    outs = tuple([over(c, shape, d) for c, (shape, d) in zip(cells, specs, strict=True)])
    for t in outs if modes.inference else ():
        t._inference = True
    record.place(cells, [])
    if exposed := [t._cell for t in tensors if record.is_exposed(t._cell)]:
        snapshots.settle(exposed)
    return outs


def record_device() -> Any:
    """The default device for rows without tensor arguments."""
    from_default = _default_device[0]
    return from_default()


_default_device: list[Any] = [None]


def composite(
    *,
    method: bool = True,
    public: bool = True,
    inplace: bool | str = False,
    out: bool | str = False,
    keep: bool = False,
    functional: bool = False,
    numbers: Iterable[str] = (),
    aliases: Iterable[str] = (),
    autocast: str | None = None,
) -> Callable[[Any], Any]:
    """Declare a row whose body is its decomposition.

    A row with a `vjp` of its own is one tape entry; otherwise its body's rows are.

    Args:
        inplace: whether there is a form `name_`; "view": it shows the tensor's memory anew.
        out: whether there is a form with `out=`; "apart" and "exact" say what it may be (see
            `write_out`).
        functional: the name also stands in `nn.functional` (with `public=False`: only there),
            where a row with `inplace` has that as its last parameter.
        keep: record one node under the row's name when no gradient is needed or the row has a
            `vjp` of its own; a target may claim it whole, otherwise the body is inlined when the
            program is compiled. Positional tensors are its sources; everything else is static and
            must be hashable. Other composites are expanded as they are recorded.
        numbers: parameters of a kept row that are passed when the program runs, so that their
            values compile nothing anew; the body gets them as 0-d float64 tensors.
        autocast: "lower", "float32", "promote" or "exempt": what autocast does to a call
            (`ir.graph.Op`). The bodies of kept rows never see autocast.
    """

    def declare(body: Callable[..., Any]) -> Any:
        op = new_row(body.__name__, "composite", body, jvp="inherit", autocast=autocast)
        op.fixed, op.whole = frozenset(map(op.parameters.index, numbers)), keep
        if keep:
            call = _kept(op, body)
        else:

            def call(*args: Any, **kwargs: Any) -> Any:
                if overriding.on and (found := ask(op.call, args, kwargs)) is not UNCLAIMED:
                    return found
                if autocast is not None and modes.autocast is not None:
                    return cast_call(autocast, call, args, kwargs)
                try:
                    if op.vjp is None or not modes.grad:
                        return body(*args, **kwargs)
                    return _as_one_entry(op, body, args, kwargs)
                except AttributeError:
                    if claims(args, kwargs):
                        return call(*args, **kwargs)
                    check_first(op, args, kwargs)
                    raise
                except TypeError:
                    if claims(args, kwargs):
                        return call(*args, **kwargs)
                    if (named := by_torch_names(op, kwargs)) is None:
                        raise
                return call(*args, **named)

        return _finish(
            op,
            call,
            body,
            method=method,
            public=public,
            inplace=inplace,
            out=out,
            functional=functional,
            aliases=aliases,
        )

    return declare


def _as_one_entry(
    op: Op, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Record a composite's body without tape entries, then one entry with the row's own vjp."""
    if kwargs:
        bound = op.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        args = (*bound.args, *bound.kwargs.values())
        if not tracks(args):
            return body(*bound.args, **bound.kwargs)
        kwargs = bound.kwargs
    elif not tracks(args):
        return body(*args)
    modes.grad = False
    try:
        found = body(*args[: len(args) - len(kwargs)], **kwargs)
    finally:
        modes.grad = True
    outs = found if isinstance(found, tuple) else (found,)
    # a body may end in a view of a temporary; its result is a tensor of its own
    outs = tuple(o if o._base is None else over(o._cell, o._shape, o.dtype, o._map) for o in outs)
    attach(op, args, {}, outs)
    return outs if isinstance(found, tuple) else outs[0]


_layouts: dict[Any, Any] = {}


def _kept(op: Op, body: Callable[..., Any]) -> Callable[..., Any]:
    policy = op.autocast or "exempt"

    def call(*args: Any, **kwargs: Any) -> Any:
        if overriding.on and (found := ask(op.call, args, kwargs)) is not UNCLAIMED:
            return found
        if modes.autocast is not None:
            return cast_call(policy, call, args, kwargs)
        if kwargs:
            bound = bind(op, args, kwargs)
            args = bound.args if not bound.kwargs else (*bound.args, *bound.kwargs.values())
        tensors = []
        numbers: list[float] = []
        static: list[Any] = []
        layout: list[Any] = [op, get_default_dtype()]
        track = False
        for i, a in enumerate(args):
            if isinstance(a, Tensor):
                tensors.append(a)
                static.append(HOLE)
                layout.append(a._shape)
                layout.append(a.dtype)
                if a._rg or (a._base is not None and a._tracked()):
                    track = True
            elif i in op.fixed:
                numbers.append(float(a))
                static.append(NUMBER)
            else:
                static.append(tuple(a) if isinstance(a, list) else a)
        track = track and modes.grad
        if track and op.vjp is None:
            return body(*args)
        attrs = tuple(static)
        layout.append(attrs)
        # the body is run once per layout to learn the results' shapes and to raise its errors
        key = tuple(layout)
        specs = _layouts.get(key)
        if specs is None:
            try:
                specs = _learn(body, args) if op.results is None else op.results(*args)
            except (AttributeError, TypeError) as error:
                if claims(args, kwargs):
                    return call(*args, **kwargs)
                if isinstance(error, AttributeError):
                    check_first(op, args, {})
                raise
            if len(_layouts) > 4096:
                _layouts.clear()
            _layouts[key] = specs
        if isinstance(specs, tuple):
            found = emit_many(op, tensors, attrs, specs, tuple(numbers))
        else:
            found = emit(op, tensors, attrs, specs[0], specs[1], tuple(numbers))
        if track:
            attach(op, args, {}, found if isinstance(found, tuple) else (found,))
        return found

    return call


#: Stand where a tensor, or a run-time number, was among a kept composite's arguments.
HOLE, NUMBER = "<tensor>", "<number>"


def _learn(body: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Shapes and dtypes of a body's results, found by recording it on tensors without data."""
    was, modes.grad = modes.grad, False
    try:
        with record.tracing(), Unasked():
            found = body(*(_hollow(a) if isinstance(a, Tensor) else a for a in args))
    finally:
        modes.grad = was
    if isinstance(found, tuple):
        return tuple((o._shape, o.dtype) for o in found)
    return [found._shape, found.dtype]


def _hollow(t: Tensor) -> Tensor:
    # where the body makes tensors of its own, so that both agree: shapes are the same everywhere
    cell = record.Cell(t._node(), _default_device[0]())
    return over(cell, t._shape, t.dtype)


def specs_of(node: Node) -> Any:
    """Shape and dtype of each of a composite's results; None where it has one."""
    last = node.attrs[-1] if node.attrs else None
    if not isinstance(last, tuple) or not last or not isinstance(last[0], tuple):
        return None
    return last if isinstance(last[0][-1], DType) else None


def expand_composite(node: Node) -> tuple[Node, ...]:
    """The nodes of a kept composite's results, from its body over the node's own sources."""
    specs = specs_of(node)
    attrs = node.attrs if specs is None else node.attrs[:-1]
    sources = iter([s for s in node.src if type(s) is Node])
    numbers = iter([s for s in node.src if type(s) is not Node])
    args = []
    for a in attrs:
        if a is HOLE or a == HOLE:
            s = next(sources)
            args.append(over(record.Cell(s, record_device()), s.shape, s.dtype))
        elif a is NUMBER or a == NUMBER:
            s = Node(ROWS["fill_value"], (next(numbers),), (), (), float64)
            args.append(over(record.Cell(s, record_device()), (), float64))
        else:
            args.append(a)
    was, modes.grad = modes.grad, False
    try:
        with record.tracing(), without_autocast(), Unasked():
            found = node.op.body(*args)  # type: ignore[misc]
    finally:
        modes.grad = was
    outs = found if isinstance(found, tuple) else (found,)
    wanted = ((node.shape, node.dtype),) if specs is None else specs
    assert len(wanted) == len(outs)
    # a run-time number is no less a tensor than a 0-d argument, and may have promoted it
    return tuple(
        o._node() if o.dtype is d else Node(CAST, (o._node(),), (), o._shape, d)
        for o, (_, d) in zip(outs, wanted, strict=True)
    )
