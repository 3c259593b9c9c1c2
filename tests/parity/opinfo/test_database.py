"""Every operator of torch's database that is public agrees, or says why it does not.

A share of each operator's samples is compared here: `tools/operators.py` compares all of them, also
second derivatives and tangents. float32 is compiled; what operators mean in other dtypes is asked
of the interpreter, with which tests/table compares what is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flambeau import record
from tests.conftest import HAS_TORCH

pytestmark = pytest.mark.parity
pytest.importorskip("expecttest", reason="torch's database of calls needs it")

if HAS_TORCH:
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    from tests.parity.opinfo.calls import full_name, outcome
    from tests.parity.opinfo.reasons import REASONS, reason

#: dtype -> how many samples of each operator are compared.
SHARE = {"float32": 1, "complex64": 1, "bfloat16": 1, "int64": 1, "bool": 1, "float64": 1}


@pytest.fixture
def target(dtype: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiled in float32, interpreted in other dtypes."""
    if dtype == "float32":
        yield
        return
    record.flush()
    record.clear_programs()
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")
    yield
    record.flush()
    record.clear_programs()


@pytest.mark.parametrize("dtype", SHARE)
@pytest.mark.parametrize("op", op_db if HAS_TORCH else [], ids=full_name if HAS_TORCH else None)
def test_operator_agrees(op: Any, dtype: str, target: None) -> None:
    if dtype == "float64" and op.supports_dtype(torch.float32, "cpu"):
        pytest.skip("compared in float32")
    known = reason(full_name(op), dtype)
    found = outcome(op, getattr(torch, dtype), SHARE[dtype])
    if found.absent in ("no dtype", "unlike"):
        pytest.skip(found.why or found.absent)
    if known is not None:
        if found.status == "pass":
            pytest.skip("the samples that do not agree are further on")
        pytest.xfail(known)
    assert found.status == "pass", f"{found.failed or found.why}"


def test_reasons_name_operators() -> None:
    assert not set(REASONS) - {full_name(op) for op in op_db}
