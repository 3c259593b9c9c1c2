"""Scatter: values put, added, .. at integer places of the leading dimensions, in index order.

One unit of parallel work is a stretch of the trailing (not indexed) dimensions, over which every
index is walked in order: no two threads touch one element, so results never depend on threads. With
no trailing dimensions the walk is serial.

The table: 0 address of the error word, 1 error code, 2 destination, 3 values, 4 number of indices,
5 length of the trailing dimensions, 6 units, 7 grain, then for each indexed dimension the address
of its indices (i64, contiguous), its size and its stride in elements.
"""

from __future__ import annotations

STRETCH = 64
_LANES = 16
_ELEMENT = {
    "float32": "float",
    "float64": "double",
    "bfloat16": "bfloat",
    "float16": "half",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint8": "i8",
    "uint16": "i16",
    "uint32": "i32",
    "uint64": "i64",
    "bool": "i8",
}
_SIZE = {"float": 4, "double": 8, "bfloat": 2, "half": 2, "i64": 8, "i32": 4, "i16": 2, "i8": 1}
_MANGLED = {"float": "f32", "double": "f64"}
_NARROW = ("bfloat", "half")  # computed with as float
_OF_BOOLS = {"add": "or", "mul": "and", "max": "or", "min": "and"}
MODES = ("set", "add", "mul", "max", "min")


def supported(dtype_name: str, mode: str) -> bool:
    """Whether there is a kernel for a dtype and mode."""
    return dtype_name in _ELEMENT and mode in MODES


def name(dtype_name: str, mode: str, count: int) -> str:
    """The kernel's symbol."""
    return f"fl_scatter_{mode}_{dtype_name}_{count}"


def _combine(dtype_name: str, mode: str, lanes: int) -> tuple[str, str]:
    """-> (declaration, instructions making %r from %o (old) and %x (value))."""
    if mode == "set":
        return "", ""
    element = _ELEMENT[dtype_name]
    vector = lambda e: e if lanes == 1 else f"<{lanes} x {e}>"
    old, value, result = f"%o{lanes}", f"%x{lanes}", f"%r{lanes}"
    if element in _NARROW:
        kind, stored = vector("float"), vector(element)
        declared, text = _combine("float32", mode, lanes)
        for name in (old, value, result):  # the names of the float32 form
            text = text.replace(name, f"{name}w")
        before = "".join(f" {n}w = fpext {stored} {n} to {kind}\n" for n in (old, value))
        return declared, f"{before}{text} {result} = fptrunc {kind} {result}w to {stored}\n"
    kind, real = vector(element), element in _MANGLED
    if dtype_name == "bool":
        return "", f" {result} = {_OF_BOOLS[mode]} {kind} {old}, {value}\n"
    if mode in ("add", "mul"):
        return "", f" {result} = {'f' if real else ''}{mode} {kind} {old}, {value}\n"
    if real:
        function = "maximum" if mode == "max" else "minimum"
    else:
        function = ("u" if dtype_name.startswith("u") else "s") + mode
    short = _MANGLED.get(element, element)
    full = f"@llvm.{function}.{short if lanes == 1 else f'v{lanes}{short}'}"
    declared = f"declare {kind} {full}({kind}, {kind})\n"
    return declared, f" {result} = call {kind} {full}({kind} {old}, {kind} {value})\n"


def _step(dtype_name: str, mode: str, lanes: int, at: str) -> str:
    """Combine `lanes` elements at offset `at` of both rows."""
    element = _ELEMENT[dtype_name]
    size = _SIZE[element]
    kind = element if lanes == 1 else f"<{lanes} x {element}>"
    text = (
        f" %s{lanes} = getelementptr {element}, ptr %vrow, i64 {at}\n"
        f" %d{lanes} = getelementptr {element}, ptr %drow, i64 {at}\n"
        f" %x{lanes} = load {kind}, ptr %s{lanes}, align {size}\n"
    )
    result = f"%x{lanes}"
    if mode != "set":
        text += f" %o{lanes} = load {kind}, ptr %d{lanes}, align {size}\n"
        text += _combine(dtype_name, mode, lanes)[1]
        result = f"%r{lanes}"
    return text + f" store {kind} {result}, ptr %d{lanes}, align {size}\n"


