"""Convolution's kernels against sliding windows in NumPy, for every form this machine can run."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import flambeau
from flambeau import dtypes, record
from flambeau.ir.graph import Node
from flambeau.kernels import claims, convolution, convolution_plans
from flambeau.kernels.convolution import convolution_form
from flambeau.kernels.convolution_plans import Convolution, WeightGradient, Winograd
from flambeau.nn import functional as F
from flambeau.ops.rows import ROWS
from flambeau.ops.table import HOLE
from tests.kernels.test_matmul import ENGINES, FORMS, WORKERS

EPS = {"float32": 2.0**-24, "float64": 2.0**-53}


@functools.cache
def kernel(dtype: str, form: str) -> Any:
    """The compiled function for a dtype and form."""
    features, cpu = FORMS[form]
    text = convolution.module_text(dtype, features)
    module = llvm.parse_assembly(text.replace("@fl_parallel_for", "@fl_test_parallel_for"))
    module.verify()
    if cpu == "host":
        cpu, flags = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    else:
        flags = ""
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=cpu, features=flags, opt=2)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    ENGINES.append(engine)
    address = engine.get_function_address(f"fl_convolution_{dtype}")
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)


def run(
    row: str, form: str, arrays: list[np.ndarray], shape: Any, attrs: Any, make: Any = None
) -> np.ndarray:
    """One row through the kernel, with scratch memory and result full of NaN before."""
    name = str(arrays[0].dtype)
    dtype = convolution.DTYPES[name]
    kind = getattr(dtypes, name)
    leaf = ROWS["empty_memory"]
    sources = tuple(Node(leaf, (), (k,), a.shape, kind) for k, a in enumerate(arrays))
    node = Node(ROWS[row], sources, attrs, tuple(shape), kind)
    make = make or (Convolution if row == "convolution" else WeightGradient)
    if make is Winograd:
        assert Winograd.fits(node, convolution_form(dtype, FORMS[form][0]))
    plan = make(node, convolution_form(dtype, FORMS[form][0]))
    size = arrays[0].itemsize
    room = np.full(plan.scratch() // size + 128, np.nan, arrays[0].dtype)
    out = np.full(shape, np.nan, arrays[0].dtype)
    start = room.ctypes.data + -room.ctypes.data % 64
    places = dict(zip(sources, arrays, strict=True))
    program = SimpleNamespace(
        operand=lambda s, batch: (places[s].ctypes.data, 0, [x // size for x in places[s].strides]),
        workspace=lambda node: start,
        result=lambda node, which: out.ctypes.data,
    )
    words = plan.words(program)
    table = np.array([w if isinstance(w, int) else w[0] + w[1] for w in words], np.int64)
    kernel(dtype, form)(table.ctypes.data)
    return out


def windows(x: np.ndarray, kernel: Any, stride: Any, padding: Any, dilation: Any) -> np.ndarray:
    """(N, C, *I) -> (N, C, *O, *K) in float64."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *((p, p) for p in padding)])
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    axes = tuple(range(2, x.ndim))
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in stride))
    return seen[(*steps, *(slice(None, None, d) for d in dilation))]


