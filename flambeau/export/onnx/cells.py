"""The column of the table for ONNX: which operations a row is written as.

A cell writes a node of its row. Composite rows may have one, for the opsets and the forms that
ONNX has an operator for; otherwise their bodies are written. Rows that have neither stand in
`UNSUPPORTED` with the reason, and a program with such a row is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flambeau.export.onnx.builder import Builder
from flambeau.ir.graph import Node, Op


class Cell(NamedTuple):
    """How a row is written.

    Attributes:
        write: (builder, node) -> the value, or one for each result (None for those not read).
        since: the least opset.
        when: (node, which results are read) -> whether the node is of the form.
    """

    write: Callable[[Builder, Node], Any]
    since: int
    when: Callable[[Node, set[int]], bool] | None


#: The least version of the operators that is written.
OLDEST = 18

#: Row -> its cells, of which the first that applies is taken.
CELLS: dict[str, list[Cell]] = {}

_COMPLEX = "ONNX has no operations on complex numbers"
_LINALG = "ONNX has no such operation on matrices"
_RANDOM = "random numbers are part of flambeau's stream; call eval() on the module"
_SPECIAL = "ONNX has no such function"
_BITS = "ONNX has no such operation on bits"
_COUNTS = "ONNX has no such operation on counts"

#: Rows that ONNX has nothing for -> why.
UNSUPPORTED: dict[str, str] = {
    **dict.fromkeys(
        ("conj_physical", "imaginary_part", "real_part", "phase",
         "make_complex", "fourier", "fourier_half",
         "fourier_real", "spectrum"), _COMPLEX),
    **dict.fromkeys(
        ("substitute", "lower_factor", "orthogonal_factor", "reflectors", "hermitian_spectrum",
         "singular_factors", "singular_values", "triangular_factors", "exchanges", "solution",
         "inverse_of", "cofactors", "signed_log_determinant", "pseudoinverse", "exponential_of",
         "symmetric_factors", "symmetric_solution"), _LINALG),
    **dict.fromkeys(
        ("random_bits", "random_at", "poisson_draw", "draw_places", "gamma_draw",
         "binomial_draw", "twister_words", "twister_normals", "twister_permutation"), _RANDOM),
    **dict.fromkeys(
        ("of_one", "of_two", "polygamma_host", "gamma_slope", "lgamma", "digamma", "erfinv",
         "nextafter", "alignment_loss"), _SPECIAL),
    **dict.fromkeys(("integer_pair", "exclusive_or", "mantissa_and_exponent"), _BITS),
    **dict.fromkeys(("count_in_cells", "count_between"), _COUNTS),
    "bits_as": "the bits of a value are read as another dtype",
    "matmul_grouped": "ONNX has no product of groups of rows",
}  # fmt: skip


def cell(
    *names: str, since: int = OLDEST, when: Callable[[Node, set[int]], bool] | None = None
) -> Callable[[Callable[[Builder, Node], Any]], Callable[[Builder, Node], Any]]:
    """Declare how rows are written.

    Args:
        names: of the rows.
        since, when: as in `Cell`.
    """

    def declare(write: Callable[[Builder, Node], Any]) -> Callable[[Builder, Node], Any]:
        for name in names:
            CELLS.setdefault(name, []).append(Cell(write, since, when))
        return write

    return declare


def cell_of(node: Node, opset: int, used: set[int]) -> Cell | None:
    """The cell that writes a node, if one does.

    Args:
        node: of a graph.
        opset: version of ONNX's operators.
        used: which of its results are read.
    """
    for found in CELLS.get(node.op.name, ()):
        if opset >= found.since and (found.when is None or found.when(node, used)):
            return found
    return None


def reason(row: Op) -> str:
    """Why a row cannot be written; "" where it can."""
    if row.kind == "effect":
        return "a model has no effect outside"
    return UNSUPPORTED.get(row.name, "")


def support(row: Op) -> str:
    """How a row is written as ONNX, in a word; "" where nothing says so."""
    if why := reason(row):
        return f"no: {why}"
    if row.name in CELLS:
        since = min(c.since for c in CELLS[row.name])
        return "operator" if since == OLDEST else f"operator from opset {since}"
    if row.kind == "composite":
        return "from its body"
    return "view" if row.kind == "view" else ""


__all__ = ["CELLS", "OLDEST", "UNSUPPORTED", "Cell", "cell", "cell_of", "reason", "support"]
