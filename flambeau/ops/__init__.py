"""The table of operations: every row, by family."""

from flambeau.ops import (  # noqa: F401  (importing declares the rows)
    activation,
    arithmetic,
    attention,
    contraction,
    creation,
    elementwise,
    indexing,
    linear,
    loss,
    loss_elementwise,
    movement,
    normalization,
    precision,
    products,
    random,
    rearranging,
    reduction,
    statistics,
    table,
)
