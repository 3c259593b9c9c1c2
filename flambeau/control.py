"""Control flow over tensors, as torch's higher-order operations: branches, loops and scans.

Functions run as ordinary Python where values are there; gradients flow through what ran. Where they
are not (a tensor of an exported program, a step of a scan, an example of a batch in `func.vmap`),
what they record becomes one operation with graphs inside: `cond` one that runs one of two graphs
(of a batch both, since examples differ), `while_loop` one that runs a graph as long as it says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flambeau
from flambeau import record
from flambeau.func.mapping import vmap
from flambeau.ir.graph import dependents
from flambeau.ir.symbol import SymInt
from flambeau.ops.branches import Branches, endless
from flambeau.ops.steps import steps
from flambeau.pytree import tree_flatten, tree_unflatten
from flambeau.tensor import Tensor


def _leaves(tree: Any, what: str) -> tuple[list[Tensor], Any]:
    leaves, spec = tree_flatten(tree)
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise RuntimeError(
            f"Expect {what} to be a tuple of possibly nested dict/list/tuple that only consists "
            f"of tensor leaves, but got {tree}."
        )
    return leaves, spec


def _alike(one: Sequence[Tensor], other: Sequence[Tensor], first: str, second: str) -> None:
    """Refuse results that differ in number, shape or dtype."""
    left = [(list(t.shape), t.dtype) for t in one]
    right = [(list(t.shape), t.dtype) for t in other]
    if left != right:
        raise RuntimeError(
            f"Expected {first} and {second} to give tensors of the same shapes and dtypes, but "
            f"got {left} and {right}"
        )


def without_value(t: Tensor) -> bool:
    """Whether a tensor stands for one that will be there later."""
    node = t._cell.node
    return bool(record.withheld) and node in dependents([node], record.withheld)


def cond(
    pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Any = ()
) -> Any:
    """`true_fn(*operands)` where `pred` is true, else `false_fn(*operands)`.

    Args:
        pred: a bool, or a bool tensor of one element.
        true_fn, false_fn: functions of the operands that give tensors of the same structure,
            shapes and dtypes, and change nothing.
        operands: a tuple of tensors, or of tuples, lists and dictionaries of them.

    Raises:
        RuntimeError: `pred`, the functions or the operands are of another kind, or the branches
            give different things (where both are run).

    Example:
        >>> x = flambeau.tensor([-2.0])
        >>> cond(x.sum() > 0, lambda x: x, lambda x: -x, (x,)).tolist()
        [2.0]
    """
    if not isinstance(pred, (bool, Tensor)):
        raise RuntimeError(f"Expected pred to be bool or tensor, but got {pred}.")
    if isinstance(pred, Tensor) and (pred.numel() != 1 or pred.dtype is not flambeau.bool):
        raise RuntimeError(f"Expected pred to be bool or single-element tensor, but got {pred}.")
    if not callable(true_fn) or not callable(false_fn):
        raise RuntimeError("Expect both branches to be callable.")
    if not isinstance(operands, (tuple, list)):
        raise RuntimeError(
            "Expect operands to be a tuple of possibly nested dict/list/tuple that only consists "
            f"of tensor leaves, but got {operands}."
        )
    _leaves(operands, "operands")
    if isinstance(pred, bool) or not without_value(pred):
        return (true_fn if pred else false_fn)(*operands)
    recording = Branches()
    with recording:
        (yes, spec), (no, other) = (
            _leaves(fn(*operands), f"the result of {name}")
            for fn, name in ((true_fn, "true_fn"), (false_fn, "false_fn"))
        )
        if spec != other:
            raise RuntimeError(f"true_fn gives {spec}, but false_fn gives {other}")
        _alike(yes, no, "true_fn", "false_fn")
        return tree_unflatten(recording.made(pred, (yes, no)), spec)


def while_loop(
    cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: Any
) -> Any:
    """Carried values after `body_fn` has replaced them as long as `cond_fn` of them is true.

    Args:
        cond_fn: carried values -> a bool, or a bool tensor of one element.
        body_fn: carried values -> the next ones, of the same structure, shapes and dtypes.
        carried_inputs: a tuple of tensors and integers, or of containers of them. Where
            `cond_fn` gives a value that is not there yet, integers become tensors, and the loop
            has no gradient.

    Raises:
        RuntimeError: the body gives other shapes or dtypes.

    Example:
        >>> n = flambeau.tensor(0)
        >>> while_loop(lambda n: n < 5, lambda n: (n + 2,), (n,))[0].item()
        6
    """
    if not callable(cond_fn) or not callable(body_fn):
        raise RuntimeError("Expect cond_fn and body_fn to be callable.")
    if not isinstance(carried_inputs, (tuple, list)):
        raise RuntimeError(
            f"Expect carried_inputs to be a tuple, but got {type(carried_inputs).__name__}"
        )
    carried = tuple(carried_inputs)
    while True:
        again = cond_fn(*carried)
        if isinstance(again, Tensor) and without_value(again):
            return _endless(again, cond_fn, body_fn, carried)
        if not again:
            return carried
        before, spec = tree_flatten(carried)
        tensors = [t for t in before if isinstance(t, Tensor)]
        after, carried = _following(body_fn, carried, spec)
        _alike([t for t in after if isinstance(t, Tensor)], tensors, "body_fn", "carried_inputs")


def _following(
    body_fn: Callable[..., Any], carried: tuple[Any, ...], spec: Any
) -> tuple[list[Any], tuple[Any, ...]]:
    """The next carried values: leaves, and in their structure.

    Raises:
        RuntimeError: the structure is another one.
    """
    found = body_fn(*carried)
    found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    leaves, other = tree_flatten(found)
    if spec != other:
        raise RuntimeError(f"body_fn gives {other} for carried values {spec}")
    return leaves, found


def _endless(
    again: Tensor,
    cond_fn: Callable[..., Any],
    body_fn: Callable[..., Any],
    carried: tuple[Any, ...],
) -> Any:
    """A `while_loop` whose length is a value that will be there later."""
    leaves, spec = tree_flatten(carried)
    firsts = [t if isinstance(t, Tensor) else flambeau.tensor(t) for t in leaves]

    def step(values: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        after, following = _following(body_fn, tree_unflatten(values, spec), spec)
        after = [t if isinstance(t, Tensor) else flambeau.tensor(t) for t in after]
        _alike(after, firsts, "body_fn", "carried_inputs")
        return _choice(cond_fn(*following)), after

    return tree_unflatten(endless(_choice(again), step, firsts), spec)


def _choice(pred: Any) -> Tensor:
    """What a condition says, as one bool.

    Raises:
        RuntimeError: it is neither a number nor a tensor of one element.
    """
    found: Tensor = flambeau.as_tensor(pred)
    if found.numel() != 1:
        raise RuntimeError(f"Expected cond_fn to give a bool or one element, but got {found}.")
    return found.reshape(()).to(flambeau.bool)


def scan(
    combine_fn: Callable[..., Any],
    init: Any,
    xs: Any,
    *,
    dim: int = 0,
    reverse: bool = False,
    checkpoint: bool = False,
) -> tuple[Any, Any]:
    """One step after another: `carry, y = combine_fn(carry, x)` for the slices of `xs`.

    The function is called once, for all steps; what it records is one operation, and so are its
    gradients of any order.

    Args:
        combine_fn: the carried values and a slice of each of `xs` without `dim` -> the next
            carried values, of the same shapes and dtypes, and the step's results.
        init: the first carried values: a tensor or a container of tensors.
        xs: tensors, or containers of them, of equal size in `dim`.
        dim: along which steps are taken.
        reverse: from the last slice to the first; results stand at their slices' places.
        checkpoint: keep only the carried values for the gradient, and compute what else it reads
            of a step again.

    Returns:
        The last carried values, and the results of all steps stacked in dimension 0.

    Raises:
        RuntimeError: a step gives other carried values, looks at a value, or writes to a tensor
            from outside.
        ValueError: there are no slices.

    Example:
        >>> total, sums = scan(lambda c, x: (c + x, c + x), flambeau.zeros(()), flambeau.ones(3))
        >>> total.item(), sums.tolist()
        (3.0, [1.0, 2.0, 3.0])
    """
    leaves, spec = _leaves(xs, "xs")
    length = _length(leaves, dim, "scan")
    first, carry_spec = _leaves(init, "init")
    results: list[Any] = []

    def step(carried: list[Tensor], parts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        carry, y = combine_fn(tree_unflatten(carried, carry_spec), tree_unflatten(parts, spec))
        after, other = _leaves(carry, "the carried values")
        if other != carry_spec:
            raise RuntimeError(f"combine_fn carries {other}, but init is {carry_spec}")
        _alike(after, first, "combine_fn", "init")
        made, out_spec = _leaves(y, "the results of combine_fn")
        results.append(out_spec)
        return after, made

    wholes = [leaf.movedim(dim, 0) for leaf in leaves]
    lasts, found = steps(step, first, wholes, length, reverse, not checkpoint)
    return tree_unflatten(lasts, carry_spec), tree_unflatten(found, results[0])


def map(f: Callable[..., Any], xs: Any, *args: Any) -> Any:
    """`f(x, *args)` for every slice x of the leading dimension of `xs`, results stacked.

    Args:
        f: a function of tensors that changes nothing.
        xs: a tensor, or containers of tensors of equal leading size, at least 1.
        args: given to every call as they are.

    Raises:
        RuntimeError: sizes differ, or are 0.

    Example:
        >>> map(lambda x, y: x * y, flambeau.tensor([1.0, 2.0]), flambeau.tensor(3.0)).tolist()
        [3.0, 6.0]
    """
    leaves, _ = _leaves(xs, "xs")
    _length(leaves, 0, "map")
    found = vmap(f, in_dims=(0, *[None] * len(args)), randomness="different")(xs, *args)
    return found


def associative_scan(
    combine_fn: Callable[..., Any],
    xs: Any,
    dim: int,
    reverse: bool = False,
    combine_mode: str = "pointwise",
) -> Any:
    """All prefixes combined: y_t = x_0 * x_1 * .. * x_t for an associative function `*`.

    Args:
        combine_fn: two values -> their combination, of the same structure.
        xs: tensors, or containers of them, of equal size in `dim`.
        dim: along which values stand.
        reverse: suffixes instead of prefixes.
        combine_mode: "pointwise": `combine_fn` is elementwise, and is given many values at once;
            "generic": it is given values without `dim`.

    Returns:
        The combinations, shaped as `xs`, in 2 log2(n) calls over whole tensors; in an exported
        program where n may change, in a scan over the values.

    Raises:
        ValueError: an unknown `combine_mode`, or sizes that differ.

    Reference:
        Blelloch, Prefix Sums and Their Applications (1990).

    Example:
        >>> associative_scan(flambeau.maximum, flambeau.tensor([1.0, 3.0, 2.0]), 0).tolist()
        [1.0, 3.0, 3.0]
    """
    if combine_mode not in ("pointwise", "generic"):
        raise ValueError(
            f"Combine_mode must either 'pointwise' or 'generic', but got {combine_mode}"
        )
    leaves, spec = _leaves(xs, "xs")
    count = _length(leaves, dim, "associative_scan")
    values = [leaf.movedim(dim, 0) for leaf in leaves]
    if reverse:
        values = [v.flip(0) for v in values]

    def combine(
        a: list[Tensor], b: list[Tensor], call: Callable[..., Any] = combine_fn
    ) -> list[Tensor]:
        found = call(tree_unflatten(a, spec), tree_unflatten(b, spec))
        parts, other = _leaves(found, "the result of combine_fn")
        if other != spec:
            raise RuntimeError(f"combine_fn gives {other} for values {spec}")
        _alike(parts, a, "combine_fn", "xs")
        return parts

    if isinstance(count, SymInt):
        found = _in_turn(combine, values, count)
    else:
        call = combine_fn if combine_mode == "pointwise" else vmap(combine_fn)
        found = _prefixes(partial(combine, call=call), values)
    if reverse:
        found = [v.flip(0) for v in found]
    return tree_unflatten([v.movedim(0, dim) for v in found], spec)


def _prefixes(
    combine: Callable[[list[Tensor], list[Tensor]], list[Tensor]], values: list[Tensor]
) -> list[Tensor]:
    """Prefixes along dimension 0: those of pairs, then every second one by one more step."""
    count = values[0].shape[0]
    if count < 2:
        return values
    even, odd = [v[:-1:2] for v in values], [v[1::2] for v in values]
    at_odd = _prefixes(combine, combine(even, odd))
    later = [v[2::2] for v in values]
    if later[0].shape[0]:
        before = [v[: later[0].shape[0]] for v in at_odd]
        later = combine(before, later)
    found = []
    for value, odds, evens in zip(values, at_odd, later, strict=True):
        evens = flambeau.cat([value[:1], evens])
        pairs = flambeau.stack([evens[: odds.shape[0]], odds], 1).flatten(0, 1)
        found.append(pairs if count % 2 == 0 else flambeau.cat([pairs, evens[-1:]]))
    return found


def _in_turn(
    combine: Callable[[list[Tensor], list[Tensor]], list[Tensor]], values: list[Tensor], count: int
) -> list[Tensor]:
    """Prefixes along dimension 0, one after another."""

    def step(before: list[Tensor], parts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        first, *value = parts
        found = cond(first, lambda: value, lambda: combine(before, value))
        return found, found

    starts = flambeau.arange(count, device=values[0].device) == 0
    return steps(step, [v[0] for v in values], [starts, *values], count)[1]


def _length(leaves: Sequence[Tensor], dim: int, name: str) -> int:
    """The size that all have in a dimension.

    Raises:
        ValueError: there are no tensors, or sizes differ.
    """
    if not leaves:
        raise ValueError(f"{name}() expects at least one tensor in xs")
    sizes = [leaf.size(dim) for leaf in leaves]
    if any(n != sizes[0] for n in sizes):
        raise ValueError(f"{name}() expects xs of one size in dimension {dim}, got {sizes}")
    if not sizes[0]:
        raise ValueError(f"{name}() expects at least one slice in dimension {dim}")
    found: int = sizes[0]
    return found


__all__ = ["associative_scan", "cond", "map", "scan", "while_loop"]
