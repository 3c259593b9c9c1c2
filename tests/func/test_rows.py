"""Every row over a batch of its samples: vmap is a loop over the examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.func import vmap
from flambeau.ops.rows import ROWS
from flambeau.tensor import Tensor
from tests.table.cases import (
    REFUSALS,
    SAMPLED,
    Call,
    Draw,
    array,
    calls,
    difference,
    public,
    tensors,
)

#: Rows whose result's shape depends on values: some samples look at them, which a batch refuses.
LOOKING = frozenset(
    (
        "allclose", "equal", "is_nonzero", "nonzero", "argwhere", "masked_select", "unique",
        "unique_consecutive", "bincount", "histc", "histogram", "one_hot", "repeat_interleave",
        "linalg_lstsq", "ctc_loss", "histogramdd", "nonzero_static",
    )
)  # fmt: skip
#: Rows whose results are chance, or whatever the memory holds.
CHANCE = frozenset(
    (
        "empty_like", "multinomial", "bernoulli", "poisson", "binomial", "dropout",
        "feature_dropout", "alpha_dropout", "rrelu",
    )
)  # fmt: skip
COUNT = 3


def example(call: Call, k: int) -> list[Any]:
    """The arguments of a call as those of example k: floating-point tensors differ a little."""

    def moved(t: Tensor) -> Tensor:
        if not t.dtype.is_floating_point:
            return t
        return t * (1.0 + 0.01 * k)

    return [moved(a) if isinstance(a, Tensor) else a for a in call.args]


@pytest.mark.parametrize("name", [n for n in SAMPLED if public(n) is not None])
def test_a_batch_is_a_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in CHANCE:
        pytest.skip("its results are chance")
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")  # the rules are tested, not the compiler
    run = ROWS[name].call
    assert run is not None
    for call in calls(name, Draw(flambeau.float64)):
        places = [i for i, a in enumerate(call.args) if isinstance(a, Tensor)]
        if not places:
            continue
        try:
            rows = [example(call, k) for k in range(COUNT)]
            singles = [[array(t) for t in tensors(run(*row, **call.kwargs))] for row in rows]
        except REFUSALS:
            continue
        in_dims = tuple(0 if i in places else None for i in range(len(call.args)))
        batch = [
            flambeau.stack([row[i] for row in rows]) if i in places else rows[0][i]
            for i in range(len(call.args))
        ]
        mapped = vmap(lambda *a, call=call: tuple(tensors(run(*a, **call.kwargs))), in_dims)
        try:
            found = mapped(*batch)
        except RuntimeError as error:
            if name in LOOKING and "data-dependent" in str(error):
                continue
            raise
        for k, (result, *expected) in enumerate(zip(found, *singles, strict=True)):
            want = np.stack(expected) if expected else np.empty(0)
            problem = difference(array(result), want, "float64", 100)
            assert problem is None, f"{call}, result {k}: {problem}"
