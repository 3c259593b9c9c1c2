"""Every row is complete: documented, sampled, differentiable or said not to be, and lowered."""

from __future__ import annotations

import tomllib

import pytest

from flambeau.codegen import lowerings
from flambeau.ops.rows import ROWS
from tests.conftest import ROOT
from tests.table import cases

REASONS = tomllib.loads((ROOT / "tests" / "waivers.toml").read_text())["samples"]
#: What the printer of kernels handles itself: copies, conversions and what reads no memory.
STRUCTURAL = {"clone", "cast", "to_dtype", "iota", "random_bits", "fill_value", "empty_memory"}
JVP_WORDS = {"linear", "multilinear", "elementwise", "zero", "inherit"}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_row_says_what_it_means(name: str) -> None:
    row = ROWS[name]
    assert len(row.doc) > 5, "no docstring"
    assert row.signature is not None or row.parameters or row.kind in ("view", "elementwise")


@pytest.mark.parametrize("name", sorted(ROWS))
def test_row_has_samples_or_a_reason(name: str) -> None:
    if name in REASONS:
        assert ROWS[name].samples is None, "sampled, so the reason is stale"
        assert len(REASONS[name].split()) >= 4
    else:
        assert ROWS[name].samples is not None, "no samples, and no reason in tests/waivers.toml"
        assert ROWS[name].call is not None


def test_every_reason_names_a_row() -> None:
    assert not set(REASONS) - set(ROWS)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_row_has_a_derivative_or_none(name: str) -> None:
    row = ROWS[name]
    if row.kind == "composite":  # differentiated through its body
        assert row.vjp is None or callable(row.vjp)
        return
    if row.differentiable and row.kind not in ("input", "effect"):
        assert row.vjp is not None, "neither a vjp nor differentiable=False"
    assert row.jvp is None or callable(row.jvp) or row.jvp in JVP_WORDS
    known = {*row.parameters, "out", *(f"out{k}" for k in range(9))}
    assert row.saves <= known, f"saves what is no parameter: {sorted(row.saves - known)}"


@pytest.mark.parametrize("name", sorted(ROWS))
def test_elementwise_row_is_lowered(name: str) -> None:
    if ROWS[name].kind != "elementwise":
        return
    cells = (lowerings.LOWERINGS, lowerings.UNSUPPORTED, STRUCTURAL)
    assert sum(name in place for place in cells) == 1


@pytest.mark.parametrize("name", cases.SAMPLED)
def test_row_has_a_reference_or_a_body(name: str) -> None:
    row = ROWS[name]
    if row.kind in ("elementwise", "reduce", "contraction", "index", "index_put"):
        assert row.reference is not None or name in ("clone", "to_dtype", "iota")
