"""Convolutions on the CPU: the plan of stages that a convolution is, and the module that runs them.

Note [Convolution as products]
    A convolution, its transpose and its weight's gradient are each a few *stages*: operands are
    brought into order (`convolution_fill.py`), then tiles of products are computed
    (`convolution_tiles.py`). All geometry is decided here, when a program is linked, and written
    into the kernel's table; native code knows neither strides nor padding.

    Inside, channels stand last: an image is held as (N, G, *sizes, C / G), so that one run of
    memory is all channels of a row of kernel places. That is one pass over the image, KH * KW times
    less than `im2col` writes, and the rows of the product are whole multiples of vectors whatever
    the image's width. Results are turned back as they are stored.

    The places of the result fall into *phases* of places whose windows meet the image in the same
    way. A transposed convolution with stride S has S a dimension, one for each remainder, each with
    the kernel places that reach it: no product with an inserted zero is computed. Near the image's
    edges, phases leave out the kernel places that would see padding only; for a 2 x 2 image under a
    3 x 3 kernel these are 5 of 9. Where that does not pay, zeros are put around the image.

    The weight's gradient sums over places. It reads the image by planes, in place where it can, and
    the cotangent with channels last; places whose window has padding under a kernel place are left
    out of that place's sum in the same way.

    A 3 x 3 kernel without steps takes 2.25 times fewer multiplications by minimal filtering, where
    channels are few enough for that to be as accurate: Note [Winograd's convolution].

    In bfloat16 two channels are one slot where the CPU multiplies pairs, for the weight's gradient
    two images: operands are brought into order as pairs, half as many, and nothing else changes. An
    odd channel is joined with 0.

    Images are taken in chunks whose copies stay near `CHUNK` bytes. No decision depends on the
    number of threads, so results are the same bits for any.
"""

from __future__ import annotations

import dataclasses
import math

from flambeau.ir.graph import Node
from flambeau.kernels import convolution_winograd as winograd
from flambeau.kernels.convolution_fill import copy_planes, fill
from flambeau.kernels.convolution_plans import (
    KINDS,
    Convolution,
    WeightGradient,
    Winograd,
    flat_stride,
    numbers_of,
    strides_of,
)
from flambeau.kernels.convolution_tiles import (
    Words,
    micro,
    scratch_bytes,
    store_panel,
    tile_task,
)
from flambeau.kernels.emit import Function
from flambeau.kernels.gemm_micro import Form, declarations
from flambeau.kernels.matmul import form_of
from flambeau.kernels.workspace import workspace, workspace_declarations
from flambeau.ops.convolution import MOST_TAPS
from flambeau.runtime import cpuinfo

DTYPES = {"float32": "f32", "float64": "f64", "bfloat16": "bf16", "float16": "f16"}

DIRECT_PLACES = 64
"""Places from which a convolution of single places is left to the matrix product."""


def convolution_form(dtype: str, features: frozenset[str], pairs: bool = False) -> Form:
    """How tiles are computed: 16-bit elements are widened as they are brought into order, or joined
    to `pairs` of bfloat16 where the CPU multiplies these."""
    form = form_of(dtype, features)
    return dataclasses.replace(form, pairs=pairs and form.pairs)


def in_pairs(node: Node) -> bool:
    """Whether what is summed over comes in pairs that are multiplied together: a convolution's
    channels, the images of a weight's gradient."""
    if node.dtype.name != "bfloat16" or not form_of("bf16", cpuinfo.host_features()).pairs:
        return False
    images, channels = node.src[0].shape[:2]
    if node.op.name == "convolution":
        return channels // int(node.attrs[8]) > 1
    return images % 2 == 0


def symbol(dtype: str, pairs: bool = False) -> str:
    """The name of the kernel for a dtype."""
    return f"fl_convolution_{dtype}{'_pairs' if pairs else ''}"


# -- native code -----------------------------------------------------------------------------------


def module_text(dtype: str, features: frozenset[str], pairs: bool = False) -> str:
    """LLVM IR of the module that defines `fl_convolution_<dtype>(table)`.

    Args:
        dtype: f32, f64, bf16 or f16.
        features: LLVM's names of the CPU's features.
        pairs: for convolutions that are `in_pairs`.
    """
    form = convolution_form(dtype, features, pairs)
    direct = form.acc != "float" or form.pairs
    parts = [
        "declare void @fl_parallel_for(ptr, ptr, i64, i64)\n"
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\n",
        declarations(form),
        workspace_declarations(),
        workspace("tiles", scratch_bytes(form)),
        *(micro(form, nv) for nv in sorted({1, form.nv})),
        store_panel(form),
        tile_task(form),
        fill(form),
        copy_planes(form),
    ]
    if not direct:
        parts += [
            workspace("winograd", winograd.scratch_bytes(form)),
            winograd.kernel_task(form),
            winograd.tile_task(form),
        ]
    f = Function(symbol(dtype, pairs), [("ptr", "t")], linkage="")
    count = f.load("i64", "%t", 8)
    with f.loop(count, carry=[("ptr", f.gep("i64", "%t", 1))]) as stage:
        here = stage.carried[0]
        kind, length = f.load("i64", here, 8), f.load("i64", f.gep("i64", here, 1), 8)
        body = f.gep("i64", here, 2)
        for number, (task, fields) in enumerate(KINDS[:3] if direct else KINDS):
            with f.when(f.cmp("eq", kind, number)):
                words = Words(f, fields, body)
                units, grain = words["units"], words["grain"]
                arguments = f"ptr @{task}, ptr {body}, i64 {units}, i64 {grain}"
                f.do(f"call void @fl_parallel_for({arguments})")
        stage.carry(f.gep("i64", body, length))
    f.ret()
    return "\n".join([*parts, f.text()])


# -- what is claimed -------------------------------------------------------------------------------


def plan(node: Node) -> Convolution | WeightGradient:
    """The plan of a node that is claimed."""
    dtype, features = DTYPES[node.dtype.name], cpuinfo.host_features()
    form = convolution_form(dtype, features, in_pairs(node))
    if node.op.name == "convolution":
        if Winograd.fits(node, form) and (found := Winograd(node, form)).pays():
            return found
        return Convolution(node, form)
    return WeightGradient(node, form)


def fits(node: Node) -> bool:
    """Whether the kernel computes a convolution or a weight's gradient."""
    if node.dtype.name not in DTYPES or not 3 <= len(node.shape) <= 5:
        return False
    if 0 in node.shape or any(0 in s.shape or s.dtype != node.dtype for s in node.src):
        return False
    if node.op.name == "convolution":
        weight = node.src[1]
        if flat_stride(weight.shape[2:], strides_of(weight)[2:]) is None:
            return False
    return not single_places(node) and not depthwise(node)


def depthwise(node: Node) -> bool:
    """Whether every channel is convolved for itself: loops over the result are faster then."""
    taps = node.src[1].shape[1:] if node.op.name == "convolution" else node.shape[1:]
    groups = node.attrs[8] if node.op.name == "convolution" else node.attrs[6]
    alone = node.src[0].shape[1] == groups == node.shape[int(node.op.name == "convolution")]
    return bool(alone and math.prod(taps) <= MOST_TAPS)


def single_places(node: Node) -> bool:
    """Whether a node is one matrix product an image, on operands as they are."""
    if node.op.name != "convolution" or node.attrs[8] != 1 or math.prod(node.src[1].shape[2:]) != 1:
        return False
    stride, pad, _ = numbers_of(node, 3)
    places = math.prod(node.shape[2:])
    return set(stride) == {1} and set(pad) == {0} and places >= DIRECT_PLACES
