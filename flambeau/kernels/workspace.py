"""Scratch memory that native kernels borrow: a lock-free shelf of equally large blocks, as LLVM IR
text.

A block is taken from the shelf for the time of one task and put back, so there are never more
blocks than tasks that ran at the same time, whichever threads they ran on; nothing is allocated
once the shelf holds as many. Blocks are aligned to huge pages where that helps (packed panels are
read at a stride that would otherwise miss the TLB).
"""

from __future__ import annotations

import sys

from flambeau.kernels.emit import Function

PLACES = 64
"""Blocks a shelf keeps; more than that at the same time are allocated and freed."""

HUGE = 1 << 21


def workspace(name: str, size: int) -> str:
    """Functions `ptr take_<name>()` and `void give_<name>(ptr)` over blocks of `size` bytes.

    Args:
        name: suffix of the symbols.
        size: bytes of a block.

    Returns: LLVM IR text; needs `workspace_declarations()` once in the module.
    """
    shelf = f"@shelf_{name} = internal global [{PLACES} x i64] zeroinitializer, align 64\n"
    take = Function(f"take_{name}", [], "ptr", "nounwind noinline")
    with take.loop(PLACES, nonempty=True) as loop:
        place = take.gep("i64", f"@shelf_{name}", loop.index)
        seen = take.op(f"load atomic i64, ptr {place} monotonic, align 8")
        with take.when(take.cmp("ne", seen, 0)):
            block = take.op(f"atomicrmw xchg ptr {place}, i64 0 acquire")
            with take.when(take.cmp("ne", block, 0)):
                take.ret(f"ptr {take.op(f'inttoptr i64 {block} to ptr')}")
    huge = size >= HUGE // 8
    align = HUGE if huge else 4096
    room = -(-size // align) * align
    raw = take.op(f"call ptr @malloc(i64 {room + align + 64})")
    address = take.op(f"ptrtoint ptr {raw} to i64")
    # At least 8 bytes below the aligned block remember the address that free() wants.
    aligned = take.op(f"and i64 {take.add(address, align + 7)}, {-align}")
    block = take.op(f"inttoptr i64 {aligned} to ptr")
    take.store("i64", address, take.gep("i8", block, -8), 8)
    if huge and sys.platform == "linux":
        take.do(f"call i32 @madvise(ptr {block}, i64 {room}, i32 14)")  # MADV_HUGEPAGE
    take.ret(f"ptr {block}")
    give = Function(f"give_{name}", [("ptr", "block")], "void", "nounwind noinline")
    value = give.op("ptrtoint ptr %block to i64")
    with give.loop(PLACES, nonempty=True) as loop:
        place = give.gep("i64", f"@shelf_{name}", loop.index)
        swap = give.op(f"cmpxchg ptr {place}, i64 0, i64 {value} release monotonic")
        with give.when(give.op(f"extractvalue {{i64, i1}} {swap}, 1")):
            give.ret()
    raw = give.op(f"inttoptr i64 {give.load('i64', give.gep('i8', '%block', -8), 8)} to ptr")
    give.do(f"call void @free(ptr {raw})")
    give.ret()
    return shelf + take.text() + give.text()


def workspace_declarations() -> str:
    """What `workspace` calls."""
    text = "declare ptr @malloc(i64)\ndeclare void @free(ptr)\n"
    return text + ("declare i32 @madvise(ptr, i64, i32)\n" if sys.platform == "linux" else "")
