"""Images and operands of convolutions brought into the order their products read, as LLVM IR text.

`fill` turns (channel, place) into (place, channel) in registers, with zeros around an image;
`copy_planes` copies planes with zeros around them. Both widen 16-bit elements, or join two of
bfloat16 to a slot that counts as one: of two channels, or of two images.
"""

from __future__ import annotations

from flambeau.kernels.convolution_tiles import TASK, Words
from flambeau.kernels.emit import Function, Value
from flambeau.kernels.gemm_micro import (
    Form,
    load_some,
    load_stored,
    store_some,
    widen,
)
from flambeau.kernels.gemm_pack import join_pairs, transpose

FILL = (
    "source", "target", "groups", "supers", "channels", "s_image", "s_group", "s_channel", "s0",
    "s1", "s2", "t_image", "t_group", "t_super", "t0", "t1", "t2", "size0", "size1",
    "size2", "before0", "before1", "before2", "padded0", "padded1", "padded2", "mate", "units",
    "grain",
)  # fmt: skip
"""Words of `fill`. Addresses; groups, panels of NR channels in a group, channels of a group; steps
in elements along images, groups, channels and three dimensions of the source; steps of the target
along images, groups, panels and dimensions; sizes copied, zeros before them, sizes with all zeros;
elements from the first half of a pair to the second, 0 where that is 0.
"""

COPY = (
    "source", "target", "channels", "s_image", "s_channel", "s0", "s1", "s2", "t_image",
    "t_channel", "size0", "size1", "size2", "before0", "before1", "before2", "padded0", "padded1",
    "padded2", "mate", "units", "grain",
)  # fmt: skip
"""Words of `copy_planes`, as above; a plane of the target is contiguous."""


def fill(form: Form) -> str:
    """Task: units [begin, end) of (image, group, panel of channels)."""
    f = Function("convolution_fill", TASK, "void", "nounwind noinline")
    t = Words(f, FILL)
    v = {name: t[name] for name in FILL}
    size = form.stored_size
    with f.loop("%end", start="%begin") as unit:
        panel = f.urem(unit.index, v["supers"])
        rest = f.udiv(unit.index, v["supers"])
        group, image = f.urem(rest, v["groups"]), f.udiv(rest, v["groups"])
        source: Value = f.add(f.mul(image, v["s_image"]), f.mul(group, v["s_group"]))
        source = f.add(source, f.mul(f.mul(panel, form.nr), v["s_channel"]))
        target: Value = f.add(f.mul(image, v["t_image"]), f.mul(group, v["t_group"]))
        target = f.add(target, f.mul(panel, v["t_super"]))
        whole = f.sub(v["channels"], f.mul(panel, form.nr))
        with f.loop(f.min(form.nr, whole), step=form.vl) as block:
            count = f.min(form.vl, f.sub(whole, block.index))
            start = f.add(source, f.mul(block.index, v["s_channel"]))
            start = f.add(v["source"], f.mul(start, size))
            stop = f.add(v["target"], f.mul(f.add(target, block.index), form.acc_size))
            with f.loop(v["padded0"]) as x0, f.loop(v["padded1"]) as x1:
                d0, d1 = f.sub(x0.index, v["before0"]), f.sub(x1.index, v["before1"])
                row = f.add(f.mul(x0.index, v["t0"]), f.mul(x1.index, v["t1"]))
                row = _pointer(f, f.add(stop, f.mul(row, form.acc_size)))
                inside = f.both(f.cmp("ult", d0, v["size0"]), f.cmp("ult", d1, v["size1"]))
                before = f.select(inside, v["before2"], v["padded2"])
                f.do(
                    f"call void @zeros(ptr {row}, i64 0, i64 {before}, i64 {v['t2']}, i64 {count})"
                )
                with f.when(inside):
                    place = f.add(f.mul(d0, v["s0"]), f.mul(d1, v["s1"]))
                    place = _pointer(f, f.add(start, f.mul(place, size)))
                    to = f.gep(form.acc, row, f.mul(v["before2"], v["t2"]))
                    f.do(
                        f"call void @turn(ptr {place}, i64 {v['s_channel']}, i64 {v['s2']}, "
                        f"i64 {count}, i64 {v['size2']}, ptr {to}, i64 {v['t2']}, "
                        f"i64 {v['mate']})"
                    )
                    after = f.add(v["before2"], v["size2"])
                    f.do(
                        f"call void @zeros(ptr {row}, i64 {after}, i64 {v['padded2']}, "
                        f"i64 {v['t2']}, i64 {count})"
                    )
    f.ret()
    return _zeros(form) + _turn(form) + f.text()


