"""`vmap`: a function of one example as a function of a batch. How it works: Note [One example]."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.func.examples import Examples
from flambeau.ops.rows import NAMES
from flambeau.pytree import (
    TreeSpec,
    _broadcast_to_and_flatten,
    tree_flatten,
)
from flambeau.tensor import Tensor

_RANDOMNESS = ("error", "different", "same")


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that maps `func` over a dimension of its inputs, all examples at once.

    Args:
        func: takes the tensors of one example, in any containers; keyword arguments are passed to
            it as they are.
        in_dims: the mapped dimension of each positional argument, or None where it is the same for
            all examples; one number for all, or a tree like the arguments.
        out_dims: where the batch stands in the results; one number, or a tree like them.
        randomness: whether random operations inside raise ("error"), draw other numbers for each
            example ("different") or the same for all ("same").
        chunk_size: map so many examples at a time, for less memory.

    Returns:
        A function with the arguments of `func`, each mapped tensor having one dimension more.

    Raises:
        ValueError: dimensions that do not fit the arguments or each other; results that are no
            tensors.
        RuntimeError: `func` looks at a value, writes what differs between examples into a tensor
            that is the same for all, or draws random numbers with `randomness="error"`.

    Example:
        >>> import flambeau
        >>> vmap(flambeau.dot)(flambeau.ones(5, 3), flambeau.ones(5, 3)).shape
        torch.Size([5])
    """
    if randomness not in _RANDOMNESS:
        raise RuntimeError(
            "Only allowed values for randomness are 'error', 'different', or 'same'. "
            f"Got {randomness}"
        )
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        size, dims, flat, spec = _inputs(in_dims, args, func)
        if chunk_size is None or size <= chunk_size:
            return _mapped(func, size, dims, flat, spec, out_dims, randomness, kwargs)
        return _in_chunks(func, size, dims, flat, spec, out_dims, randomness, chunk_size, kwargs)

    return mapped


def _name(func: Any) -> str:
    return getattr(func, "__name__", repr(func))


def _inputs(in_dims: Any, args: Any, func: Any) -> tuple[int, list[Any], list[Any], TreeSpec]:
    """-> the batch size, each leaf's mapped dimension, the leaves and their tree."""
    where = f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>): "
    if not isinstance(in_dims, (int, tuple)) or isinstance(in_dims, bool):
        raise ValueError(
            f"{where}expected `in_dims` to be int or a (potentially nested) tuple matching the "
            f"structure of inputs, got: {type(in_dims)}."
        )
    if not args:
        raise ValueError(
            f"vmap({_name(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you "
            "are trying to vmap over a function with no inputs. The latter is unsupported."
        )
    flat, spec = tree_flatten(args)
    dims = _broadcast_to_and_flatten(in_dims, spec)
    if dims is None:
        raise ValueError(
            f"{where}in_dims is not compatible with the structure of `inputs`. in_dims has "
            f"structure {tree_flatten(in_dims)[1]} but inputs has structure {spec}."
        )
    found = [None if d is None else _wrapped(d, t, where) for d, t in zip(dims, flat, strict=True)]
    sizes = [t._shape[d] for d, t in zip(found, flat, strict=True) if d is not None]
    if not sizes:
        raise ValueError(
            f"{where}at least one input has to be mapped over: every entry of in_dims is None."
        )
    if any(n != sizes[0] for n in sizes):
        raise ValueError(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sizes} for the mapped dimension"
        )
    return sizes[0], found, flat, spec


def _wrapped(dim: Any, t: Any, where: str) -> int:
    if not isinstance(dim, int):
        raise ValueError(
            f"{where}Got in_dim={dim} for an input but in_dim must be either an integer dimension "
            "or None."
        )
    if not isinstance(t, Tensor):
        raise ValueError(
            f"{where}Got in_dim={dim} for an input but the input is of type {type(t)}. We cannot "
            "vmap over non-Tensor arguments, please use None as the respective in_dim"
        )
    if not -t.ndim <= dim < t.ndim:
        raise ValueError(
            f"{where}Got in_dim={dim} for some input, but that input is a Tensor of dimensionality "
            f"{t.ndim} so expected in_dim to satisfy -{t.ndim} <= in_dim < {t.ndim}."
        )
    return dim % t.ndim


