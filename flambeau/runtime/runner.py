"""The native loops that run a program's steps: fill in addresses and numbers, call kernels.

`fl_run_timed` is the loop of a profile: it notes the time before the first step and after each.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from flambeau.runtime import jit

_IR = """
define void @fl_patch(ptr %words, i64 %count, ptr %table, ptr %values) {
entry:
 %any = icmp sgt i64 %count, 0
 br i1 %any, label %loop, label %done
loop:
 %i = phi i64 [0, %entry], [%i1, %loop]
 %at = mul i64 %i, 3
 %p = getelementptr i64, ptr %words, i64 %at
 %where = load i64, ptr %p
 %q = getelementptr i64, ptr %p, i64 1
 %which = load i64, ptr %q
 %r = getelementptr i64, ptr %p, i64 2
 %offset = load i64, ptr %r
 %own = icmp slt i64 %which, 0
 %index = select i1 %own, i64 0, i64 %which
 %v = getelementptr i64, ptr %values, i64 %index
 %value = load i64, ptr %v
 %start = ptrtoint ptr %table to i64
 %base = select i1 %own, i64 %start, i64 %value
 %sum = add i64 %base, %offset
 %t = getelementptr i64, ptr %table, i64 %where
 store i64 %sum, ptr %t
 %i1 = add i64 %i, 1
 %more = icmp slt i64 %i1, %count
 br i1 %more, label %loop, label %done
done:
 ret void
}

define i64 @fl_run(ptr %steps, i64 %first, i64 %last, ptr %error) {
entry:
 br label %head
head:
 %i = phi i64 [%first, %entry], [%i1, %next]
 %go = icmp slt i64 %i, %last
 br i1 %go, label %body, label %done
body:
 %at = mul i64 %i, 2
 %p = getelementptr i64, ptr %steps, i64 %at
 %fn = load ptr, ptr %p
 %q = getelementptr i64, ptr %p, i64 1
 %table = load ptr, ptr %q
 call void %fn(ptr %table)
 %e = load volatile i64, ptr %error
 %bad = icmp ne i64 %e, 0
 br i1 %bad, label %done, label %next
next:
 %i1 = add i64 %i, 1
 br label %head
done:
 ret i64 %i
}
"""

#: What a program without host calls is started by, in one call: name -> type.
WHOLE = {"patches": "ptr", "n_patches": "i64", "table": "ptr", "kernels": "ptr", "end": "i64"}

#: The words of a scan's table before its slots (`runtime.stepping.Stage`): name -> type.
LOOP = {
    "steps": "i64",
    "error": "ptr",
    "code": "i64",
    "patches": "ptr",
    "n_patches": "i64",
    "table": "ptr",
    "values": "ptr",
    "kernels": "ptr",
    "begin": "i64",
    "end": "i64",
    "slots": "i64",
    "gate": "ptr",
    "wanted": "i64",
    "taken": "ptr",
}
#: The words of a slot (`runtime.stepping.Slot`).
SLOT = dict.fromkeys(("last", "base", "first", "each", "mask", "stride"), "i64")


def _loads(words: dict[str, str], at: str) -> str:
    """Registers with the words that stand at an address, by their names."""
    lines = []
    for k, (name, kind) in enumerate(words.items()):
        lines.append(f" %{name}.at = getelementptr i64, ptr {at}, i64 {k}")
        lines.append(f" %{name} = load {kind}, ptr %{name}.at")
    return "\n".join(lines)


_WHOLE_IR = f"""
define i64 @fl_whole(ptr %t, ptr %values) {{
entry:
{_loads(WHOLE, "%t")}
 store i64 0, ptr %table
 call void @fl_patch(ptr %patches, i64 %n_patches, ptr %table, ptr %values)
 %ran = call i64 @fl_run(ptr %kernels, i64 0, i64 %end, ptr %table)
 ret i64 %ran
}}
"""

_REPEAT_IR = f"""
define void @fl_repeat(ptr %t) {{
entry:
{_loads(LOOP, "%t")}
 %words = getelementptr i64, ptr %t, i64 {len(LOOP)}
 %final = sub i64 %steps, 1
 store i64 0, ptr %table
 br label %head
head:
 %i = phi i64 [0, %entry], [%i1, %next]
 %go = icmp slt i64 %i, %steps
 br i1 %go, label %ask, label %done
ask:
 %gated = icmp ne ptr %gate, null
 br i1 %gated, label %look, label %fill
look:
 %byte = load volatile i8, ptr %gate
 %bit = and i8 %byte, 1
 %found = zext i8 %bit to i64
 %open = icmp eq i64 %found, %wanted
 br i1 %open, label %fill, label %done
fill:
 %s = phi i64 [0, %ask], [0, %look], [%s1, %fill]
 %at = mul i64 %s, {len(SLOT)}
 %w = getelementptr i64, ptr %words, i64 %at
{_loads(SLOT, "%w")}
 %moved = mul i64 %each, %i
 %place = add i64 %first, %moved
 %number = and i64 %place, %mask
 %offset = mul i64 %number, %stride
 %plain = add i64 %base, %offset
 %isfinal = icmp eq i64 %i, %final
 %some = icmp ne i64 %last, 0
 %there = and i1 %isfinal, %some
 %value = select i1 %there, i64 %last, i64 %plain
 %to = getelementptr i64, ptr %values, i64 %s
 store i64 %value, ptr %to
 %s1 = add i64 %s, 1
 %more = icmp slt i64 %s1, %slots
 br i1 %more, label %fill, label %run
run:
 call void @fl_patch(ptr %patches, i64 %n_patches, ptr %table, ptr %values)
 %ran = call i64 @fl_run(ptr %kernels, i64 %begin, i64 %end, ptr %table)
 %bad = icmp slt i64 %ran, %end
 br i1 %bad, label %fail, label %next
next:
 %i1 = add i64 %i, 1
 br label %head
fail:
 store i64 %code, ptr %error
 br label %done
done:
 %counts = icmp ne ptr %taken, null
 br i1 %counts, label %count, label %out
count:
 store i64 %i, ptr %taken
 br label %out
out:
 ret void
}}
"""


_TIMED_IR = """
declare i64 @fl_now()

