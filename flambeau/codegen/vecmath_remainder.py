"""The remainder of a division, exact, as vector IR (see `vecmath`).

Where the quotient is below 2^22 (f32; 2^51 in f64) it is rounded to an integer n that is right or
one too large in magnitude, and x - n y is a multiple of the last place of x or of y and smaller
than y, so one fma gives it exactly; adding y back, where n was too large, is exact too. Vectors
with a lane beyond that go to C's fmod, lane by lane.
"""

from __future__ import annotations

from flambeau.codegen.vecmath_builder import ELEMENT, MANTISSA_BITS, Builder, Value


def each_lane_text(b: Builder, name: str) -> str:
    """`frem` of two vectors in memory, lane by lane; the result replaces the first."""
    element = ELEMENT[b.dtype]
    return f"""\
define internal void @{name}(ptr %xs, ptr %ys) noinline cold nounwind {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %px = getelementptr inbounds {element}, ptr %xs, i64 %i
  %py = getelementptr inbounds {element}, ptr %ys, i64 %i
  %x = load {element}, ptr %px
  %y = load {element}, ptr %py
  %r = frem {element} %x, %y
  store {element} %r, ptr %px
  %next = add i64 %i, 1
  %done = icmp eq i64 %next, {b.lanes}
  br i1 %done, label %exit, label %loop
exit:
  ret void
}}
"""


def fmod(b: Builder, x: Value, y: Value) -> Value:
    """x - n y, n the quotient without its fraction: the sign of x, C's fmod."""
    quotient = x / y
    n = b.intrinsic("trunc", quotient)
    rest = b.fnma(n, y, x)
    overshot = (rest * b.copysign(b.const(1.0), x)) < 0.0
    rest = b.select(overshot, rest + b.copysign(y, x), rest)
    rest = b.copysign(b.select(n.equals(0.0), x, rest), x)  # of an infinite y: x
    many = b.abs(quotient) >= 2.0 ** (MANTISSA_BITS[b.dtype] - 1)
    name = f"fl_frem_{b.dtype}_{b.lanes}"
    b.functions[name] = each_lane_text(b, name)
    kind = b.type(b.dtype)
    slots = [b.name(), b.name()]
    # At the head of the function, so that inlining keeps the frame of fixed size.
    b.prologue += [f"  {slot} = alloca {kind}, align 64" for slot in slots]
    b.branch(b.any(many), "many", "merge")
    b.label("many")
    for slot, value in zip(slots, (x, y), strict=True):
        b.lines.append(f"  store {value.typed}, ptr {slot}, align 64")
    b.lines.append(f"  call void @{name}(ptr {slots[0]}, ptr {slots[1]})")
    each = b.emit(f"load {kind}, ptr {slots[0]}, align 64", b.dtype)
    b.jump("merge")
    b.label("merge")
    return b.phi(b.dtype, [(rest, "entry"), (each, "many")])


FUNCTIONS = {"fmod": fmod}
