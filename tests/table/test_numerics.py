"""float32 results are no further from float64 than torch's, on many numbers of many magnitudes."""

from __future__ import annotations

import importlib.util

import pytest

from flambeau.ops.rows import ROWS
from tests.conftest import HAS_TORCH
from tests.table import cases

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="rich is not installed"),
]

if HAS_TORCH:
    from bench import numerics

#: Beyond this many units in the last place a difference to torch counts. Sums differ by what their
#: order happens to cancel, and there are few of them in the samples.
SLACK_ULPS = {"elementwise": 2.0, "reduce": 16.0, "composite": 16.0}
#: Beyond torch's own error by this factor it counts.
SLACK = 1.5


COMPARED = [
    n for n in cases.SAMPLED
    if cases.public(n) is not None and ROWS[n].kind in SLACK_ULPS and n not in cases.UP_TO_SIGNS
]  # fmt: skip


@pytest.mark.parametrize("name", COMPARED)
def test_float32_is_as_close_to_float64_as_torch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "DRAWS", 1)
    monkeypatch.setattr(numerics, "DENSE_COUNT", 2000)
    found = numerics.compare(name)
    if found is None:
        pytest.skip("torch has no such row in float32")
    assert found.largest <= max(SLACK * found.torch_largest, SLACK_ULPS[ROWS[name].kind]), found
