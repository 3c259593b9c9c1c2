"""Functions that differentiate functions: grad, vjp, jvp, jacobians, hessian, linearize.

Each records the function on places of its own (copies of the primals that require grad) and runs
the tape from its results to these. A place is linked to the primal's history where that has one, so
that transforms nest in any order and with ordinary autograd; places of different transforms are
different tape entries, which no derivative can confuse. Forward mode pushes tangents along the same
tape (`autograd.forward`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.autograd.backward import grad as gradients
from flambeau.autograd.forward import pushforward
from flambeau.autograd.modes import enable_grad
from flambeau.func.mapping import vmap
from flambeau.ops.rows import NAMES
from flambeau.pytree import TreeSpec, tree_flatten, tree_map
from flambeau.tape import PLACE, GradFn, edge_of, modes, place
from flambeau.tape import _sequence as next_entry
from flambeau.tensor import Tensor

Argnums = int | tuple[int, ...]


class _Call:
    """A call of a function on places.

    Args:
        func: the function.
        args: its arguments, all of whose tensors become places.
        name: the transform, for errors.
        only: positions of the arguments that become places; all of them unless said.
        has_aux: whether the function returns (outputs, anything else).

    Attributes:
        places: the tensors that are differentiated by.
        spec: the tree of the chosen arguments.
        leaves, out_spec: the outputs.
        aux: what else was returned.
        history: whether anything but the places stands at the end of the tape, so that results are
            to be differentiable.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str,
        only: tuple[int, ...] | None = None,
        has_aux: bool = False,
    ) -> None:
        self.outer = modes.grad
        self.start = next_entry()
        chosen = tuple(range(len(args))) if only is None else only
        flat, self.spec = tree_flatten(tuple(args[i] for i in chosen))
        for x in flat:
            if not isinstance(x, Tensor):
                raise RuntimeError(
                    f"{name}: Expected all inputs to be Tensors, got {type(x).__name__}"
                )
        with enable_grad():
            self.places = [_place(x, self.outer, name) for x in flat]
            given = self.spec.unflatten([NAMES["clone"](p) for p in self.places])
            new = list(args)
            for i, value in zip(chosen, given, strict=True):
                new[i] = value
            found = func(*new, **kwargs)
            self.aux = None
            if has_aux:
                if not (isinstance(found, tuple) and len(found) == 2):
                    raise RuntimeError(
                        f"{name}(f, has_aux=True): output of function f should be a tuple: "
                        f"(output, aux) if has_aux is True"
                    )
                found, self.aux = found
        self.leaves, self.out_spec = tree_flatten(found)
        for t in self.leaves:
            if not isinstance(t, Tensor):
                raise RuntimeError(
                    f"{name}(f, *primals): Expected f to be a function that has only tensor "
                    f"outputs, got unsupported type {type(t).__name__}"
                )
        self.history = self.outer and self._has_history()

    def _has_history(self) -> bool:
        seen: set[GradFn] = set()
        stack = [edge_of(t)[0] for t in self.leaves if t.requires_grad]
        while stack:
            entry = stack.pop()
            if entry in seen:
                continue
            if entry.op is PLACE and entry.order > self.start:  # ours, or of a transform inside
                continue
            if not entry.edges:
                return True
            seen.add(entry)
            stack += [e[0] for e in entry.edges if e is not None]
        return False

    def pull(self, cotangents: list[Any], retain: bool = True) -> list[Tensor]:
        """Cotangents of the places from those of the outputs (None: zero)."""
        pairs = [
            (t, g)
            for t, g in zip(self.leaves, cotangents, strict=True)
            if g is not None and t.requires_grad
        ]
        create = modes.grad and (self.history or any(g.requires_grad for _, g in pairs))
        found: Any = [None] * len(self.places)
        if pairs and self.places:
            found = gradients(
                [t for t, _ in pairs],
                self.places,
                [g for _, g in pairs],
                retain_graph=retain or create,
                create_graph=create,
                allow_unused=True,
            )
        return [
            NAMES["zeros_like"](p.detach()) if g is None else g
            for g, p in zip(found, self.places, strict=True)
        ]

    def push(self, tangents: list[Any]) -> list[Tensor]:
        """Tangents of the outputs from those of the places (None: zero)."""
        pairs = [(p, t) for p, t in zip(self.places, tangents, strict=True) if t is not None]
        found = pushforward(self.leaves, [p for p, _ in pairs], [t for _, t in pairs])
        keep = self.history or (modes.grad and any(t.requires_grad for _, t in pairs))
        return [
            NAMES["zeros_like"](o.detach()) if t is None else t if keep else t.detach()
            for t, o in zip(found, self.leaves, strict=True)
        ]

    def outside(self, value: Any) -> Any:
        """A result as the caller gets it: without the places' history."""
        return value if self.history else tree_map(_detached, value)

    def outputs(self, leaves: list[Any] | None = None) -> Any:
        """The outputs, or other tensors in their places, as the function returned them."""
        return self.out_spec.unflatten(self.leaves if leaves is None else leaves)


