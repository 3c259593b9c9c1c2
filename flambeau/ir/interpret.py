"""The meaning of the IR, in NumPy: the oracle that code generators are compared with."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from flambeau.dtype import FLOAT8
from flambeau.ir.fault import index_error
from flambeau.ir.graph import Argument, Graph, Node

_NARROW = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), *(d.numpy for d in FLOAT8))


def view_array(x: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Any:
    """A row-major array's storage read by element strides."""
    flat = np.ascontiguousarray(x).reshape(-1)
    if math.prod(shape) == 0:
        return np.empty(shape, flat.dtype)
    bits = flat if flat.dtype.isbuiltin == 1 else flat.view(f"u{flat.itemsize}")
    found = np.lib.stride_tricks.as_strided(
        bits[offset:], shape, tuple(s * flat.itemsize for s in strides)
    )
    return found.view(flat.dtype)


def _wide(x: Any) -> Any:
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype in _NARROW else x


def evaluate(node: Node, args: list[Any]) -> Any:
    """One node's value from its sources' arrays and numbers."""
    kind, target = node.op.kind, node.dtype.numpy
    with np.errstate(all="ignore"):
        if kind == "view":
            return np.array(view_array(args[0], node.shape, *node.attrs), order="C")
        if kind == "assign":
            shape, strides, offset = node.attrs
            flat = np.array(args[0], copy=True).reshape(-1)
            place = view_array(np.arange(flat.size), shape, strides, offset)
            flat[place] = args[1]
            return flat.reshape(node.shape)
        if node.op.name == "iota":
            return np.arange(math.prod(node.shape), dtype=np.int64).reshape(node.shape)
        if node.op.batch == "draw" and not any(type(s) is Node for s in node.src):
            return node.op.reference(*args, node.shape)  # type: ignore[misc]
        if node.op.name == "pick":
            return args[0][node.attrs[0]]
        if kind == "effect":
            result = np.empty(node.shape, target)
            sources = [np.ascontiguousarray(a) for a in args]
            assert node.op.start is not None
            node.op.start(node.attrs[0], sources, result, *node.attrs[1:]).wait()
            return result
        if kind in ("elementwise", "copy"):
            return _elementwise(node, args, target)
        reference = node.op.reference
        if reference is None:
            raise NotImplementedError(f"row {node.op.name!r} has no reference")
        if kind in ("index", "index_put"):
            wrong = index_error(node, args[1 if kind == "index" else 2 :])
            if wrong is not None:
                raise wrong
        if kind == "index_put":
            return reference(*args, mode=node.attrs[0]).astype(target)
        if kind in ("host", "scan"):
            return reference(*args, *node.attrs)
        if kind in ("reduce", "contraction"):
            wide = [_wide(a) for a in args]
            return np.asarray(reference(*wide, *node.attrs)).astype(target)
        return np.asarray(reference(*args)).astype(target)


def _elementwise(node: Node, args: list[Any], target: Any) -> Any:
    assert node.op.reference is not None
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    common = next(
        (
            a.dtype
            for i, a in enumerate(args)
            if isinstance(a, np.ndarray) and i not in node.op.fixed
        ),
        target,
    )
    wide = np.dtype(np.float32) if common in _NARROW else common
    given = [
        _wide(a)
        if isinstance(a, np.ndarray)
        else np.asarray(a).astype(wide if i not in node.op.fixed else np.bool_)
        for i, a in enumerate(args)
    ]
    found = np.asarray(node.op.reference(*given))
    if found.dtype.kind == "c" and target.kind not in "cb":
        found = found.real
    if found.dtype.kind == "f" and target.kind in "iu":
        found = np.trunc(np.where(np.isfinite(found), found, 0))
    found = found.astype(target)
    if found.shape != node.shape:
        found = np.broadcast_to(found, node.shape)
    del arrays
    return np.array(found, copy=True)


def interpret(graph: Graph, inputs: list[Any], arguments: list[Any]) -> list[Any]:
    """Every output of a graph from its inputs (arrays, read only) and run-time numbers."""
    values: dict[Node, Any] = {}
    for node in graph.nodes:
        if node.op.kind == "input":
            values[node] = inputs[node.attrs[0]]
            continue
        args = [
            values[s] if type(s) is Node else arguments[s.index] if type(s) is Argument else s
            for s in node.src
        ]
        values[node] = evaluate(node, args)
    return [values[node] for node, _ in graph.outputs]
