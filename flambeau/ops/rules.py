"""Derivatives that are recorded as one node.

Note [Kept rules]
A row's vjp is Python that records rows, and costs as much each time as all of their calls. A rule
that is *kept* is recorded as one composite node, whose body is the rule: it runs once to learn the
shapes of its results, and again where a program is compiled, which takes the node apart as any kept
composite. Where the pass is traced as rewriting material, the rule is simply called.

Note [Derived rules]
The rule of a kept composite may follow from its body (`derived`): the body is recorded on the tape
of the rule's own, and what goes backwards over it is the rule. Such a rule is kept too, so all of
this happens once a layout; a value that both the body and the rule compute is computed once by the
program that has both. The rule of a kept rule is derived in the same way: a pass that is recorded
on the tape (`create_graph`) is one entry for each rule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from flambeau import overriding, record
from flambeau.ir.graph import Op
from flambeau.ops.entries import attach, tracks
from flambeau.ops.movement import view_as_shape
from flambeau.ops.recording import Enclosing
from flambeau.ops.rows import NAMES, set_vjp
from flambeau.ops.table import HOLE, _learn, emit, emit_many, record_device
from flambeau.tape import Spec, edge_of, modes
from flambeau.tensor import Tensor

Rule = Callable[..., tuple[Any, ...]]
_MAX_LAYOUTS = 4096


class _Form(NamedTuple):
    """What a rule was called with, its tensors apart.

    Attributes:
        cotangents, outs: how many there are; 0 is one that is not in a tuple.
        operands: of each, whether it is a tensor, and of a tensor whether it needs a gradient, else
            a value or what a Spec is made of.
    """

    cotangents: int
    outs: int
    operands: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, g: Any, out: Any, operands: tuple[Any, ...]) -> _Form:
        """The form of a call whose operands are the cotangents, outputs and arguments."""
        found: list[tuple[str, Any]] = []
        for a in operands:
            if isinstance(a, Tensor):
                found.append(("tensor", a._rg))
            elif type(a) is Spec:
                found.append(("spec", (a.shape, a.dtype, a.requires_grad)))
            else:
                found.append(("value", tuple(a) if type(a) is list else a))
        cotangents, outs = (len(x) if type(x) is tuple else 0 for x in (g, out))
        return cls(cotangents, outs, tuple(found))

    def called(self, rule: Rule, tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """What the rule gives for tensors in the places of those that it was called with."""
        rest = iter(tensors)
        given: list[Any] = []
        for kind, what in self.operands:
            if kind == "tensor":
                given.append(next(rest))
                given[-1]._rg = what
            elif kind == "spec":
                shape, dtype, requires_grad = what
                given.append(Spec(shape, dtype, record_device(), requires_grad))
            else:
                given.append(what)
        parts = []
        for count in (self.cotangents, self.outs):
            some, given = given[: count or 1], given[count or 1 :]
            parts.append(tuple(some) if count else some[0])
        return rule(*parts, *given)


def kept_rule(rule: Rule) -> Rule:
    """The form of a vjp that is recorded as one node: Note [Kept rules].

    Its operands besides tensors are static and must be hashable; which of its results are None
    depends on them alone, and on what needs a gradient.
    """

    def body(form: _Form, *tensors: Tensor) -> Any:
        found = tuple(g for g in form.called(rule, tensors) if g is not None)
        return found[0] if len(found) == 1 else found

    op = Op(rule.__name__.lstrip("_"), "composite", body)
    op.module = rule.__module__
    op.parameters = ("form", "tensors")
    layouts: dict[Any, tuple[tuple[Any, ...], Any, list[int | None]]] = {}

    def learn(form: _Form, tensors: list[Tensor]) -> tuple[tuple[Any, ...], Any, list[int | None]]:
        """Attributes of the node, shapes and dtypes, and which of them each result has."""
        places: list[int | None] = []

        def noted(form: _Form, *hollow: Tensor) -> Any:
            found = form.called(rule, hollow)
            there = [k for k, g in enumerate(found) if g is not None]
            places[:] = [there.index(k) if k in there else None for k in range(len(found))]
            return tuple(found[k] for k in there)

        specs = _learn(noted, (form, *tensors))
        return (form, *(HOLE,) * len(tensors)), specs, places

    @functools.wraps(rule)
    def call(g: Any, out: Any, *args: Any) -> tuple[Any, ...]:
        if record.thread.tracing or overriding.dispatches():
            return rule(g, out, *args)
        operands = (*(g if type(g) is tuple else (g,)), *(out if type(out) is tuple else (out,)))
        operands += args
        tensors: list[Tensor] = []
        key: list[Any] = []
        for a in operands:
            if isinstance(a, Tensor):
                tensors.append(a)
                key += (a._shape, a.dtype, a._rg)
            else:
                key.append(tuple(a) if type(a) is list else a)
        layout = tuple(key)
        found = layouts.get(layout)
        if found is None:
            if len(layouts) > _MAX_LAYOUTS:
                layouts.clear()
            found = layouts[layout] = learn(_Form.of(g, out, operands), tensors)
        attrs, specs, places = found
        if not specs:
            return tuple([None for _ in places])
        if len(specs) == 1:
            made: tuple[Tensor, ...] = (emit(op, tensors, attrs, *specs[0]),)
        else:
            made = emit_many(op, tensors, attrs, specs)
        if modes.grad and tracks(tensors):
            if op.vjp is None:
                derive(op)
            attach(op, (attrs[0], *tensors), {}, made)
        return tuple([None if k is None else made[k] for k in places])

    return call


def derive(op: Op) -> None:
    """Give a composite the rule that follows from its body: Note [Derived rules]."""
    body = op.body
    assert body is not None

    def rule(g: Any, out: Any, *args: Any) -> tuple[Any, ...]:
        was, modes.grad = modes.grad, True
        try:
            # what comes to an argument may also come to another that was computed from it
            apart = [
                view_as_shape(a, a._shape) if isinstance(a, Tensor) and a.requires_grad else a
                for a in args
            ]
            found = body(*apart)
        finally:
            modes.grad = was
        outs, gs = (x if type(x) is tuple else (x,) for x in (found, g))
        # a composite's rule sees conjugates of complex cotangents (`autograd.backward`); on the
        # way through the body's tape every entry takes care of its own
        turned = NAMES["conj"] if outs[0].dtype.is_complex else lambda x: x
        arriving = [
            (y, turned(g_y))
            for y, g_y in zip(outs, gs, strict=True)
            if g_y is not None and y.requires_grad
        ]
        places = [k for k, (a, b) in enumerate(zip(args, apart, strict=True)) if a is not b]
        cotangents = Enclosing.arriving(
            [y for y, _ in arriving],
            [edge_of(apart[k]) for k in places],
            [g_y for _, g_y in arriving],
            modes.grad,
            modes.grad,
            True,
        )
        given = {
            k: None if x is None else turned(x) for k, x in zip(places, cotangents, strict=True)
        }
        return tuple([given.get(k) for k in range(len(args))])

    rule.__name__ = f"{op.name}_vjp"
    rule.__module__ = op.module
    set_vjp(op, kept_rule(rule), " ".join(op.parameters))


def derived(call: Any) -> Any:
    """Declare that a kept composite's rule follows from its body: Note [Derived rules]."""
    derive(call.row)
    return call
