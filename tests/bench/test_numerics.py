"""The accuracy report: its unit, and that it notices results that are further off."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench import numerics  # noqa: E402 (it imports torch)

pytestmark = pytest.mark.parity


def test_errors_are_in_units_in_the_last_place() -> None:
    want = np.array([1.0, 1024.0, 1e-50, np.inf, 3.0])
    last = 2.0**-23
    got = np.array([1 + last, 1024 + 1024 * last / 2, 0, 7, np.nan])
    # numbers that float32 cannot hold are left out; a NaN is infinitely wrong
    assert numerics.errors(got, want, each=True).tolist() == [1, 0.5, np.inf]
    # the largest value's last place is the unit of all of them
    assert numerics.errors(got[:2], want[:2], each=False).tolist() == [1 / 1024, 0.5]


def test_a_worse_result_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = numerics.own_function("mul")
    accuracy = numerics.compare("mul")
    assert accuracy is not None
    assert accuracy.values > 1000
    assert not accuracy.is_worse()
    assert accuracy.largest <= 0.5  # one rounding
    monkeypatch.setattr(numerics, "own_function", lambda name: lambda a, b: exact(a, b) * 1.0000002)
    assert numerics.compare("mul").is_worse()


def test_a_failing_row_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(numerics, "own_function", lambda name: fails)
    accuracy = numerics.compare("mul")
    assert accuracy.is_worse()
    assert "KeyError: 'lost'" in accuracy.failure


def test_rows_that_torch_does_not_have_are_left_out() -> None:
    name = next(n for n in numerics.ROWS if numerics.torch_function(n) is None)
    assert numerics.compare(name) is None
