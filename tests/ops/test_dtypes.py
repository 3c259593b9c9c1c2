"""Every dtype: promotion, conversion, storage; bits seen as another dtype share memory."""

from __future__ import annotations

import io
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import flambeau
from flambeau.dtype import ALL
from flambeau.safetensors import load, save
from tests.conftest import HAS_TORCH

if HAS_TORCH:
    import torch

KINDS = [pytest.param(d, id=d.name) for d in ALL]


@pytest.mark.parity
@pytest.mark.parametrize("a", KINDS)
def test_promotion_is_torchs(a: Any) -> None:
    for b in ALL:
        pair = (getattr(torch, a.name), getattr(torch, b.name))
        try:
            want = str(torch.promote_types(*pair)).removeprefix("torch.")
        except RuntimeError:
            with pytest.raises(RuntimeError):
                flambeau.promote_types(a, b)
            continue
        if want != "complex32":
            assert flambeau.promote_types(a, b).name == want, (a, b)
        assert flambeau.can_cast(a, b) == torch.can_cast(*pair)


_WORDS = ["float32", "float16", "bfloat16", "int8", "int64", "uint8", "bool"]


@pytest.mark.parity
@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2", "xlogy", "gcd", "lcm"])
@pytest.mark.parametrize("first", _WORDS)
def test_arguments_of_two_dtypes_meet_as_in_torch(name: str, first: str) -> None:
    for second in _WORDS:
        for values in ([2, 1, 3], 3):
            found: list[Any] = []
            for lib in (torch, flambeau):
                a = lib.tensor([1, 2, 5]).to(getattr(lib, first))
                b = lib.tensor(values).to(getattr(lib, second))
                try:
                    out = getattr(lib, name)(a, b)
                    found.append((str(out.dtype).split(".")[-1], out.tolist()))
                except NotImplementedError:
                    found.append((NotImplementedError, 0))
            (dtype, want), (kind, got) = found
            assert kind == dtype, (second, values)
            near = 0.02 if dtype in ("float16", "bfloat16") else 1e-6
            np.testing.assert_allclose(got, want, rtol=near, atol=near)


@pytest.mark.parametrize("dtype", KINDS)
def test_values_survive(dtype: Any) -> None:
    array = np.array([[1, 2], [4, 1]]).astype(dtype.numpy)
    t = flambeau.tensor([[1, 2], [4, 1]]).to(dtype)
    assert t.tolist() == array.astype(np.complex128).tolist()
    file = io.BytesIO()
    flambeau.save(t, file)
    file.seek(0)
    for other in (flambeau.load(file), pickle.loads(pickle.dumps(t)), t.clone(), t.t().t()):
        assert other.dtype is dtype
        assert other.tolist() == t.tolist()
    assert flambeau.cat([t, t[:1]])[2].tolist() == t[0].tolist()
    assert t.float().tolist() == array.astype(np.float32).tolist()
    assert (t == t).all().item()
    if dtype.name not in ("complex128", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"):
        assert load(save({"t": t}))["t"].tolist() == t.tolist()
    if dtype.numpy.isbuiltin == 1:
        assert flambeau.from_numpy(array).dtype is dtype


@pytest.mark.parametrize("dtype", [flambeau.uint16, flambeau.uint32, flambeau.uint64])
def test_wide_unsigned_integers_compute(dtype: Any) -> None:
    top = int(np.iinfo(dtype.numpy).max)
    a = np.array([1, 7, top, top - 3], dtype.numpy)
    x = flambeau.tensor(a)
    assert (x + x).tolist() == (a + a).tolist()
    assert (x // 2).tolist() == (a // 2).tolist()
    assert (x > 5).tolist() == (a > 5).tolist()
    assert x.double().tolist() == a.astype(np.float64).tolist()
    assert flambeau.maximum(x, x.flip(0)).tolist() == np.maximum(a, a[::-1]).tolist()


def test_narrow_floats_round_as_their_format_says() -> None:
    a = np.array([0.1, 1.06, 300.0, -0.007], np.float32)
    got = flambeau.tensor(a).to(flambeau.float8_e4m3fn)
    assert got.float().tolist() == a.astype(ml_dtypes.float8_e4m3fn).astype(np.float32).tolist()


class TestBits:
    def test_writes_are_seen_both_ways(self) -> None:
        x = flambeau.arange(6.0).reshape(2, 3)
        bits = x.view(flambeau.int32)
        bits[0, 1] = 0
        assert x.tolist() == [[0, 0, 2], [3, 4, 5]]
        x.add_(1.0)
        want = np.array([[1, 1, 3], [4, 5, 6]], np.float32).view(np.int32)
        assert bits.tolist() == want.tolist()
        assert bits.data_ptr() == x.data_ptr()

    def test_before_anything_is_computed(self) -> None:
        x = flambeau.zeros(4)
        x.view(flambeau.uint8)[3] = 63
        x.view(flambeau.uint8)[2] = 128
        x[1] = 2.0
        assert x.tolist() == [1, 2, 0, 0]

    def test_sizes_change_with_the_dtype(self) -> None:
        x = flambeau.arange(8, dtype=flambeau.int32).reshape(2, 4)
        whole = np.arange(8, dtype=np.int32).reshape(2, 4)
        for dtype in (flambeau.int64, flambeau.int16, flambeau.uint8):
            assert x.view(dtype).tolist() == whole.view(dtype.numpy).tolist()
        assert x[1:, 2:].view(flambeau.int64).tolist() == whole[1:, 2:].view(np.int64).tolist()
        assert x.view(flambeau.uint8).numpy().base is not None

    def test_numpy_sees_writes_through_them(self) -> None:
        x = flambeau.zeros(2)
        seen = x.numpy()
        x.view(flambeau.int32)[1] = 0x40000000
        assert seen.tolist() == [0.0, 2.0]

    @pytest.mark.parametrize(
        ("make", "dtype"),
        [
            (lambda t: t.zeros(3), "float64"),
            (lambda t: t.zeros(2, 2).t(), "float64"),
            (lambda t: t.zeros(()), "float64"),
            (lambda t: t.zeros(5)[1:], "float64"),
            (lambda t: t.zeros(2, 2).t(), "int16"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, make: Any, dtype: str) -> None:
        for lib in (flambeau, *((torch,) if HAS_TORCH else ())):
            with pytest.raises(RuntimeError, match=r"must be|cannot be"):
                make(lib).view(getattr(lib, dtype))
