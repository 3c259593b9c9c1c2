"""Mods: small functions of one attention score, recorded once into the IR.

A mod is called with scalars that stand for a score and its place, `(score, b, h, q_idx, kv_idx)` or
`(b, h, q_idx, kv_idx)`, and what it does to them is recorded. Elementwise rows become steps;
reading a captured tensor at indices that depend on the place becomes a gather; whatever depends on
no argument is computed outside and captured. Such a program runs inside a kernel, vectorised, or
over whole tensors of scores (`Mod.over`), and it can be differentiated (`derivative`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from flambeau import dtypes, record
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import CAST, COPY, PICK, VIEW, Constant, Node, Op, specialised
from flambeau.ops.autocast import without_autocast
from flambeau.ops.conversion import to_dtype
from flambeau.ops.indexing import index_leading
from flambeau.ops.rows import NAMES
from flambeau.ops.table import expand_composite, record_device, record_elementwise
from flambeau.size import broadcast_shapes, contiguous_strides
from flambeau.tape import modes
from flambeau.tensor import Tensor, make, over

#: The places of a program's arguments; "g" is the cotangent in derivatives.
SLOTS = ("score", "b", "h", "q", "kv", "g")
#: ("slot", k), ("captured", k), ("step", k) or ("number", x)
Ref = tuple[str, Any]
GATHER = Op("gather_scalar", "index")
_ARGUMENT = Op("mod_argument", "input")


@dataclass(frozen=True)
class Step:
    """One operation on scalars: an elementwise row, or `GATHER` of (captured, index, ..)."""

    op: Op
    src: tuple[Ref, ...]
    attrs: tuple[Any, ...]
    dtype: DType


@dataclass(frozen=True)
class Mod:
    """A recorded mod.

    Attributes:
        steps: in order; a step refers to earlier ones.
        outputs: the results.
        captured: shape and dtype of every captured tensor.
        score: the dtype that scores have.
    """

    steps: tuple[Step, ...]
    outputs: tuple[Ref, ...]
    captured: tuple[tuple[tuple[int, ...], DType], ...]
    score: DType
    hashed: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hashed", hash((self.steps, self.outputs, self.captured)))

    def __hash__(self) -> int:
        return self.hashed

    @property
    def slots(self) -> frozenset[str]:
        """The arguments that it reads."""
        refs = (*self.outputs, *(ref for step in self.steps for ref in step.src))
        return frozenset(SLOTS[k] for kind, k in refs if kind == "slot")

    def dtype(self, ref: Ref) -> DType:
        """The dtype of a value; numbers have their own."""
        kind, k = ref
        if kind == "slot":
            return self.score if SLOTS[k] in ("score", "g") else dtypes.int32
        if kind == "captured":
            return self.captured[k][1]
        if kind == "step":
            return self.steps[k].dtype
        return (
            dtypes.bool if type(k) is bool else dtypes.int64 if type(k) is int else dtypes.float64
        )

    def text(self) -> str:
        """The program in words: what a kernel's name is made from."""
        lines = [f"{self.score.name} {[(len(s), d.name) for s, d in self.captured]}"]
        lines += [f"{s.op.name} {s.src} {s.attrs} {s.dtype.name}" for s in self.steps]
        return "\n".join([*lines, str(self.outputs)])

    def over(self, slots: Sequence[Any], captured: Sequence[Tensor]) -> list[Any]:
        """The results for whole tensors of scores and places, which broadcast."""
        return _replay(self, slots, captured)[1]


def _replay(
    mod: Mod, slots: Sequence[Any], captured: Sequence[Tensor]
) -> tuple[list[Any], list[Any]]:
    """-> (the value of every step, the results)."""
    values: list[Any] = []

    def value(ref: Ref) -> Any:
        kind, k = ref
        if kind == "number":
            return k
        return slots[k] if kind == "slot" else captured[k] if kind == "captured" else values[k]

    for step in mod.steps:
        given = [value(ref) for ref in step.src]
        if step.op is GATHER:
            values.append(gathered(given[0], given[1:]))
        elif step.op is CAST:
            values.append(to_dtype(given[0], step.dtype))
        else:
            values.append(record_elementwise(step.op, tuple(given)))
    return values, [value(ref) for ref in mod.outputs]


