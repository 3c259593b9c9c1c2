"""Speed and error of the vector functions beside torch and NumPy, on one thread.

    python -m bench.kernels_vecmath                      all functions
    python -m bench.kernels_vecmath exp tanh --dtype f32

Arrays of half a megabyte (input and output together) stay in the second-level cache. Times are CPU
nanoseconds an element, the least of several rounds in which the contenders take turns. Errors are
the greatest seen in the timed array, in units in the last place, against NumPy's next wider format
(or SciPy's f64); '-' where there is no such reference or the contender lacks the function.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable
from time import process_time_ns
from typing import Any

import numpy as np
import scipy.special

from flambeau.codegen import vecmath
from flambeau.runtime import jit

try:
    import torch
except ImportError:
    torch = None

BYTES = 1 << 18
ROUNDS, CALLS = 9, 20
NUMPY: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
IN_NUMPY = {"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "asin": "arcsin"}
IN_NUMPY |= {"acos": "arccos", "atan": "arctan", "atan2": "arctan2", "pow": "power"}
IN_SCIPY = {"sigmoid": "expit", "lgamma": "gammaln", "digamma": "psi"}
IN_SCIPY |= {name: name for name in ("erf", "erfc", "erfinv")}
POSITIVE = {"log", "log2", "log10", "log1p", "pow", "acosh", "lgamma", "digamma"}
BOUNDED = {"asin", "acos", "atanh", "erfinv"}

Run = Callable[[], object]


def operands(name: str, dtype: str) -> list[np.ndarray]:
    """Arguments from the middle of the function's domain."""
    rng = np.random.default_rng(0)
    x: Any = rng.uniform(0.05, 0.95, BYTES // NUMPY[dtype].itemsize)
    x = x if name in BOUNDED else 4 * x
    x = 1 + x if name == "acosh" else x
    x = x if name in POSITIVE else x * rng.choice([-1, 1], len(x))
    y = rng.permutation(x)
    return [v.astype(NUMPY[dtype]) for v in (x, y)[: vecmath.NAMES[name]]]


def numpy_function(name: str) -> Callable[..., np.ndarray]:
    """The function of NumPy, or of SciPy where NumPy has none."""
    if name in IN_SCIPY:
        return getattr(scipy.special, IN_SCIPY[name])
    return getattr(np, IN_NUMPY.get(name, name))


def contenders(
    name: str, library: jit.Library, x: list[np.ndarray]
) -> dict[str, tuple[Run, np.ndarray]]:
    """Each contender's call and the array it writes."""
    kernel = library.function("fl_apply", None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    own, from_numpy, from_torch = (np.empty_like(x[0]) for _ in range(3))
    arguments = (own.ctypes.data, x[0].ctypes.data, x[-1].ctypes.data, len(own))
    function = numpy_function(name)
    runs: dict[str, tuple[Run, np.ndarray]] = {
        "flambeau": (lambda: kernel(*arguments), own),
        "numpy": (lambda: function(*x, out=from_numpy), from_numpy),
    }
    if torch is not None:
        tensors, out = [torch.from_numpy(v) for v in x], torch.from_numpy(from_torch)
        peer = getattr(torch, name)
        runs["torch"] = (lambda: peer(*tensors, out=out), from_torch)
    return runs


def error_in_ulps(name: str, dtype: str, x: list[np.ndarray], got: np.ndarray) -> float | None:
    """The greatest error of `got`, None without a reference of more precision."""
    if dtype == "f64" and (name in IN_SCIPY or np.finfo(np.longdouble).nmant < 63):
        return None
    wide: Any = np.float64 if dtype == "f32" else np.longdouble
    wanted = numpy_function(name)(*(v.astype(wide) for v in x))
    unit = np.spacing(np.abs(wanted.astype(NUMPY[dtype]))).astype(wide)
    return float(np.max(np.abs(got.astype(wide) - wanted) / unit))


def measure(name: str, dtype: str) -> dict[str, tuple[float, float | None]]:
    """Nanoseconds an element and error of every contender."""
    x = operands(name, dtype)
    # The code lives as long as its Library.
    library = jit.load(vecmath.loop_module(name, dtype, {"f32": 16, "f64": 8}[dtype]))
    runs = contenders(name, library, x)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for who, (run, _) in runs.items():
            start = process_time_ns()
            for _ in range(CALLS):
                run()
            best[who] = min(best[who], (process_time_ns() - start) / CALLS / len(x[0]))
    return {who: (best[who], error_in_ulps(name, dtype, x, runs[who][1])) for who in runs}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.kernels_vecmath")
    parser.add_argument("names", nargs="*", choices=[[], *vecmath.NAMES], metavar="NAME")
    parser.add_argument("--dtype", choices=["f32", "f64"], action="append")
    options = parser.parse_args()
    if torch is not None:
        torch.set_num_threads(1)
    print(f"{'':12}{'ns/element':^30}{'ulp':^30}")
    print(f"{'':12}" + 2 * f"{'flambeau':>10}{'torch':>10}{'numpy':>10}")
    for dtype in options.dtype or ["f32", "f64"]:
        for name in options.names or vecmath.NAMES:
            row = measure(name, dtype)
            figures = [row.get(who, (None, None)) for who in ("flambeau", "torch", "numpy")]
            numbers = [f[0] for f in figures] + [f[1] for f in figures]
            cells = "".join(f"{'-':>10}" if v is None else f"{v:10.3f}" for v in numbers)
            print(f"{name:8}{dtype:4}{cells}", flush=True)


if __name__ == "__main__":
    main()