def forward(
    x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    """A convolution in float64."""
    seen = windows(x, w.shape[2:], stride, padding, dilation)
    dims = x.ndim - 2
    n, c = seen.shape[:2]
    parts = seen.reshape(n, groups, c // groups, *seen.shape[2:])
    weight = w.astype(np.float64).reshape(groups, w.shape[0] // groups, *w.shape[1:])
    o, k = "xyz"[:dims], "klm"[:dims]
    out = np.einsum(f"ngc{o}{k},gic{k}->ngi{o}", parts, weight)
    out = out.reshape(n, w.shape[0], *out.shape[3:])
    return out if bias is None else out + bias.astype(np.float64).reshape(-1, *(1,) * dims)


def weight_gradient(
    x: Any, g: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    """The weight's gradient in float64."""
    seen = windows(x, kernel, stride, padding, dilation)
    dims = x.ndim - 2
    seen = seen[(slice(None), slice(None), *(slice(0, n) for n in g.shape[2:]))]
    n, c = seen.shape[:2]
    parts = seen.reshape(n, groups, c // groups, *seen.shape[2:])
    cot = g.astype(np.float64).reshape(n, groups, g.shape[1] // groups, *g.shape[2:])
    o, k = "xyz"[:dims], "klm"[:dims]
    out = np.einsum(f"ngc{o}{k},ngi{o}->gic{k}", parts, cot)
    return out.reshape(g.shape[1], c // groups, *kernel)


def transposed(
    x: Any, w: Any, stride: Any, padding: Any, dilation: Any, extra: Any, groups: int
) -> Any:
    """A transposed convolution in float64: every element is spread over the places it reaches."""
    dims = x.ndim - 2
    sizes = [
        (n - 1) * s + d * (k - 1) + 1 + e
        for n, k, s, d, e in zip(x.shape[2:], w.shape[2:], stride, dilation, extra, strict=True)
    ]
    n, c = x.shape[:2]
    m = w.shape[1]
    out = np.zeros((n, groups, m, *(size + 1 for size in sizes)))
    xs = x.astype(np.float64).reshape(n, groups, c // groups, *x.shape[2:])
    ws = w.astype(np.float64).reshape(groups, c // groups, m, *w.shape[2:])
    for tap in itertools.product(*map(range, w.shape[2:])):
        part = np.einsum("ngc...,gcm->ngm...", xs, ws[(..., *tap)])
        at = tuple(
            slice(k * d, k * d + (size - 1) * s + 1, s)
            for k, d, s, size in zip(tap, dilation, stride, x.shape[2:], strict=True)
        )
        out[(slice(None),) * 3 + at] += part
    crop = tuple(slice(p, size - p) for p, size in zip(padding, sizes, strict=True))
    out = out[(slice(None),) * 3 + crop]
    return out.reshape(n, groups * m, *out.shape[3:]) if dims else out


def close(found: np.ndarray, wanted: np.ndarray, terms: int) -> None:
    """Within the error of summing `terms` products in any order."""
    assert found.shape == wanted.shape
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    bound = 8 * EPS[str(found.dtype)] * math.sqrt(terms + 4) * scale
    assert np.abs(found - wanted).max(initial=0) <= bound


def draw(rng: np.random.Generator) -> Any:
    """Sizes of a random convolution."""
    dims = int(rng.integers(1, 4))
    pick = lambda options: tuple(int(rng.choice(options)) for _ in range(dims))
    groups = int(rng.choice([1, 1, 2, 3]))
    return SimpleNamespace(
        groups=groups, images=int(rng.integers(1, 4)), sizes=pick([1, 2, 3, 5, 7, 17]),
        channels=groups * int(rng.choice([1, 2, 5, 17, 33])),
        columns=groups * int(rng.choice([1, 3, 16, 20, 40, 70])),
        kernel=pick([1, 2, 3, 4]), stride=pick([1, 2, 3]), padding=pick([0, 1, 2]),
        dilation=pick([1, 2]),
    )  # fmt: skip


def places(p: Any) -> tuple[int, ...]:
    """Sizes of the result, not positive where the kernel does not fit."""
    return tuple(
        (n + 2 * q - d * (k - 1) - 1) // s + 1
        for n, q, d, k, s in zip(p.sizes, p.padding, p.dilation, p.kernel, p.stride, strict=True)
    )


def attributes(p: Any, bias: Any, across: bool, extra: Any) -> tuple[Any, ...]:
    """The attributes of a `convolution` node."""
    hole = HOLE if bias is not None else None
    return (HOLE, HOLE, hole, p.stride, p.padding, p.dilation, across, extra, p.groups)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_shapes(form: str, dtype: str, rng: np.random.Generator) -> None:
    """Forward, transposed and weight's gradient, in memory of several layouts."""
    done = 0
    while done < 12:
        p = draw(rng)
        shape = places(p)
        if min(shape) < 1:
            continue
        done += 1
        new = lambda *s: np.asarray(rng.standard_normal(s), dtype)
        x = new(p.images, p.channels, *p.sizes)
        if done % 3 == 0:  # channels last
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        if done % 3 == 1:
            x = np.repeat(x, 2, -1)[..., ::2]
        w = new(p.columns, p.channels // p.groups, *p.kernel)
        bias = new(p.columns) if done % 2 else None
        numbers = (p.stride, p.padding, p.dilation)
        terms = w[0].size
        out = (p.images, p.columns, *shape)
        given = [x, w] if bias is None else [x, w, bias]
        found = run("convolution", form, given, out, attributes(p, bias, False, 0))
        close(found, forward(x, w, bias, *numbers, p.groups), terms)
        g = new(*out)
        attrs = (HOLE, HOLE, p.kernel, *numbers, p.groups)
        found = run("convolution_weight_gradient", form, [x, g], w.shape, attrs)
        wanted = weight_gradient(x, g, p.kernel, *numbers, p.groups)
        close(found, wanted, g[:, 0].size)
        extra = tuple(s - 1 for s in p.stride)
        wanted = transposed(g, w, *numbers, extra, p.groups)
        if min(wanted.shape) < 1:
            continue
        attrs = attributes(p, None, True, extra)
        found = run("convolution", form, [g, w], wanted.shape, attrs)
        close(found, wanted, terms * p.columns)


def test_threads_and_chunks(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits on one thread and on several; the same sums in small chunks of images."""
    monkeypatch.setattr(convolution_plans, "SERIAL", 1)
    p = SimpleNamespace(
        groups=2, stride=(2, 1), padding=(1, 2), dilation=(1, 1), kernel=(3, 3), sizes=(9, 8),
    )  # fmt: skip
    x = rng.standard_normal((5, 34, *p.sizes)).astype(np.float32)
    w = rng.standard_normal((80, 17, 3, 3)).astype(np.float32)
    out = (5, 80, *places(p))
    g = rng.standard_normal(out).astype(np.float32)
    ask = {
        "convolution": ([x, w], out, attributes(p, None, False, 0)),
        "convolution_weight_gradient": (
            [x, g], w.shape, (HOLE, HOLE, p.kernel, p.stride, p.padding, p.dilation, 2),
        ),
    }  # fmt: skip
    for row, arguments in ask.items():
        one = run(row, "host", *arguments)
        WORKERS[0] = 3
        try:
            assert (run(row, "host", *arguments) == one).all()
        finally:
            WORKERS[0] = 1
        with monkeypatch.context() as small:
            small.setattr(convolution_plans, "CHUNK", 1)
            np.testing.assert_allclose(run(row, "host", *arguments), one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_minimal_filtering(
    form: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Winograd's form, forward and transposed: odd numbers of patches, groups, chunks, layouts."""
    monkeypatch.setattr(convolution_plans, "SERIAL", 1)
    new = lambda *s: rng.standard_normal(s).astype(np.float32)
    for n, c, m, sizes, pad, groups, chunk in (
        (1, 16, 32, (2, 2), (1, 1), 1, 1 << 20),
        (5, 32, 96, (6, 10), (1, 1), 1, 1 << 20),
        (2, 160, 64, (4, 8), (0, 2), 2, 1 << 20),
        (3, 96, 128, (14, 6), (2, 1), 1, 1),
    ):
        p = SimpleNamespace(
            groups=groups, sizes=sizes, padding=pad, kernel=(3, 3), stride=(1, 1), dilation=(1, 1),
        )  # fmt: skip
        monkeypatch.setattr(convolution_plans, "CHUNK", chunk)
        numbers = (p.stride, p.padding, p.dilation)
        x, w, bias = new(n, c, *sizes), new(m, c // groups, 3, 3), new(m)
        out = (n, m, *places(p))
        attrs = attributes(p, bias, False, 0)
        found = run("convolution", form, [x, w, bias], out, attrs, Winograd)
        close(found, forward(x, w, bias, *numbers, groups), w[0].size)
        g = np.moveaxis(np.ascontiguousarray(np.moveaxis(new(*out), 1, -1)), -1, 1)
        v = new(m, 2 * 32, 3, 3)
        wanted = transposed(g, v, *numbers, (0, 0), groups)
        attrs = attributes(p, None, True, 0)
        for WORKERS[0] in (3, 1):
            found = run("convolution", form, [g, v], wanted.shape, attrs, Winograd)
            close(found, wanted, v[:, 0].size)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_minimal_filtering_of_special_values(value: float, rng: np.random.Generator) -> None:
    """Values that are not finite, or nearly so, reach what they reach by direct summation."""
    p = SimpleNamespace(groups=1, padding=(1, 1), stride=(1, 1), dilation=(1, 1))
    x = rng.standard_normal((2, 16, 6, 8)).astype(np.float32)
    x[1, 3, 2, 5] = x[1, 3, 4, 5] = x[0, 7, 5, 7] = value
    w = rng.standard_normal((64, 16, 3, 3)).astype(np.float32)
    attrs = attributes(p, None, False, 0)
    direct = run("convolution", "host", [x, w], (2, 64, 6, 8), attrs)
    found = run("convolution", "host", [x, w], (2, 64, 6, 8), attrs, Winograd)
    assert (np.isfinite(found) == np.isfinite(direct)).all()
    np.testing.assert_allclose(found, direct, rtol=1e-4, atol=1e-4 if abs(value) != 3e38 else 1e33)


def test_no_place_of_padding_is_multiplied() -> None:
    """A 2 x 2 image under a 3 x 3 kernel: 4 of 9 kernel places meet it, at each place."""
    axis = convolution_plans.cut(convolution_plans.forward_axis(2, 3, 2, 1, 1, 1), 2)
    assert [(p.count, [k for k, _ in p.taps]) for p in axis.phases] == [(1, [1, 2]), (1, [0, 1])]
    assert (axis.before, axis.padded) == (0, 2)


def test_transposed_phases_hold_each_kernel_place_once() -> None:
    """Stride 2 takes the kernel apart: no inserted zero is multiplied."""
    axis = convolution_plans.transposed_axis(4, 3, 8, 2, 1, 1)
    assert [[k for k, _ in p.taps] for p in axis.phases] == [[0, 2], [1]] or [
        sorted(k for k, _ in p.taps) for p in axis.phases
    ] == [[0, 2], [1]]
    assert [(p.start, p.count) for p in axis.phases] == [(1, 4), (0, 4)]


def test_claimed_and_not(rng: np.random.Generator) -> None:
    """What is a product already, or one loop, is left to that."""
    record.flush()

    def claimed(*shape: int, groups: int = 1) -> bool:
        y = F.conv2d(flambeau.ones(2, 4, 9, 9), flambeau.ones(*shape), groups=groups)
        return claims.claims(y._cell.node)

    assert claimed(8, 4, 3, 3)
    assert not claimed(8, 4, 1, 1)
    assert claimed(8, 1, 3, 3, groups=4)
    assert not claimed(4, 1, 3, 3, groups=4)
    for sizes, channels, chosen in (
        ((16, 16), 64, Winograd),
        ((2, 2), 64, Convolution),  # a third of the products would be with padding
        ((7, 7), 64, Convolution),
        ((16, 16), 160, Convolution),
    ):
        x, w = flambeau.ones(4, channels, *sizes), flambeau.ones(64, channels, 3, 3)
        node = F.conv2d(x, w, padding=1)._cell.node
        if FORMS["host"][0] >= {"avx512f", "avx512bw", "avx512vl", "avx512dq"}:
            assert type(convolution.plan(node)) is chosen


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_values_spread_only_where_they_are_seen(value: float) -> None:
    """A NaN or infinity reaches the results whose window holds it, and no other."""
    x = np.ones((2, 3, 6, 6), np.float32)
    x[1, 1, 2, 3] = value
    w = flambeau.ones(4, 3, 3, 3)
    out = F.conv2d(flambeau.tensor(x), w, padding=1).numpy()
    seen = np.zeros((2, 4, 6, 6), bool)
    seen[1, :, 1:4, 2:5] = True
    assert (~np.isfinite(out) == seen).all()


def test_empty_batch_and_sixteen_bits(rng: np.random.Generator) -> None:
    """No images give no results and a zero gradient; halves are summed in float32."""
    w = flambeau.ones(4, 3, 3, 3, requires_grad=True)
    out = F.conv2d(flambeau.zeros(0, 3, 5, 5), w)
    assert tuple(out.shape) == (0, 4, 3, 3)
    out.sum().backward()
    assert w.grad.tolist() == flambeau.zeros(4, 3, 3, 3).tolist()
    x = rng.standard_normal((3, 70, 7, 6))
    k = rng.standard_normal((20, 70, 3, 3))
    for dtype, eps in ((flambeau.bfloat16, 2.0**-8), (flambeau.float16, 2.0**-11)):
        a, b = flambeau.tensor(x).to(dtype), flambeau.tensor(k).to(dtype).requires_grad_()
        out = F.conv2d(a, b, padding=1, stride=2)
        numbers = ((2, 2), (1, 1), (1, 1), 1)
        exact = forward(a.double().numpy(), b.detach().double().numpy(), None, *numbers)
        assert np.abs(out.detach().double().numpy() - exact).max() <= eps * np.abs(exact).max()
        out.sum().backward()
        exact = weight_gradient(a.double().numpy(), np.ones(out.shape), (3, 3), *numbers)
        assert np.abs(b.grad.double().numpy() - exact).max() <= eps * np.abs(exact).max()