def places(table: Any, indices: Sequence[Any]) -> list[Tensor]:
    """Integer places within a table as tensors of one shape, int64; places outside are moved in."""
    found = []
    for k, i in enumerate(indices):
        if not isinstance(i, Tensor):
            i = NAMES["full"]((), i, dtype=dtypes.int64)
        found.append(NAMES["clamp"](to_dtype(i, dtypes.int64), 0, table.shape[k] - 1))
    shape = broadcast_shapes(*(i._shape for i in found))
    return [i.expand(shape) if i._shape != shape else i for i in found]


def gathered(table: Tensor, indices: Sequence[Any]) -> Tensor:
    """table[indices]."""
    return index_leading(table, *places(table, indices))


class ModError(NotImplementedError):
    """What a mod does cannot be part of an attention kernel."""


class _Reads:
    """Watches a mod being recorded: reading a value that depends on the place is refused, and so
    are side effects."""

    def __init__(self) -> None:
        self.mark = len(record._pending)

    def read(self, t: Tensor, how: Callable[[Tensor], Any]) -> Any:
        self._settled(t._cell)
        return how(t)

    def memory_used(self) -> None:
        """Memory of a tensor is looked at; only what was there before can be."""

    def writes(self, cell: record.Cell) -> None:
        if record.known_at(self.mark, cell):
            self.refuse("it writes to a tensor, which is a side effect")

    def communicates(self, name: str) -> None:
        self.refuse(f"it communicates with other ranks ({name})")

    def drew(self, default: bool, first: int) -> None:
        self.refuse("it draws random numbers, but must give the same at every call")

    def refuse(self, why: str) -> None:
        raise ModError(f"a mod must be a small function: {why}")

    def _settled(self, cell: Any) -> None:
        if cell.node.buffer is None:
            raise ModError(
                "a score_mod or mask_mod reads the value of a tensor while it is recorded (an "
                "`if`, `item()` or the like); use torch.where and captured tensors instead"
            )


class recording:
    """While inside, nothing is executed, and tensors that need gradients are noted."""

    def __enter__(self) -> list[Tensor]:
        self.before = record.thread.watcher
        self.seen = modes.seen
        record.thread.watcher = _Reads()
        found: list[Tensor] = []
        modes.seen = found
        return found

    def __exit__(self, *exc: object) -> None:
        record.thread.watcher = self.before
        modes.seen = self.seen


def _key(node: Node) -> Any:
    """What makes two nodes the same value: views are made anew at every use."""
    return (node.src[0], node.shape, node.attrs) if node.op is VIEW else node


class _Partial:
    """A captured tensor read at fewer indices than it has dimensions."""

    def __init__(self, table: Ref, shape: tuple[int, ...], indices: tuple[Ref, ...]) -> None:
        self.table = table
        self.shape = shape
        self.indices = indices


