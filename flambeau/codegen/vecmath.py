"""Vector math as LLVM IR text: elementary and special functions of explicit vectors.

`definitions(wanted)` gives the IR of the functions a kernel needs and `declarations(wanted)` the
LLVM intrinsics they use. Nothing reads a table by lane or depends on fast-math flags: results are
the same bits at every vector length. All functions but sin, cos, tan and fmod are free of branches;
those leave the common path when a lane holds a huge argument or quotient, fmod for the C library.
Contractions are written out as `llvm.fma`, so a processor without that instruction is slow, but
right.

Zeros, infinities and NaN follow C99 annex F (digamma: torch); subnormals are exact like other
numbers, and fmod is exact. Greatest errors seen, in units in the last place: f32 over 8 to 25
million arguments (atan2: 5 million pairs, pow: 16 million; erfinv, lgamma and digamma: 16 to 18
thousand), f64 over a million against a mantissa of 64 bits (erf and those after it: 6 to 32
thousand, against mpmath; pow, atan and atan2: 4 million):

    ======== ===== =====   ======== ===== =====   ======== ===== =====
    function   f32   f64   function   f32   f64   function   f32   f64
    ======== ===== =====   ======== ===== =====   ======== ===== =====
    exp       0.77  0.73   asinh     1.50  1.46   asin      0.67  0.73
    exp2      0.76  0.62   acosh     0.67  0.62   acos      0.78  0.79
    expm1     0.75  0.74   atanh     0.70  0.64   atan      0.51  1.88
    log       0.63  0.58   pow       0.51  0.91   atan2     0.51  1.89
    log2      0.69  0.66   sigmoid   1.50  1.38   erf       0.80  0.87
    log10     0.64  0.60   sin       0.70  0.67   erfc      0.52  1.32
    log1p     0.64  0.60   cos       0.71  0.67   erfinv    0.52  1.32
    tanh      0.63  0.61   tan       0.78  0.74   lgamma    0.52  1.77
    sinh      1.62  1.59                          digamma   0.51  1.72
    cosh      1.34  1.23
    ======== ===== =====   ======== ===== =====   ======== ===== =====

exp and exp2 reach these where the result is subnormal; elsewhere 0.63 and 0.65 (f32).

normal_cdf and normal_pdf, of which products take sums with numbers of about 1, are right to 1.5
machine epsilons, not relatively: that is half the work of what is.

lgamma and digamma left of 0, where they have zeros of no simple form, are right to 3 and 8 (f32:
0.6) machine epsilons times max(1, |result|) instead. Of f32, pow, lgamma, digamma, atan, atan2,
erfc and erfinv compute in f64: the first needs 8 more bits in y log2(x), the next two cancel near
their zeros, and the others are rarely what a program waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

from flambeau.codegen import (
    vecmath_exponential,
    vecmath_remainder,
    vecmath_special,
    vecmath_trigonometric,
)
from flambeau.codegen.vecmath_builder import ELEMENT, Builder, Value

Formula = Callable[..., Value]

FORMULAS: dict[str, Formula] = {
    **vecmath_exponential.FUNCTIONS,
    **vecmath_trigonometric.FUNCTIONS,
    **vecmath_special.FUNCTIONS,
    **vecmath_remainder.FUNCTIONS,
}

BINARY = {"pow", "atan2", "fmod"}

NAMES: dict[str, int] = {name: 2 if name in BINARY else 1 for name in FORMULAS}
"""Name of each function -> the number of its arguments."""

DTYPES = ("f32", "f64")


class Text(NamedTuple):
    """One function: its own text, those it calls by name, and the intrinsics of all of them."""

    own: str
    functions: dict[str, str]
    declarations: frozenset[str]


@cache
def text_of(name: str, dtype: str, lanes: int) -> Text:
    """Builds the IR of one function."""
    if name not in FORMULAS:
        raise ValueError(f"unknown vector function {name!r}; known: {', '.join(sorted(FORMULAS))}")
    if dtype not in DTYPES:
        raise ValueError(f"vector functions have dtype 'f32' or 'f64', got {dtype!r}")
    if lanes < 1:
        raise ValueError(f"lanes must be positive, got {lanes}")
    b = Builder(dtype, lanes)
    parameters = ("x", "y")[: NAMES[name]]
    result = FORMULAS[name](b, *(Value(b, f"%{p}", dtype) for p in parameters))
    own = b.function(f"fl_{name}_{dtype}_{lanes}", parameters, result)
    return Text(own, dict(b.functions), frozenset(b.declarations))


def define(name: str, dtype: str, lanes: int) -> str:
    """IR of the internal function `@fl_{name}_{dtype}_{lanes}` from vectors to a vector.

    Args:
        name: one of `NAMES`.
        dtype: 'f32' or 'f64'.
        lanes: vector length; 1 stands for the scalar type.

    Returns:
        `define internal <lanes x T> @fl_...(<lanes x T> %x[, <lanes x T> %y]) alwaysinline`, after
        the definitions of the functions it calls; see `declarations` for intrinsics. To put several
        functions in one module use `definitions`, which gives each callee once.

    Raises:
        ValueError: unknown name or dtype.
    """
    text = text_of(name, dtype, lanes)
    return "\n".join([*text.functions.values(), text.own])


def declarations(wanted: Iterable[tuple[str, str, int]]) -> set[str]:
    """The `declare` lines of the intrinsics that `definitions(wanted)` calls."""
    return {line for key in wanted for line in text_of(*key).declarations}


def definitions(wanted: Iterable[tuple[str, str, int]]) -> str:
    """The definitions of all (name, dtype, lanes) wanted and of what they call, each once."""
    functions: dict[str, str] = {}
    for key in sorted(set(wanted)):
        text = text_of(*key)
        functions.update(text.functions)
        functions["fl_{}_{}_{}".format(*key)] = text.own
    return "\n".join(functions.values())


def module_functions(wanted: Iterable[tuple[str, str, int]]) -> str:
    """`definitions(wanted)` followed by the declarations they need."""
    keys = list(wanted)
    return definitions(keys) + "\n" + "\n".join(sorted(declarations(keys))) + "\n"


def loop_module(name: str, dtype: str, lanes: int) -> str:
    """A whole module with `void @fl_apply(ptr out, ptr x, ptr y, i64 n)`: the function over arrays.

    n is a multiple of `lanes`; functions of one argument do not read `y`. For tests and benchmarks.
    """
    element = ELEMENT[dtype]
    vector = element if lanes == 1 else f"<{lanes} x {element}>"
    align = 4 if dtype == "f32" else 8
    operands = ("x", "y")[: NAMES[name]]
    loads = "\n".join(
        f"  %p{o} = getelementptr inbounds {element}, ptr %{o}, i64 %i\n"
        f"  %v{o} = load {vector}, ptr %p{o}, align {align}"
        for o in operands
    )
    args = ", ".join(f"{vector} %v{o}" for o in operands)
    return f"""{module_functions([(name, dtype, lanes)])}
define void @fl_apply(ptr noalias %out, ptr noalias %x, ptr noalias %y, i64 %n) {{
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %exit
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{loads}
  %r = call {vector} @fl_{name}_{dtype}_{lanes}({args})
  %po = getelementptr inbounds {element}, ptr %out, i64 %i
  store {vector} %r, ptr %po, align {align}
  %next = add i64 %i, {lanes}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %exit
exit:
  ret void
}}
"""
