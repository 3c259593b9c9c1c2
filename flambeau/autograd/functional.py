"""Products with Jacobians and Hessians, and these matrices themselves.

Every function here takes a function of tensors and the place where to differentiate it. With
`create_graph` results can be differentiated again; `strict` raises where an output does not depend
on an input instead of giving zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.autograd.backward import grad
from flambeau.autograd.modes import enable_grad
from flambeau.ops.rows import NAMES
from flambeau.tensor import Tensor

Tensors = tuple[Tensor, ...]


def _tuple(given: Any, what: str, function: str) -> tuple[bool, Tensors]:
    several = isinstance(given, (tuple, list))
    found = tuple(given) if several else (given,)
    for k, t in enumerate(found):
        if not isinstance(t, Tensor):
            raise TypeError(
                f"The {what} given to {function} must be either a Tensor or a tuple of "
                f"Tensors but the value at index {k} has type {type(t)}."
            )
    return several, found


def _places(inputs: Tensors, create_graph: bool) -> Tensors:
    """Fresh tensors at the same values; connected to the given ones with `create_graph`."""
    return tuple(
        NAMES["clone"](t) if create_graph and t.requires_grad else t.detach().requires_grad_()
        for t in inputs
    )


def _cotangents(v: Any, like: Tensors, function: str) -> Tensors:
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(
                f"The vector v can only be None if the user-provided function "
                f"returns a single Tensor with a single element (in {function})."
            )
        return (NAMES["ones_like"](like[0]),)
    _, found = _tuple(v, "v", function)
    if len(found) != len(like):
        raise RuntimeError(
            f"v is a tuple of invalid length: should be {len(like)} but got {len(found)}."
        )
    for k, (a, b) in enumerate(zip(found, like, strict=True)):
        if a._shape != b._shape:
            raise RuntimeError(
                f"Entry {k} in v has invalid size: should be {b.shape} but got {a.shape}."
            )
    return found


def _gradients(outputs: Tensors, inputs: Tensors, v: Any, create: bool, strict: bool) -> Tensors:
    """Vector-Jacobian products, zero where there is no dependence."""
    used = [(o, g) for o, g in zip(outputs, v, strict=True) if o.requires_grad]
    found: tuple[Any, ...] = (None,) * len(inputs)
    if used:
        found = grad(
            tuple(o for o, _ in used),
            inputs,
            tuple(g for _, g in used),
            retain_graph=True,
            create_graph=create,
            allow_unused=True,
        )
    made = []
    for k, (g, x) in enumerate(zip(found, inputs, strict=True)):
        if g is None:
            if strict:
                raise RuntimeError(
                    "The output of the user-provided function is independent of "
                    f"input {k}. This is not allowed in strict mode."
                )
            g = NAMES["zeros_like"](x)
        made.append(g)
    return tuple(made)


def _results(found: Tensors, several: bool, create_graph: bool) -> Any:
    kept = found if create_graph else tuple(t.detach() for t in found)
    return kept if several else kept[0]


def _call(func: Callable[..., Any], inputs: Tensors, name: str) -> tuple[bool, Tensors]:
    return _tuple(func(*inputs), "outputs of the user-provided function", name)


def vjp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """(outputs, v^T J): the product of a vector with the Jacobian, by one backward pass.

    Args:
        func: of tensors, returning a tensor or a tuple of tensors.
        inputs: where to differentiate.
        v: like the outputs; may be left out for a single number.

    Raises:
        RuntimeError: shapes of v that do not fit, or (`strict`) an output that does not depend on
            an input.
    """
    with enable_grad():
        several, given = _tuple(inputs, "inputs", "vjp")
        places = _places(given, create_graph)
        many, outputs = _call(func, places, "vjp")
        vectors = _cotangents(v, outputs, "vjp")
        found = _gradients(outputs, places, vectors, create_graph, strict)
    return _results(outputs, many, create_graph), _results(found, several, create_graph)


def jvp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """(outputs, J v): the product of the Jacobian with a vector.

    By differentiating the product u^T J, which is linear in u, with respect to u.

    Args:
        v: like the inputs; may be left out for a single number.
    """
    with enable_grad():
        _, given = _tuple(inputs, "inputs", "jvp")
        vectors = _cotangents(v, given, "jvp")
        places = _places(given, create_graph)
        many, outputs = _call(func, places, "jvp")
        dual = tuple(NAMES["zeros_like"](o).requires_grad_() for o in outputs)
        pulled = _gradients(outputs, places, dual, True, strict)
        found = _gradients(pulled, dual, vectors, create_graph, strict)
    return _results(outputs, many, create_graph), _results(found, many, create_graph)


def _scalar(outputs: Tensors, many: bool, name: str) -> None:
    if many or outputs[0].numel() != 1:
        raise RuntimeError(
            f"The function given to {name} should return a single Tensor with a single element."
        )


def _slopes(
    func: Callable[..., Any], inputs: Any, v: Any, create_graph: bool, strict: bool, name: str
) -> tuple[bool, Tensors, Tensors, Tensors, Tensors]:
    """-> whether there are several inputs, the vectors, the inputs, the output, its gradients."""
    several, given = _tuple(inputs, "inputs", name)
    vectors = _cotangents(v, given, name)
    places = _places(given, create_graph)
    many, outputs = _call(func, places, name)
    _scalar(outputs, many, name)
    slopes = _gradients(outputs, places, (NAMES["ones_like"](outputs[0]),), True, strict)
    return several, vectors, places, outputs, slopes


def vhp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """(output, v^T H): the product of a vector with the Hessian of a scalar function."""
    with enable_grad():
        several, vectors, places, outputs, slopes = _slopes(
            func, inputs, v, create_graph, strict, "vhp"
        )
        found = _gradients(slopes, places, vectors, create_graph, strict)
    return _results(outputs, False, create_graph), _results(found, several, create_graph)


def hvp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """(output, H v): the same values as `vhp`, for the Hessian is symmetric."""
    with enable_grad():
        several, vectors, places, outputs, slopes = _slopes(
            func, inputs, v, create_graph, strict, "hvp"
        )
        dual = tuple(NAMES["zeros_like"](s).requires_grad_() for s in slopes)
        pulled = _gradients(slopes, places, dual, True, strict)
        found = _gradients(pulled, dual, vectors, create_graph, strict)
    return _results(outputs, False, create_graph), _results(found, several, create_graph)


def _rows(output: Tensor, places: Tensors, create: bool, strict: bool) -> Tensors:
    """d output / d place for every place, shaped (*output, *place)."""
    flat = NAMES["reshape"](output, (-1,))
    rows = []
    for k in range(flat.numel()):
        pick = (NAMES["arange"](flat.numel()) == k).to(output.dtype)
        rows.append(_gradients((flat,), places, (pick,), create, strict))
    if not rows:
        return tuple(NAMES["zeros"]((*output._shape, *p._shape), dtype=p.dtype) for p in places)
    return tuple(
        NAMES["stack"](column).reshape((*output._shape, *place._shape))
        for column, place in zip(zip(*rows, strict=True), places, strict=True)
    )


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of a function: (*output, *input) for one of each, tuples of them for several.

    Args:
        vectorize, strategy: accepted as torch does; the rows are recorded one after another and
            run as one program.
    """
    with enable_grad():
        several, given = _tuple(inputs, "inputs", "jacobian")
        places = _places(given, create_graph)
        many, outputs = _call(func, places, "jacobian")
        found = tuple(
            _results(_rows(o, places, create_graph, strict), several, create_graph) for o in outputs
        )
    return found if many else found[0]


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The Hessian of a scalar function: (*input, *input), or a tuple of tuples for several."""
    several, given = _tuple(inputs, "inputs", "hessian")

    def slopes(*places: Tensor) -> Any:
        many, outputs = _call(func, places, "hessian")
        _scalar(outputs, many, "hessian")
        found = _gradients(outputs, places, (NAMES["ones_like"](outputs[0]),), True, strict)
        return found if several else found[0]

    return jacobian(slopes, given if several else given[0], create_graph, strict)