def _front(t: Tensor, dim: int) -> Tensor:
    return t if dim == 0 else NAMES["movedim"](t, dim, 0)


def _mapped(
    func: Any, size: int, dims: list[Any], flat: list[Any], spec: TreeSpec, out_dims: Any,
    randomness: str, kwargs: Any,
) -> Any:  # fmt: skip
    recording = Examples(size, randomness)
    wholes = [t if d is None else _front(t, d) for t, d in zip(flat, dims, strict=True)]
    with recording:
        given = [t if d is None else recording.part(t) for t, d in zip(wholes, dims, strict=True)]
        marks = [
            (whole, t, t._cell.version)
            for whole, t, d in zip(wholes, given, dims, strict=True)
            if d is not None
        ]
        found = func(*spec.unflatten(given), **kwargs)
        leaves, out_spec = tree_flatten(found)
        places = _places(out_dims, leaves, out_spec, func)
        results = recording.leave(leaves)
    recording.written(marks)
    return out_spec.unflatten(
        [_placed(t, has, d, size, func) for (t, has), d in zip(results, places, strict=True)]
    )


def _places(out_dims: Any, leaves: list[Any], spec: TreeSpec, func: Any) -> list[Any]:
    for t in leaves:
        if not isinstance(t, Tensor):
            raise ValueError(
                f"vmap({_name(func)}, ...): `{_name(func)}` must only return Tensors, got type "
                f"{type(t)}. Did you mean to set out_dims= to None for output?"
            )
    if spec.is_leaf() and isinstance(out_dims, tuple) and len(out_dims) == 1:
        return list(out_dims)
    places = _broadcast_to_and_flatten(out_dims, spec)
    if places is None:
        raise ValueError(
            f"vmap({_name(func)}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible "
            f"with the structure of `outputs`. out_dims has structure "
            f"{tree_flatten(out_dims)[1]} but outputs has structure {spec}."
        )
    return places


def _placed(t: Tensor, has: bool, dim: Any, size: int, func: Any) -> Tensor:
    """A result with the batch where it is wanted."""
    if dim is None:
        if has:
            raise ValueError(
                f"vmap({_name(func)}, ...): `{_name(func)}` can not return a BatchedTensor when "
                "out_dim is None"
            )
        return t
    whole = t if has else NAMES["expand"](t, (size, *t._shape))
    if not -whole.ndim <= dim < whole.ndim:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-whole.ndim}, "
            f"{whole.ndim - 1}], but got {dim})"
        )
    return whole if dim == 0 else NAMES["movedim"](whole, 0, dim)


def _in_chunks(
    func: Any, size: int, dims: list[Any], flat: list[Any], spec: TreeSpec, out_dims: Any,
    randomness: str, chunk_size: int, kwargs: Any,
) -> Any:  # fmt: skip
    parts: list[list[Tensor]] = []
    for start in range(0, size, chunk_size):
        count = min(chunk_size, size - start)
        given = [
            t if d is None else NAMES["narrow"](t, d, start, count)
            for t, d in zip(flat, dims, strict=True)
        ]
        found = _mapped(func, count, dims, given, spec, out_dims, randomness, kwargs)
        leaves, out_spec = tree_flatten(found)
        parts.append(leaves)
    places = _places(out_dims, parts[0], out_spec, func)
    return out_spec.unflatten(
        [
            column[0] if d is None else NAMES["cat"](list(column), d)
            for column, d in zip(zip(*parts, strict=True), places, strict=True)
        ]
    )
