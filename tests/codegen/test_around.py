"""Stores around the caches: the same values, wherever results lie and however wide they are."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as fl
from flambeau import record
from flambeau.codegen import space
from flambeau.runtime import cpu, cpuinfo, objects, program


@pytest.fixture(params=[True, False], ids=["around", "through"])
def words(request, monkeypatch, tmp_path):
    """What the stores of results that may be large were told, with caches of no size at all."""
    cache = objects.ObjectCache(tmp_path / "cache")
    monkeypatch.setattr(objects, "default", lambda: cache)
    monkeypatch.setattr(space, "LASTING", 0)
    size = 0 if request.param else 1 << 40
    monkeypatch.setattr(cpuinfo, "cache_sizes", lambda: (size, size, size))
    told: list[int] = []
    around = program.Program.around

    def noted(self, *args):
        told.append(around(self, *args))
        return told[-1]

    monkeypatch.setattr(program.Program, "around", noted)
    told_alone = (told, 63 if request.param else -1)
    cpu.forget()
    record.clear_programs()
    yield told_alone
    cpu.forget()
    record.clear_programs()


@pytest.mark.parametrize("width", [1, 16, 64, 200, 1024, 1031])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "int8", "bool"])
def test_values(words, dtype: str, width: int) -> None:
    a = np.arange(37 * width).reshape(37, width) % 11 - 5
    x = fl.tensor(a.astype("float32")).to(getattr(fl, dtype))
    known = x.double().numpy()
    same = (x.logical_not() if dtype == "bool" else -x).double().numpy()
    assert (same == (1 - known if dtype == "bool" else -known)).all()
    assert (x.t().contiguous().double().numpy() == known.T).all()
    assert set(words[0]) <= {words[1]}
    assert words[0]


def test_rows_and_columns(words) -> None:
    a = np.linspace(-3, 3, 64 * 256, dtype="float32").reshape(64, 256)
    x = fl.tensor(a)
    e = np.exp(a.astype("float64"))
    np.testing.assert_allclose(x.softmax(1).numpy(), e / e.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(x.softmax(0).numpy(), e / e.sum(0, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(x.cumsum(0).numpy(), a.cumsum(0, dtype="float64"), atol=1e-4)
    assert words[1] in words[0]


def test_places_that_no_line_begins_at(words) -> None:
    a = np.arange(4096, dtype="float32")
    out = fl.zeros(5000)
    out[3:4099] = fl.tensor(a) * 2
    assert (out[3:4099].numpy() == 2 * a).all()
    assert not out[:3].any()
    assert not out[4099:].any()


def test_what_lies_where_it_is_read_goes_through_the_caches(words) -> None:
    """The second loop's result takes the place of the first one's."""
    a = np.linspace(-3, 3, 64 * 256, dtype="float32").reshape(64, 256)
    e = np.exp(a.astype("float64"))
    e = np.exp(e / e.sum(0, keepdims=True))
    found = fl.tensor(a).softmax(0).softmax(1).numpy()
    np.testing.assert_allclose(found, e / e.sum(1, keepdims=True), rtol=1e-5)
    assert words[0] == [words[1], -1]
