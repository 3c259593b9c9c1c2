"""What the kernels of `windows.py` are told: which nodes they compute, and their tables' words."""

from __future__ import annotations

import math
from typing import Any

from flambeau.ir.graph import Node
from flambeau.kernels.windows import (
    ELEMENTS,
    POOL_FIELDS,
    PUT_FIELDS,
    RESAMPLE_FIELDS,
    chunk_of,
    grain_of,
    max_pool_text,
    put_back_text,
    resample_text,
)
from flambeau.ops.resampling import band


def _pool_chunk(node: Node) -> int:
    """Results of a row that one buffer serves."""
    _, count, kernel, stride, _, dilation = node.attrs[1][2]
    reach = dilation * (kernel - 1) + 1
    return chunk_of(lambda first, last: (last - first) * stride + reach, count)


def _pool_fits(node: Node) -> bool:
    x = node.src[0]
    few = math.prod(x.shape[1:]) < 1 << 31  # places are int32
    return x.dtype.name in ELEMENTS and x.numel > 0 and few and _pool_chunk(node) > 0


def _pool_words(program: Any, node: Node) -> list[Any]:
    x = node.src[0]
    store, offset, strides = program.operand(x, ())
    planes, *sizes = x.shape
    given = node.attrs[1]
    known: dict[str, Any] = {
        "x": (store, offset),
        "out": (program.result(node, 0), 0),
        "places": (program.result(node, 1), 0),
        "units": planes * given[0][1],
        "grain": grain_of(math.prod(sizes)),
        "chunk": _pool_chunk(node),
    }
    for name, stride in zip(("xp", "xd", "xh", "xw"), strides, strict=True):
        known[name] = stride
    for d, (size, count, *rest) in zip("dhw", given, strict=True):
        known[d.upper()], known[f"O{d.upper()}"] = size, count
        for what, value in zip(("kernel", "stride", "padding", "dilation"), rest, strict=True):
            known[f"{what}{d}"] = value
    return [known[name] for name in POOL_FIELDS]


def _put_fits(node: Node) -> bool:
    return node.dtype.name in ("float32", "float64") and node.src[0].numel > 0


def _put_words(program: Any, node: Node) -> list[Any]:
    grad, places = node.src
    known: dict[str, Any] = {"out": (program.result(node, 0), 0), "O": grad.shape[1]}
    for name, s in (("g", grad), ("places", places)):
        store, offset, strides = program.operand(s, ())
        known[name] = (store, offset)
        known[f"{name[0]}p"], known[f"{name[0]}o"] = strides
    known["units"], known["S"] = grad.shape[0], node.attrs[2]
    known["grain"] = grain_of(node.attrs[2])
    return [known[name] for name in PUT_FIELDS]


def _resample_chunk(node: Node) -> int:
    """Results of a row that one buffer serves; all of them where columns stay as they are."""
    _, key, transposed = node.attrs[5]
    columns = band(key, transposed)
    return chunk_of(columns.spans, len(columns.starts)) if key[0] != "same" else 1


def _resample_fits(node: Node) -> bool:
    x, *tables = node.src
    plain = all(s.op.kind != "view" for s in tables)
    return x.dtype.name in ELEMENTS and x.numel > 0 and plain and _resample_chunk(node) > 0


def _resample_words(program: Any, node: Node) -> list[Any]:
    names = ("x", "rows", "row_weights", "columns", "column_weights")
    known: dict[str, Any] = {}
    for name, s in zip(names, node.src, strict=True):
        store, offset, strides = program.operand(s, ())
        known[name] = (store, offset)
        if name == "x":
            known["xp"], known["xh"], known["xw"] = strides
    planes, known["H"], known["W"] = node.src[0].shape
    _, known["OH"], known["OW"] = node.attrs[-1][0][0]
    first, second, transposed = node.attrs[5]
    rows, columns = band(first, transposed), band(second, transposed)
    known["row_taps"], known["column_taps"] = rows.taps, columns.taps
    known["same"] = int(second[0] == "same")
    known["regular"] = int(columns.regular is not None)
    known["stride"], known["start"] = columns.regular or (0, 0)
    known["chunk"] = _resample_chunk(node)
    known["out"] = (program.result(node, 0), 0)
    known["units"] = planes * known["OH"]
    known["grain"] = grain_of(known["W"] * rows.taps + known["OW"] * columns.taps)
    return [known[name] for name in RESAMPLE_FIELDS]


#: Row -> (kernel, whether it computes a node, the node's words, dtype -> the kernel's module).
KERNELS: dict[str, tuple[str, Any, Any, Any]] = {
    "_max_pool": ("fl_max_pool", _pool_fits, _pool_words, max_pool_text),
    "_put_back": ("fl_put_back", _put_fits, _put_words, put_back_text),
    "_resample": ("fl_resample", _resample_fits, _resample_words, resample_text),
}
