"""Samples of `ops/recurrent.py`."""

from __future__ import annotations

from typing import Any

from flambeau.ops.recurrent import GATES
from flambeau.ops.rows import NAMES, ROWS
from flambeau.ops.samples.arithmetic import Samples


def _states(r: Any, mode: str, batch: int, units: int) -> tuple[Any, Any]:
    return r(batch, units), r(batch, units) if mode == "lstm" else None


def _recurrence(r: Any) -> list[Any]:
    found = []
    for mode, (gates, _) in GATES.items():
        for steps, batch, units, reverse in ((3, 2, 4, False), (2, 1, 1, True)):
            bias = r(units) if mode == "gru" and not reverse else None
            found.append(
                (
                    r(steps, batch, gates * units), *_states(r, mode, batch, units),
                    r(gates * units, units), bias, None, mode, reverse, True,
                )
            )  # fmt: skip
    lengths = NAMES["tensor"]([3, 1])
    found.append((r(3, 2, 8), r(2, 2), r(2, 2), r(8, 2), None, lengths, "lstm", True, True))
    return found


def _layer(r: Any) -> list[Any]:
    found = []
    for mode, (gates, _) in GATES.items():
        rows = gates * 3
        weights = (r(rows, 2), r(rows, 3), r(rows), r(rows))
        found.append((r(4, 2, 2), *_states(r, mode, 2, 3), *weights, None, mode, False, True))
    lengths = NAMES["tensor"]([3, 1])
    weights = (r(9, 2), r(9, 3), None, None)
    found.append((r(3, 2, 2), r(2, 3), None, *weights, lengths, "gru", True, True))
    return found


def _cell(gates: int, pair: bool = False) -> Samples:
    def samples(r: Any) -> list[Any]:
        rows = gates * 3
        hx = (r(2, 3), r(2, 3)) if pair else r(2, 3)
        return [
            (r(2, 4), hx, r(rows, 4), r(rows, 3), r(rows), r(rows)),
            (r(2, 4), hx, r(rows, 4), r(rows, 3)),
        ]

    return samples


SAMPLES: dict[str, Samples] = {
    "_recurrence": _recurrence,
    "_recurrent_layer": _layer,
    "lstm_cell": _cell(4, pair=True),
    "gru_cell": _cell(3),
    "rnn_tanh_cell": _cell(1),
    "rnn_relu_cell": _cell(1),
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
