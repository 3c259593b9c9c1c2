"""Forward differentiation: tangents pushed along the tape, from inputs to outputs.

What an entry does to a tangent follows from the word in its row (`jvp`): a linear row is called on
the tangents; a multilinear one once per tangent, beside the other values; an elementwise one has a
diagonal Jacobian, so its vjp rule is its jvp rule. For other rows the rule is transposed: the
vector-Jacobian product is linear in its cotangent u, and its gradient with respect to u is the
Jacobian-vector product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.autograd.backward import grad, rule
from flambeau.autograd.modes import enable_grad
from flambeau.ops.movement import broadcast_to, sum_to
from flambeau.ops.rows import NAMES
from flambeau.tape import GradFn, Saved, edge_of
from flambeau.tensor import Tensor

#: Linear rows that are called anew; others (that depend on strides, say) are transposed.
_CALLED = frozenset(
    ("permute_dims", "expand_to", "view_as_shape", "slice_dim", "select_dim", "clone", "sum_axes")
)


def pushforward(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], tangents: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The tangents of recorded outputs, given those of inputs they were computed from.

    Args:
        outputs: recorded with grad enabled.
        inputs: which require grad.
        tangents: shaped as the inputs.

    Returns:
        One tangent per output, differentiable; None where no input is involved.
    """
    known: dict[tuple[GradFn, int], Any] = {}
    for x, t in zip(inputs, tangents, strict=True):
        if t._shape != x._shape:
            raise RuntimeError(
                f"a tangent of shape {list(t.shape)} was given for an input of shape"
                f" {list(x.shape)}"
            )
        known[edge_of(x)] = t
    ends = {edge[0] for edge in known}
    roots = [edge_of(o) for o in outputs if o.requires_grad]
    with enable_grad():
        for entry in _ascending([r[0] for r in roots]):
            if entry.edges and not (entry in ends and len(entry.metas) == 1):
                incoming = [None if e is None else known.get((e[0], e[1])) for e in entry.edges]
                if any(t is not None for t in incoming):
                    for nr, t in enumerate(_push(entry, incoming)):
                        known.setdefault((entry, nr), t)
    return tuple(known.get(edge_of(o)) if o.requires_grad else None for o in outputs)


def _ascending(roots: list[GradFn]) -> list[GradFn]:
    """Every entry below the roots, in the order in which they were recorded."""
    seen: set[GradFn] = set()
    stack = list(roots)
    while stack:
        entry = stack.pop()
        if entry not in seen:
            seen.add(entry)
            stack.extend(e[0] for e in entry.edges if e is not None)
    return sorted(seen, key=lambda e: e.order if e.edges else -1)


def _push(entry: GradFn, incoming: list[Any]) -> tuple[Any, ...]:
    op = entry.op
    own = entry.push(incoming)
    if own is not None:
        return own
    args = [a.read(entry) if type(a) is Saved else a for a in entry.args]
    again = op.kind == "effect" or op.name in _CALLED  # an effect is not done for its rule alone
    if op.jvp == "linear" and again and op.call is not None:
        return (op.call(incoming[0], *args[1:], **entry.kwargs),)
    if op.jvp == "multilinear" and op.call is not None:
        parts = [
            op.call(*args[:k], t, *args[k + 1 :], **entry.kwargs)
            for k, t in enumerate(incoming)
            if t is not None
        ]
        return (sum(parts[1:], parts[0]),)
    diagonal = op.kind == "elementwise" and op.jvp == "elementwise" and op.result != "modulus"
    if diagonal and op.vjp is not None:
        meta = entry.metas[0]
        total: Any = None
        for k, t in enumerate(incoming):
            if t is not None:
                wide = broadcast_to(t, meta.shape)
                part = entry.apply(
                    [wide if wide.dtype is meta.dtype else NAMES["to_dtype"](wide, meta.dtype)]
                )[k]
                if part is not None:  # else nothing follows this argument
                    total = part if total is None else total + part
        return (total,)
    return _transposed(entry, incoming)


def _transposed(entry: GradFn, incoming: list[Any]) -> tuple[Any, ...]:
    """Jacobian-vector products from the vector-Jacobian rule alone."""
    zeros = [NAMES["zeros"](m.shape, dtype=m.dtype, device=m.device) for m in entry.metas]
    duals = [z.requires_grad_() if z.dtype.category >= 2 else z for z in zeros]
    given = [d if d.requires_grad else None for d in duals]
    pulled = rule(entry, given)
    pairs = [
        (p, t)
        for p, t in zip(pulled, incoming, strict=False)
        if p is not None and t is not None and p.requires_grad
    ]
    if not pairs:
        return tuple(zeros)
    # a rule may leave broadcasting undone
    values = [p if p._shape == t._shape else sum_to(p, t._shape) for p, t in pairs]
    asked = [d for d in duals if d.requires_grad]
    found = iter(grad(values, asked, [t for _, t in pairs], create_graph=True, allow_unused=True))
    slopes = [next(found) if d.requires_grad else None for d in duals]
    return tuple(
        NAMES["zeros_like"](d) if g is None else g for d, g in zip(duals, slopes, strict=True)
    )
