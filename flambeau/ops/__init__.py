"""The table of operations: every row, by family."""

from flambeau.ops import (  # noqa: F401  (importing declares the rows)
    contraction,
    creation,
    elementwise,
    indexing,
    movement,
    random,
    reduction,
    table,
)
