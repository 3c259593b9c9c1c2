"""Every row's samples as ONNX models: checked, run by onnxruntime, read again, compared.

The tests name no operation: what ONNX has nothing for stands in `UNSUPPORTED`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.export import ExportError, export
from flambeau.export.onnx import load
from flambeau.export.onnx.cells import CELLS, UNSUPPORTED, support
from flambeau.export.onnx.exporting import DEFAULT_OPSET, build
from flambeau.ir.graph import AGAIN, ASSIGN, VIEW
from flambeau.ops.rows import ROWS
from flambeau.pytree import tree_leaves
from tests.export.runtime import checked, results
from tests.table import cases

pytest.importorskip("onnx_ir")

#: Rows that are written otherwise for older operators.
VERSIONED = sorted(n for n, found in CELLS.items() if any(c.since > 18 for c in found))


class Of(nn.Module):
    """The tensors of a call's result."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return cases.tensors(self.call(*args, **kwargs))


def compare(call: cases.Call, opset: int) -> bool:
    """Export a sample, run it, read it back and compare; False where it cannot be exported."""
    tensors = [x for x in tree_leaves((call.args, call.kwargs)) if isinstance(x, flambeau.Tensor)]
    given = [x.detach().contiguous().numpy().copy() for x in tensors]
    try:
        program = export(Of(call.row.call), call.args, call.kwargs)
    except (ExportError, RuntimeError):
        return False  # what it does depends on values
    wanted = [cases.array(t) for t in call()]
    if not program.traced.outputs:
        return False
    try:
        model = build(program, opset)
    except ExportError as error:
        words = str(error)
        assert "complex" in words or any(f"  {row}: " in words for row in UNSUPPORTED), words
        return False
    found = results(model, given)
    assert len(found) == len(wanted)
    if call.number < 2:
        again = load(model).module()(*map(flambeau.from_numpy, given))
        found += [t.detach().numpy() for t in again]
    for got, want in zip(found, wanted * 2, strict=False):
        dtype = str(got.dtype)
        wide = got.astype(np.float32) if dtype == "float16" else got
        assert cases.difference(wide, want, dtype) is None, call
    return True


@pytest.mark.parametrize("name", cases.SAMPLED)
def test_samples_are_the_same_in_onnxruntime(name: str) -> None:
    done = [compare(c, DEFAULT_OPSET) for c in cases.calls(name, cases.Draw(flambeau.float32))]
    if name in CELLS:
        assert any(done), "a row with a cell has no sample that is exported"


@pytest.mark.parametrize("dtype", [flambeau.float16, flambeau.bfloat16])
@pytest.mark.parametrize("name", sorted(CELLS.keys() & set(cases.SAMPLED)))
def test_samples_of_narrow_floats_are_valid(name: str, dtype: flambeau.dtype) -> None:
    for call in list(cases.calls(name, cases.Draw(dtype)))[:2]:
        try:
            program = export(Of(call.row.call), call.args, call.kwargs)
        except (ExportError, RuntimeError, TypeError):
            continue  # not of this dtype, or what it does depends on values
        for opset in (18, DEFAULT_OPSET):
            with contextlib.suppress(ExportError):
                model = build(program, opset)
                if program.traced.outputs:
                    checked(model)


@pytest.mark.parametrize("name", VERSIONED)
def test_samples_are_the_same_with_the_oldest_operators(name: str) -> None:
    for call in cases.calls(name, cases.Draw(flambeau.float32)) if ROWS[name].samples else ():
        compare(call, 18)


def test_every_row_has_a_cell_or_a_body_or_a_reason() -> None:
    for name, row in ROWS.items():
        words = support(row)
        assert words, name
    assert not CELLS.keys() & UNSUPPORTED.keys()
    assert not {n for n in UNSUPPORTED if ROWS[n].kind == "composite"}
    of_the_ir = {op.name for op in (VIEW, ASSIGN, AGAIN)}
    assert not (CELLS.keys() | UNSUPPORTED.keys()) - ROWS.keys() - of_the_ir