def module_text(dtype_name: str, mode: str, count: int) -> str:
    """LLVM IR of the kernel for `count` indexed dimensions."""
    element = _ELEMENT[dtype_name]
    symbol = name(dtype_name, mode, count)
    words = 8 + 3 * count
    loads = ""
    for k in range(words):
        kind = "ptr" if k in (0, 2, 3) or (k >= 8 and (k - 8) % 3 == 0) else "i64"
        loads += (
            f" %t{k} = getelementptr i64, ptr %table, i64 {k}\n %w{k} = load {kind}, ptr %t{k}\n"
        )
    places = ""
    offset, bad = "0", "false"
    for j in range(count):
        a, size, stride = 8 + 3 * j, 9 + 3 * j, 10 + 3 * j
        places += (
            f" %ip{j} = getelementptr i64, ptr %w{a}, i64 %p\n"
            f" %ix{j} = load i64, ptr %ip{j}\n"
            f" %out{j} = icmp uge i64 %ix{j}, %w{size}\n"
            f" %bad{j} = or i1 {bad}, %out{j}\n"
            f" %m{j} = mul i64 %ix{j}, %w{stride}\n"
            f" %off{j} = add i64 {offset}, %m{j}\n"
        )
        offset, bad = f"%off{j}", f"%bad{j}"
    needed = {_combine(dtype_name, mode, n)[0] for n in (1, _LANES)}
    declared = "".join(sorted(needed | {"declare i64 @llvm.smin.i64(i64, i64)\n"}))
    return f"""{declared}declare void @fl_parallel_for(ptr, ptr, i64, i64)
define void @{symbol}(ptr %table) {{
 %pu = getelementptr i64, ptr %table, i64 6
 %u = load i64, ptr %pu
 %pg = getelementptr i64, ptr %table, i64 7
 %g = load i64, ptr %pg
 call void @fl_parallel_for(ptr @{symbol}_body, ptr %table, i64 %u, i64 %g)
 ret void
}}
define internal void @{symbol}_body(ptr %table, i64 %begin, i64 %end, i64 %worker) {{
entry:
{loads} %first = mul i64 %begin, {STRETCH}
 %last0 = mul i64 %end, {STRETCH}
 %last = call i64 @llvm.smin.i64(i64 %last0, i64 %w5)
 %length = sub i64 %last, %first
 %wide = and i64 %length, -{_LANES}
 br label %head
head:
 %p = phi i64 [0, %entry], [%p1, %next]
 %go = icmp slt i64 %p, %w4
 br i1 %go, label %body, label %done
body:
{places} br i1 {bad}, label %report, label %fine
report:
 store i64 %w1, ptr %w0
 br label %next
fine:
 %dplace = add i64 {offset}, %first
 %drow = getelementptr {element}, ptr %w2, i64 %dplace
 %vstart = mul i64 %p, %w5
 %vplace = add i64 %vstart, %first
 %vrow = getelementptr {element}, ptr %w3, i64 %vplace
 br label %vhead
vhead:
 %i = phi i64 [0, %fine], [%i1, %vbody]
 %vgo = icmp slt i64 %i, %wide
 br i1 %vgo, label %vbody, label %shead
vbody:
{_step(dtype_name, mode, _LANES, "%i")} %i1 = add i64 %i, {_LANES}
 br label %vhead
shead:
 %k = phi i64 [%wide, %vhead], [%k1, %sbody]
 %sgo = icmp slt i64 %k, %length
 br i1 %sgo, label %sbody, label %next
sbody:
{_step(dtype_name, mode, 1, "%k")} %k1 = add i64 %k, 1
 br label %shead
next:
 %p1 = add i64 %p, 1
 br label %head
done:
 ret void
}}
"""