define i64 @fl_run_timed(ptr %steps, i64 %first, i64 %last, ptr %error, ptr %times) {
entry:
 %t0 = call i64 @fl_now()
 store i64 %t0, ptr %times
 br label %head
head:
 %i = phi i64 [%first, %entry], [%i1, %next]
 %go = icmp slt i64 %i, %last
 br i1 %go, label %body, label %done
body:
 %at = mul i64 %i, 2
 %p = getelementptr i64, ptr %steps, i64 %at
 %fn = load ptr, ptr %p
 %q = getelementptr i64, ptr %p, i64 1
 %table = load ptr, ptr %q
 call void %fn(ptr %table)
 %t = call i64 @fl_now()
 %ran = sub i64 %i, %first
 %slot = add i64 %ran, 1
 %w = getelementptr i64, ptr %times, i64 %slot
 store i64 %t, ptr %w
 %e = load volatile i64, ptr %error
 %bad = icmp ne i64 %e, 0
 br i1 %bad, label %done, label %next
next:
 %i1 = add i64 %i, 1
 br label %head
done:
 ret i64 %i
}
"""


@functools.cache
def functions() -> tuple[Any, Callable[..., None], Callable[..., int], Callable[..., int]]:
    """-> (the library, patch(words, count, table, values), run(steps, first, last, error),
    whole(the words of `WHOLE`, values))."""
    library = jit.load(_IR + _WHOLE_IR + _REPEAT_IR, "runner")
    pointer = ctypes.c_void_p
    patch = library.function("fl_patch", None, pointer, ctypes.c_int64, pointer, pointer)
    run = library.function(
        "fl_run", ctypes.c_int64, pointer, ctypes.c_int64, ctypes.c_int64, pointer
    )
    whole = library.function("fl_whole", ctypes.c_int64, pointer, pointer)
    return library, patch, run, whole


@functools.cache
def timed() -> tuple[Any, Callable[..., int]]:
    """-> (the library, run(steps, first, last, error, times)), times in ns by `profile.clock`."""
    library = jit.load(_TIMED_IR, "timed runner")
    pointer, word = ctypes.c_void_p, ctypes.c_int64
    return library, library.function("fl_run_timed", word, pointer, word, word, pointer, pointer)