class _Lifting:
    """Makes steps of recorded nodes."""

    def __init__(
        self, arguments: dict[Node, Ref], seen: Iterable[Tensor], every: bool = False
    ) -> None:
        self.arguments = arguments
        self.every = every  # compile every number in
        self.seen = {_key(t._node()): t for t in seen}
        self.steps: list[Step] = []
        self.tensors: list[Tensor] = []
        self.known: dict[Any, Any] = {}
        self.depends: dict[Node, bool] = {}
        self.numbers: dict[float, Ref] = {}
        self.parts: dict[Node, tuple[Node, ...]] = {}

    def dependent(self, node: Node) -> bool:
        """Whether a value depends on the mod's arguments."""
        stack = [node]
        while stack:
            top = stack[-1]
            if top in self.depends:
                stack.pop()
                continue
            if top in self.arguments or top.buffer is not None:
                self.depends[top] = top in self.arguments
                continue
            sources = [s for s in top.src if type(s) is Node]
            waiting = [s for s in sources if s not in self.depends]
            if waiting:
                stack += waiting
            else:
                self.depends[top] = any(self.depends[s] for s in sources)
        return self.depends[node]

    def add(self, op: Op, src: tuple[Ref, ...], attrs: tuple[Any, ...], dtype: DType) -> Ref:
        """A step; the same one again is the earlier one."""
        step = Step(op, src, attrs, dtype)
        if step not in self.known:
            self.known[step] = ("step", len(self.steps))
            self.steps.append(step)
        found: Ref = self.known[step]
        return found

    def number(self, op: Op, at: int, x: Any, dtype: DType) -> Ref:
        """A number among a row's sources: compiled in, or captured where its value may vary."""
        fixed = self.every or specialised(op, at, x) or not math.isfinite(x)
        if type(x) is not float or fixed:
            return ("number", float(x) if type(x) is Constant else x)
        if x not in self.numbers:
            tensor = NAMES["full"]((), x, dtype=dtypes.float64)
            self.numbers[x] = ("captured", len(self.tensors))
            self.tensors.append(tensor)
        return self.add(CAST, (self.numbers[x],), (), dtype)

    def capture(self, node: Node) -> Ref:
        """A value that depends on no argument."""
        if node.op.name == "fill_value" and node.numel == 1:
            x = node.src[0]
            if self.every or type(x) is not float or specialised(node.op, 0, x):
                return ("number", float(x) if type(x) is Constant else x)
        key = _key(node)
        if key in self.known:
            found: Ref = self.known[key]
            return found
        tensor = self.seen.get(key)
        if tensor is None:
            source = node.src[0] if node.op is CAST and node.buffer is None else None
            if type(source) is Node and _key(source) in self.seen:
                return self.add(CAST, (self.capture(source),), (), node.dtype)
            tensor = over(record.Cell(node, record_device()), node.shape, node.dtype)
        self.known[key] = ("captured", len(self.tensors))
        self.tensors.append(tensor)
        found = self.known[key]
        return found

    def visit(self, node: Node) -> Any:
        """The Ref of a scalar, or a `_Partial`."""
        if node in self.arguments:
            return self.arguments[node]
        if node in self.known:
            return self.known[node]
        found = self._visit(node) if self.dependent(node) else self.capture(node)
        self.known[node] = found
        return found

    def scalar(self, node: Node) -> Ref:
        """The Ref of a scalar."""
        found = self.visit(node)
        if isinstance(found, _Partial) or node.numel != 1:
            raise ModError(
                f"a score_mod or mask_mod works on single scores, but '{node.op.name}' in it has "
                f"shape {list(node.shape)}"
            )
        if found[0] == "captured" and node.shape:
            zeros = (("number", 0),) * len(node.shape)
            return self.add(GATHER, (found, *zeros), (), node.dtype)
        return cast(Ref, found)

    def _visit(self, node: Node) -> Any:
        op = node.op
        if op.kind == "elementwise":
            src = tuple(
                self.scalar(s) if type(s) is Node else self.number(op, at, s, node.dtype)
                for at, s in enumerate(node.src)
            )
            if op is COPY:
                return src[0]
            if op.batch == "draw":
                raise ModError("a mod must give the same at every call: no random numbers")
            return self.add(op, src, node.attrs, node.dtype)
        if op is PICK:
            self.visit_parts(node.src[0])
            return self.visit(self.parts[node.src[0]][node.attrs[0]])
        if op.kind == "composite":
            self.visit_parts(node)
            return self.visit(self.parts[node][0])
        if op.kind == "view":
            return self.viewed(node)
        if op.kind == "index":
            return self.indexed(node)
        raise ModError(
            f"'{op.name}' cannot be part of a score_mod or mask_mod: it may hold elementwise "
            "operations and reads of captured tensors"
        )

    def visit_parts(self, node: Node) -> None:
        """A composite by its body."""
        if node not in self.parts:
            if node.op.kind != "composite":
                raise ModError(f"'{node.op.name}' cannot be part of a score_mod or mask_mod")
            self.parts[node] = expand_composite(node)

    def viewed(self, node: Node) -> Any:
        """One element of a value seen in another shape."""
        source = node.src[0]
        if source.numel == 1 and node.numel == 1:
            return self.scalar(source)
        found = self.visit(source)
        strides, offset = node.attrs
        if isinstance(found, _Partial):
            if node.numel == 1:
                rest = tuple(
                    ("number", offset // step % size)
                    for step, size in zip(contiguous_strides(found.shape), found.shape, strict=True)
                )
                return self.add(GATHER, (found.table, *found.indices, *rest), (), node.dtype)
            if strides == contiguous_strides(found.shape) and not offset:
                return found
        raise ModError("a mod may read captured tensors by indices, one element at a time")

    def indexed(self, node: Node) -> Any:
        """A captured tensor at indices."""
        table, *indices = node.src
        found = self.visit(table)
        refs = tuple(self.scalar(i) for i in indices)
        rest = table.shape[len(indices) :]
        if isinstance(found, _Partial):
            refs, found = (*found.indices, *refs), found.table
        elif found[0] != "captured":
            raise ModError("a mod may read captured tensors by indices, not what it computes")
        if math.prod(rest) == 1:
            refs += (("number", 0),) * len(rest)
            return self.add(GATHER, (found, *refs), (), node.dtype)
        return _Partial(found, rest, refs)


def arguments(score: DType) -> list[Tensor]:
    """Scalars that stand for a score, its place and a cotangent."""
    return [
        make(Node(_ARGUMENT, (), (k,), (), score if name in ("score", "g") else dtypes.int32))
        for k, name in enumerate(SLOTS)
    ]


def trace(function: Callable[..., Any], score: DType, of_score: bool) -> tuple[Mod, list[Tensor]]:
    """Record a mod.

    Args:
        function: (score, b, h, q_idx, kv_idx) -> score, or (b, h, q_idx, kv_idx) -> bool.
        score: the dtype that scores are computed in.
        of_score: which of the two.

    Returns:
        The program and the tensors that it captured, in its order.

    Raises:
        NotImplementedError: it does what cannot be inlined; the message says what.
        RuntimeError: its result has the wrong shape, or is no number where it is a score.
        AssertionError: a mask is not bool.
    """
    what = "score_mod" if of_score else "mask_mod"
    with recording() as seen:
        slots = arguments(score)
        given = {t._node(): ("slot", k) for k, t in enumerate(slots)}
        versions = [(t, t._cell.version) for t in slots]
        with without_autocast():
            result = function(*slots[0 if of_score else 1 : 5])
        if isinstance(result, (int, float) if of_score else bool):
            result = NAMES["full"]((), result, dtype=score if of_score else dtypes.bool)
        if not isinstance(result, Tensor):
            raise RuntimeError(f"{what} must return a tensor, got {type(result).__name__}")
        if result.numel() != 1 or result.ndim:
            raise RuntimeError(
                f"{what} must return a scalar for each score, got shape {list(result.shape)}"
            )
        if not of_score and result.dtype is not dtypes.bool:
            raise AssertionError(f"mask_mod must return a bool tensor, got {result.dtype}")
        if of_score and result.dtype.category != 2:
            raise RuntimeError(f"score_mod must return a floating point score, got {result.dtype}")
        if any(t._cell.version != version for t, version in versions):
            raise ModError(f"{what} changes its arguments in place, which is a side effect")
        if of_score and result.dtype is not score:
            result = to_dtype(result, score)
        lifting = _Lifting(given, seen)
        output = lifting.scalar(result._node())
    shapes = tuple((t._shape, t.dtype) for t in lifting.tensors)
    return Mod(tuple(lifting.steps), (output,), shapes, score), lifting.tensors


@dataclass(frozen=True)
class Derivative:
    """A score_mod's vector-Jacobian product.

    Attributes:
        mod: gives the score's cotangent first, then what `scatters` names.
        scatters: (captured tensor, output that is added to it, outputs that are the indices).
    """

    mod: Mod
    scatters: tuple[tuple[int, int, tuple[int, ...]], ...]


@cache
def derivative(mod: Mod, needs: frozenset[int]) -> Derivative:
    """The cotangents of the score and of captured tensors `needs`, from the result's ("g")."""
    was, modes.grad = modes.grad, False
    try:
        with recording():
            return _derivative(mod, needs)
    finally:
        modes.grad = was


def _derivative(mod: Mod, needs: frozenset[int]) -> Derivative:
    slots = arguments(mod.score)
    captured = [
        make(Node(_ARGUMENT, (), (len(SLOTS) + k,), shape, dtype))
        for k, (shape, dtype) in enumerate(mod.captured)
    ]
    values = [
        make(Node(_ARGUMENT, (), (-1 - k,), (), step.dtype)) for k, step in enumerate(mod.steps)
    ]
    given: dict[Node, Ref] = {t._node(): ("slot", k) for k, t in enumerate(slots)}
    tables = {t._node(): ("captured", k) for k, t in enumerate(captured)}
    for k, t in enumerate(values):
        given[t._node()] = ("step", k)
    cotangents: dict[Ref, Any] = {mod.outputs[0]: slots[5]}
    scatters: list[tuple[int, Any, tuple[Ref, ...]]] = []
    for k in reversed(range(len(mod.steps))):
        step, g = mod.steps[k], cotangents.get(("step", k))
        if g is None or step.dtype.category != 2:
            continue
        if step.op is GATHER:
            if step.src[0][1] in needs:
                scatters.append((step.src[0][1], g, step.src[1:]))
            continue
        args = [_value(ref, slots, captured, values) for ref in step.src]
        for ref, part in zip(step.src, _backwards(step, g, values[k], args), strict=True):
            if part is None or ref[0] == "number" or mod.dtype(ref).category != 2:
                continue
            if ref in cotangents:
                part = cotangents[ref] + part
            cotangents[ref] = part
    for k in sorted(needs):
        if ("captured", k) in cotangents:
            scatters.append((k, cotangents["captured", k], ()))
    lifting = _Lifting({**given, **tables}, (), every=True)
    lifting.steps = list(mod.steps)
    lifting.known.update({step: ("step", k) for k, step in enumerate(mod.steps)})
    score = cotangents.get(("slot", 0))
    outputs = [("number", 0.0) if score is None else lifting.scalar(score._node())]
    found = []
    for table, g, indices in scatters:
        found.append(
            (table, len(outputs), tuple(range(len(outputs) + 1, len(outputs) + 1 + len(indices))))
        )
        outputs += [lifting.scalar(to_dtype(g, mod.captured[table][1])._node()), *indices]
    return Derivative(
        Mod(tuple(lifting.steps), tuple(outputs), mod.captured, mod.score), tuple(found)
    )


def _value(ref: Ref, slots: Any, captured: Any, values: Any) -> Any:
    kind, k = ref
    if kind == "number":
        return k
    return slots[k] if kind == "slot" else captured[k] if kind == "captured" else values[k]


def _backwards(step: Step, g: Any, out: Any, args: list[Any]) -> tuple[Any, ...]:
    """Cotangents of a step's sources."""
    if step.op is CAST:
        return (to_dtype(g, args[0].dtype) if args[0].dtype.category == 2 else None,)
    if step.op.vjp is None:
        return (None,) * len(args)
    return tuple(step.op.vjp(g, out, *args))
