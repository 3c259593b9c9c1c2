"""Float conversions done in integers, against ml_dtypes and NumPy: all values and all ties."""

import ctypes

import ml_dtypes
import numpy as np
import pytest

from flambeau.runtime import jit, softfloat

HALF = {"half": np.float16, "bfloat": ml_dtypes.bfloat16}
WIDE = {"float": np.float32, "double": np.float64}
NAME = {
    ("float", "half"): "__truncsfhf2",
    ("double", "half"): "__truncdfhf2",
    ("float", "bfloat"): "__truncsfbf2",
    ("double", "bfloat"): "__truncdfbf2",
    ("half", "float"): "__extendhfsf2",
}


def convert(values: np.ndarray, source: str, target: str, dtype: type) -> np.ndarray:
    """`values` through the function NAME[source, target], one by one in a native loop."""
    name = NAME[source, target]
    loop = f"""
define void @apply(ptr %x, ptr %y, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i1, %loop]
  %p = getelementptr {source}, ptr %x, i64 %i
  %q = getelementptr {target}, ptr %y, i64 %i
  %v = load {source}, ptr %p
  %w = call {target} @{name}({source} %v)
  store {target} %w, ptr %q
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %loop, label %out
out:
  ret void
}}
"""
    library = jit.load(softfloat.IR + loop, name)
    result = np.empty(len(values), dtype)
    apply = library.function("apply", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    apply(values.ctypes.data, result.ctypes.data, len(values))
    return result


# NumPy warns of signalling NaNs among all the bit patterns
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in cast")


def same(a: np.ndarray, b: np.ndarray) -> bool:
    nan_a, nan_b = np.isnan(a.astype("f8")), np.isnan(b.astype("f8"))
    kind = f"u{a.itemsize}"
    equal = a.view(kind) == b.view(kind)
    return bool(((nan_a & nan_b) | equal).all())


def test_half_to_float():
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    assert same(convert(every, "half", "float", np.float32), every.astype(np.float32))


@pytest.mark.parametrize("target", ["half", "bfloat"])
@pytest.mark.parametrize("source", ["float", "double"])
def test_narrowing_rounds_once_to_nearest_even(source, target):
    wide, narrow = WIDE[source], HALF[target]
    every = np.arange(65536, dtype=np.uint16).view(narrow)
    exact = every.astype(wide)
    above = (np.arange(65536, dtype=np.uint16) + 1).view(narrow).astype(wide)
    with np.errstate(all="ignore"):
        tie = ((exact.astype("f8") + above.astype("f8")) / 2).astype(wide)
        parts = [exact, tie, np.nextafter(tie, exact), np.nextafter(tie, above)]
        generator = np.random.default_rng(0)
        parts.append(
            generator.standard_normal(100_000) * 2.0 ** generator.uniform(-30, 20, 100_000)
        )
        parts.append([1e-40, 1e300, -1e300, 65519.9, 65520.0, 3.4e38, 2.0**-25, 2.0**-24, 1e-300])
        values = np.concatenate([np.asarray(part).astype(wide) for part in parts])
        values = np.concatenate([values, -values])
        expected = values.astype(narrow)
        if source == "double" and target == "bfloat":
            expected = rounded_once(values)
    assert same(convert(values, source, target, narrow), expected)


def rounded_once(values: np.ndarray) -> np.ndarray:
    """float64 to bfloat16 with one rounding (ml_dtypes goes through float32)."""
    narrow = values.astype(ml_dtypes.bfloat16)
    bits = narrow.view(np.uint16).astype(np.int64)
    # of the two or three neighbours the nearest, and of two equally near ones the even
    candidates = np.stack([np.clip(bits + step, 0, 65535) for step in (0, -1, 1)]).astype(np.uint16)
    near = candidates.view(ml_dtypes.bfloat16).astype(np.float64)
    limit = 2.0**128  # what infinity stands for when rounding
    distance = np.abs(np.where(np.isinf(near), np.sign(near) * limit, near) - values)
    distance = np.where(np.isnan(distance), np.inf, distance)
    same_sign = (candidates ^ candidates[0]) < 0x8000
    distance = np.where(same_sign, distance, np.inf)
    order = np.lexsort((candidates & 1, distance), axis=0)[0]
    best = np.take_along_axis(candidates, order[None], 0)[0].view(ml_dtypes.bfloat16)
    special = ~np.isfinite(values) | (np.abs(values) >= limit)
    return np.where(special, narrow, best)


@pytest.mark.parametrize(("source", "target"), list(NAME))
def test_conversions_link_whatever_the_processor_has(source, target):
    operation = "fpext" if target == "float" else "fptrunc"
    text = f"""
define void @f(ptr %x, ptr %y) {{
  %v = load {source}, ptr %x
  %w = {operation} {source} %v to {target}
  store {target} %w, ptr %y
  ret void
}}
"""
    source_type, target_type = ({**HALF, **WIDE}[kind] for kind in (source, target))
    x, y = np.array([1.0009765625], source_type), np.zeros(1, target_type)
    library = jit.load(text)
    library.function("f", None, ctypes.c_void_p, ctypes.c_void_p)(x.ctypes.data, y.ctypes.data)
    assert y[0] == x.astype(target_type)[0]