def _pointer(f: Function, word: Value) -> str:
    return f.op(f"inttoptr i64 {word} to ptr")


def _zeros(form: Form) -> str:
    """void zeros(row, from, to, step, count): `count` zero channels at places [from, to)."""
    params = [("ptr", "row"), ("i64", "from"), ("i64", "to"), ("i64", "step"), ("i64", "count")]
    f = Function("zeros", params)
    with f.loop("%to", start="%from") as place:
        address = f.gep(form.acc, "%row", f.mul(place.index, "%step"))
        store_some(f, form, form.acc, "zeroinitializer", address, "%count")
    f.ret()
    return f.text()


def _turn(form: Form) -> str:
    """void turn(source, channel, step, count, n, target, out, mate): one row of places.

    The function's parameters: source, elements from one channel to the next and from one place to
    the next, channels (<= VL), places, target, elements between places there, elements from the
    first half of a pair to the second.
    """
    params = [
        ("ptr", "source"), ("i64", "channel"), ("i64", "step"), ("i64", "count"), ("i64", "n"),
        ("ptr", "target"), ("i64", "out"), ("i64", "mate"),
    ]  # fmt: skip
    f = Function("turn", params, "void", "nounwind noinline")
    vl, stored = form.vl, form.stored

    def target(place: Value) -> str:
        return f.gep(form.acc, "%target", f.mul(place, "%out"))

    with f.when(f.cmp("eq", "%step", 1)):
        # A missing channel is read as the first and not stored.
        offsets = [
            f.select(f.cmp("slt", row, "%count"), f.mul(row, "%channel"), 0) for row in range(vl)
        ]
        with f.loop("%n", step=vl) as block:
            many = f.min(vl, f.sub("%n", block.index))
            start = f.gep(stored, "%source", block.index)
            rows = [_some(f, form, f.gep(stored, start, o), many) for o in offsets]
            for place, value in enumerate(transpose(f, form.acc, rows, 16 // form.acc_size)):
                with f.when(f.cmp("slt", place, many)):
                    address = target(f.add(block.index, place))
                    store_some(f, form, form.acc, value, address, "%count")
        f.ret()
    with f.loop("%n") as one:
        address = target(one.index)
        start = f.gep(stored, "%source", f.mul(one.index, "%step"))
        with f.loop("%count") as lane:
            source = f.gep(stored, start, f.mul(lane.index, "%channel"))
            _copy_one(f, form, source, f.gep(form.acc, address, lane.index))
    f.ret()
    return f.text()


def copy_planes(form: Form) -> str:
    """Task: units [begin, end) of (image, channel)."""
    f = Function("convolution_copy", TASK, "void", "nounwind noinline")
    t = Words(f, COPY)
    v = {name: t[name] for name in COPY}
    acc, size = form.acc, form.acc_size
    with f.loop("%end", start="%begin") as unit:
        channel, image = f.urem(unit.index, v["channels"]), f.udiv(unit.index, v["channels"])
        source: Value = f.add(f.mul(image, v["s_image"]), f.mul(channel, v["s_channel"]))
        target: Value = f.add(f.mul(image, v["t_image"]), f.mul(channel, v["t_channel"]))
        target = f.add(v["target"], f.mul(target, size))
        with f.loop(v["padded0"]) as x0, f.loop(v["padded1"]) as x1:
            d0, d1 = f.sub(x0.index, v["before0"]), f.sub(x1.index, v["before1"])
            row = f.add(f.mul(x0.index, v["padded1"]), x1.index)
            row = _pointer(f, f.add(target, f.mul(f.mul(row, v["padded2"]), size)))
            inside = f.both(f.cmp("ult", d0, v["size0"]), f.cmp("ult", d1, v["size1"]))
            before = f.select(inside, v["before2"], v["padded2"])
            f.do(f"call void @clear(ptr {row}, i64 0, i64 {before})")
            with f.when(inside):
                place = f.add(f.mul(d0, v["s0"]), f.mul(d1, v["s1"]))
                place = f.mul(f.add(source, place), form.stored_size)
                place = _pointer(f, f.add(v["source"], place))
                to = f.gep(acc, row, v["before2"])
                f.do(
                    f"call void @copy_row(ptr {place}, i64 {v['s2']}, i64 {v['size2']}, ptr {to}, "
                    f"i64 {v['mate']})"
                )
                after = f.add(v["before2"], v["size2"])
                f.do(f"call void @clear(ptr {row}, i64 {after}, i64 {v['padded2']})")
    f.ret()
    return _clear(form) + _copy_row(form) + f.text()


def _clear(form: Form) -> str:
    """void clear(row, from, to): zeros."""
    f = Function("clear", [("ptr", "row"), ("i64", "from"), ("i64", "to")])
    with f.loop("%to", start="%from", step=form.vl) as block:
        many = f.min(form.vl, f.sub("%to", block.index))
        address = f.gep(form.acc, "%row", block.index)
        store_some(f, form, form.acc, "zeroinitializer", address, many)
    f.ret()
    return f.text()


def _copy_row(form: Form) -> str:
    """void copy_row(source, step, n, target, mate): n elements, contiguous in the target."""
    params = [
        ("ptr", "source"), ("i64", "step"), ("i64", "n"), ("ptr", "target"), ("i64", "mate")
    ]  # fmt: skip
    f = Function("copy_row", params)
    with f.when(f.cmp("eq", "%step", 1)):
        with f.loop("%n", step=form.vl) as block:
            many = f.min(form.vl, f.sub("%n", block.index))
            value = _some(f, form, f.gep(form.stored, "%source", block.index), many)
            store_some(f, form, form.acc, value, f.gep(form.acc, "%target", block.index), many)
        f.ret()
    with f.loop("%n") as place:
        address = f.gep(form.stored, "%source", f.mul(place.index, "%step"))
        _copy_one(f, form, address, f.gep(form.acc, "%target", place.index))
    f.ret()
    return f.text()


def _some(f: Function, form: Form, place: str, count: Value) -> str:
    """The first `count` of vl slots at `place`, in accumulators' bits."""
    row = load_some(f, form, form.stored, place, count)
    if not form.pairs:
        return widen(f, form, row, form.vl)
    mates = load_some(f, form, form.stored, f.gep(form.stored, place, "%mate"), count)
    mates = f.select(f.cmp("eq", "%mate", 0), "zeroinitializer", mates, f"<{form.vl} x i16>")
    return f.op(f"bitcast <{form.vl} x i32> {join_pairs(f, form.vl, row, mates)} to {form.vec}")


def _copy_one(f: Function, form: Form, place: str, to: str) -> None:
    """One slot."""
    if form.pairs:
        low, high = (f.load("i16", x, 2) for x in (place, f.gep("i16", place, "%mate")))
        high = f.select(f.cmp("eq", "%mate", 0), 0, high, "i16")
        f.store("i32", join_pairs(f, 1, low, high), to, 4)
    else:
        f.store(form.acc, load_stored(f, form, place, 1), to, form.acc_size)