def _place(x: Tensor, tracked: bool, name: str) -> Tensor:
    if x.dtype.category < 2:
        raise RuntimeError(
            f"{name}: Expected inputs to be floating point or complex tensors, got {x.dtype}"
        )
    if tracked and x.requires_grad:
        return NAMES["clone"](x)
    return place(NAMES["clone"](x.detach()))


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


def _positions(argnums: Argnums, count: int) -> tuple[int, ...]:
    many = (argnums,) if isinstance(argnums, int) else argnums
    if not isinstance(many, tuple) or not all(isinstance(i, int) for i in many):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    if not many:
        raise RuntimeError("argnums must be non-empty")
    for i in many:
        if not -count <= i < count:
            raise RuntimeError(f"Got argnum={i}, but only {count} positional inputs")
    return tuple(i % count for i in many)


def grad_and_value(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns (gradient, value) of a scalar function.

    Args:
        func: returns a tensor of one element, or (that, aux) with `has_aux`.
        argnums: which arguments to differentiate by: one, or several for a tuple of gradients.
        has_aux: whether `func` returns something else besides; then the result is
            (gradient, (value, aux)).

    Raises:
        RuntimeError: the value is no single number.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        only = _positions(argnums, len(args))
        call = _Call(func, args, kwargs, "grad_and_value", only, has_aux)
        if len(call.leaves) != 1 or not call.out_spec.is_leaf():
            raise RuntimeError(
                "Expected f(*args) to return a Tensor, got more than one or a container"
            )
        value = call.leaves[0]
        if value.ndim != 0:
            raise RuntimeError(
                "Expected f(*args) to return a scalar tensor, got tensor with "
                f"{value.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?"
            )
        found = call.pull([NAMES["ones_like"](value.detach())], retain=call.history)
        gradient = _by_argument(call.spec.unflatten(found), argnums)
        shown = call.outside(value)
        return gradient, (shown, call.outside(call.aux)) if has_aux else shown

    return wrapper


def grad(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the gradient of a scalar function, (gradient, aux) with `has_aux`.

    Args:
        func: returns a tensor of one element, or (that, aux) with `has_aux`.
        argnums: which arguments to differentiate by: one, or several for a tuple of gradients.

    Example:
        >>> import flambeau
        >>> grad(lambda x: x**3)(flambeau.tensor(2.0))
        tensor(12.)
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found, value = grad_and_value(func, argnums, has_aux)(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return wrapper


def _like(tangents: Any, spec: TreeSpec, leaves: list[Tensor], what: str) -> list[Tensor]:
    """The leaves of tangents or cotangents.

    Raises:
        RuntimeError: they are no tree like the one they belong to.
    """
    flat, given = tree_flatten(tangents)
    if given != spec:
        raise RuntimeError(f"{what} to have the same structure: expected {spec}, got {given}")
    for t, x in zip(flat, leaves, strict=True):
        if t._shape != x._shape:
            raise RuntimeError(
                f"{what} to have the same shape: expected {list(x.shape)}, got {list(t.shape)}"
            )
    return flat


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """(outputs, vjp_fn): vjp_fn(cotangents) is u^T J, a tuple with one part for each primal.

    Args:
        func: takes the primals, returns tensors in any containers, or (these, aux).
        has_aux: whether it returns something else besides; then there is a third result.

    Returns:
        `outputs`, `vjp_fn`, and aux with `has_aux`.
    """
    call = _Call(func, primals, {}, "vjp", None, has_aux)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        """Cotangents of the primals from those of the outputs."""
        flat = _like(cotangents, call.out_spec, call.leaves, "Expected cotangents and outputs")
        with enable_grad() if create_graph or (create_graph is None and modes.grad) else _as_is():
            found = call.spec.unflatten(call.pull(flat, retain_graph))
        return found

    outputs = call.outputs([call.outside(t) for t in call.leaves])
    if has_aux:
        return outputs, vjp_fn, call.outside(call.aux)
    return outputs, vjp_fn


class _as_is:
    """A context that changes nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        pass


def jvp(
    func: Callable[..., Any],
    primals: Any,
    tangents: Any,
    *,
    strict: bool = False,
    has_aux: bool = False,
) -> Any:
    """(outputs, J v): the outputs' tangents for tangents of the primals.

    Args:
        primals: a tuple of arguments.
        tangents: shaped like the primals.
        strict: raise where an output does not depend on the primals, instead of giving zeros.
        has_aux: whether `func` returns (outputs, aux); then there is a third result.
    """
    if not isinstance(primals, tuple):
        raise RuntimeError(
            f"jvp(f, primals, tangents): Expected primals to be a tuple. E.g. it should be valid "
            f"to call f(*primals), got {type(primals).__name__}."
        )
    if not primals:
        raise RuntimeError("jvp(f, primals, tangents): Expected primals to be non-empty")
    call = _Call(func, primals, {}, "jvp", None, has_aux)
    flat = _like(tangents, call.spec, call.places, "Expected primals and tangents")
    if strict and not all(t.requires_grad for t in call.leaves):
        raise RuntimeError(
            "jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs."
        )
    pushed = call.outputs(call.push(flat))
    outputs = call.outputs([call.outside(t) for t in call.leaves])
    return (outputs, pushed, call.outside(call.aux)) if has_aux else (outputs, pushed)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(outputs, jvp_fn): jvp_fn(*tangents) is J v at the primals, without calling func again."""
    call = _Call(func, primals, {}, "linearize")

    def jvp_fn(*tangents: Any) -> Any:
        """The outputs' tangents for tangents of the primals."""
        flat = _like(tangents, call.spec, call.places, "Expected the tangents and primals")
        return call.outputs(call.push(flat))

    return call.outputs([call.outside(t) for t in call.leaves]), jvp_fn


def _basis(x: Tensor) -> Tensor:
    """One vector for each element: (numel, *shape)."""
    eye = NAMES["eye"](x.numel(), dtype=x.dtype, device=x.device)
    return eye.reshape(x.numel(), *x._shape)


def _none(x: Tensor, shape: tuple[int, ...]) -> Any:
    return NAMES["zeros"](shape, dtype=x.dtype, device=x.device)


def _one(k: int, count: int, value: Any) -> list[Any]:
    found: list[Any] = [None] * count
    found[k] = value
    return found


def jacrev(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Callable[..., Any]:
    """A function that returns the Jacobian (*output, *input) of func, by rows: reverse mode.

    Args:
        func: returns tensors in any containers, or (these, aux).
        argnums: which arguments to differentiate by: one, or several for a tuple of Jacobians.
        has_aux: whether `func` returns something else besides; the result is (Jacobian, aux).
        chunk_size: how many rows are made at a time.

    Returns:
        The containers of the outputs, in each the containers of the inputs.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        only = _positions(argnums, len(args))
        call = _Call(func, args, kwargs, "jacrev", only, has_aux)
        count = len(call.leaves)
        jacobians = []
        for k, t in enumerate(call.leaves):

            def row(g: Tensor, k: int = k) -> list[Tensor]:
                return call.pull(_one(k, count, g))

            if t.numel():
                rows = vmap(row, chunk_size=chunk_size)(_basis(t.detach()))
            else:
                rows = [_none(p, (0, *p._shape)) for p in call.places]
            parts = [
                r.reshape(*t._shape, *p._shape) for r, p in zip(rows, call.places, strict=True)
            ]
            jacobians.append(_by_argument(call.spec.unflatten(parts), argnums))
        found = call.outputs(jacobians)
        return (found, call.outside(call.aux)) if has_aux else found

    return wrapper


def _by_argument(found: Any, argnums: Argnums) -> Any:
    return found[0] if isinstance(argnums, int) else found


def jacfwd(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    randomness: str = "error",
) -> Callable[..., Any]:
    """A function that returns the Jacobian (*output, *input) of func, by columns: forward mode.

    Args:
        func: returns tensors in any containers, or (these, aux).
        argnums: which arguments to differentiate by: one, or several for a tuple of Jacobians.
        has_aux: whether `func` returns something else besides; the result is (Jacobian, aux).
        randomness: accepted as torch does; func is called once, outside of any `vmap`.

    Returns:
        The containers of the outputs, in each the containers of the inputs.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        only = _positions(argnums, len(args))
        call = _Call(func, args, kwargs, "jacfwd", only, has_aux)
        count = len(call.places)
        columns = []
        for k, p in enumerate(call.places):

            def column(v: Tensor, k: int = k) -> list[Tensor]:
                return call.push(_one(k, count, v))

            if p.numel():
                found = vmap(column, out_dims=-1)(_basis(p.detach()))
            else:
                found = [_none(t, (*t._shape, 0)) for t in call.leaves]
            columns.append(
                [c.reshape(*t._shape, *p._shape) for c, t in zip(found, call.leaves, strict=True)]
            )
        rows = [
            _by_argument(call.spec.unflatten(list(parts)), argnums)
            for parts in zip(*columns, strict=True)
        ]
        jacobian = call.outputs(rows)
        return (jacobian, call.outside(call.aux)) if has_aux else jacobian

    return wrapper


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns the Hessian (*output, *input, *input): forward over reverse mode."""
    return jacfwd(jacrev(func, argnums), argnums)


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """The function itself: what is recorded has no writes, only values (`record.Cell`).

    Args:
        remove: "mutations" or "mutations_and_views", as in torch.
    """
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(
            "functionalize(f, remove='mutations'): received invalid argument for remove="
            f"{remove}. Valid options are: remove='mutations' or remove='mutations_and_views'"
        )

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper
