"""Convolutions in bfloat16: pairs of channels where the machine multiplies them, else widened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record
from flambeau.kernels import convolution
from flambeau.kernels.matmul import form_of
from flambeau.nn import functional as F
from flambeau.runtime.cpuinfo import host_features

#: N, channels, size, columns, kernel, stride, padding, dilation, groups: a pair and many; half a
#: pair at the end; one channel, which is widened; steps; groups; channels not whole vectors
CASES = [
    (2, 2, 7, 3, 3, 1, 1, 1, 1),
    (1, 64, 9, 33, 3, 1, 1, 1, 1),
    (3, 34, 8, 40, 3, 2, 1, 1, 1),
    (2, 66, 6, 64, 5, 1, 2, 1, 1),
    (2, 12, 11, 8, 3, 1, 2, 2, 2),
    (2, 3, 10, 16, 3, 1, 1, 1, 1),
    (2, 6, 9, 4, 3, 2, 1, 1, 2),
    (3, 1, 9, 5, 3, 1, 1, 1, 1),
    (1, 130, 1, 70, 1, 1, 0, 1, 1),
    (2, 20, 9, 16, 2, 3, 1, 1, 1),
]


def written_out(
    x: np.ndarray, w: np.ndarray, stride: int, pad: int, step: int, groups: int
) -> np.ndarray:
    """The convolution as sums of shifted images, in float64."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    n, channels = x.shape[:2]
    columns, _, kh, kw = w.shape
    size = [(x.shape[d] - step * (k - 1) - 1) // stride + 1 for d, k in ((2, kh), (3, kw))]
    out = np.zeros((n, columns, *size))
    each = channels // groups, columns // groups
    for g in range(groups):
        a, b = (slice(g * k, (g + 1) * k) for k in each)
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * step, i * step + stride * (size[0] - 1) + 1, stride)
                cols = slice(j * step, j * step + stride * (size[1] - 1) + 1, stride)
                out[:, b] += np.einsum("nchw,oc->nohw", x[:, a, rows, cols], w[b, :, i, j])
    return out


def slopes(
    x: np.ndarray, w: np.ndarray, g: np.ndarray, stride: int, pad: int, step: int, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of image and weight, in float64."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    each = x.shape[1] // groups, w.shape[0] // groups
    for n in range(groups):
        a, b = (slice(n * k, (n + 1) * k) for k in each)
        for i in range(w.shape[2]):
            for j in range(w.shape[3]):
                rows = slice(i * step, i * step + stride * (g.shape[2] - 1) + 1, stride)
                cols = slice(j * step, j * step + stride * (g.shape[3] - 1) + 1, stride)
                dw[b, :, i, j] = np.einsum("nchw,nohw->oc", x[:, a, rows, cols], g[:, b])
                dx[:, a, rows, cols] += np.einsum("nohw,oc->nchw", g[:, b], w[b, :, i, j])
    return dx[:, :, pad : dx.shape[2] - pad, pad : dx.shape[3] - pad], dw


def drawn(rng: np.random.Generator, *shapes: tuple[int, ...]) -> list[tuple[Any, np.ndarray]]:
    """bfloat16 tensors, and the same in float64."""
    found = []
    for shape in shapes:
        t = flambeau.tensor(rng.standard_normal(shape).astype(np.float32)).bfloat16()
        found.append((t, t.float().numpy().astype(np.float64)))
    return found


def close(found: Any, wanted: np.ndarray) -> None:
    """Within a rounding of the largest number; the sums themselves are float32's."""
    assert found.dtype is flambeau.bfloat16
    size = np.abs(wanted).max()
    np.testing.assert_allclose(
        found.detach().float().numpy(), wanted, rtol=2.0**-8, atol=size * 2.0**-14
    )


@pytest.mark.parametrize("case", CASES)
def test_results_and_gradients(rng: np.random.Generator, case: tuple[int, ...]) -> None:
    n, c, size, o, k, stride, pad, step, groups = case
    (x, ex), (w, ew), (b, eb) = drawn(rng, (n, c, size, size), (o, c // groups, k, k), (o,))
    leaves = [t.requires_grad_() for t in (x, w, b)]
    out = F.conv2d(*leaves, stride, pad, step, groups)
    close(out, written_out(ex, ew, stride, pad, step, groups) + eb[:, None, None])
    ((g, eg),) = drawn(rng, tuple(out.shape))
    found = flambeau.autograd.grad(out, leaves, g)
    for grad, wanted in zip(found, slopes(ex, ew, eg, stride, pad, step, groups), strict=False):
        close(grad, wanted)
    close(found[2], eg.sum((0, 2, 3)))


@pytest.mark.parametrize(("dims", "groups"), [(1, 1), (1, 2), (2, 1), (3, 1)])
def test_transposed(rng: np.random.Generator, dims: int, groups: int) -> None:
    shape, kernel = (2, 8, *(5, 4, 3)[:dims]), (8, 6 // groups, *(3, 2, 3)[:dims])
    (x, ex), (w, ew) = drawn(rng, shape, kernel)
    call = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
    found = call(x, w, stride=2, padding=1, groups=groups)
    wanted = call(flambeau.tensor(ex), flambeau.tensor(ew), stride=2, padding=1, groups=groups)
    close(found, wanted.numpy())  # float64's kernel, which other tests compare with references


def test_channels_last_and_strided_weights(rng: np.random.Generator) -> None:
    (x, ex), (w, ew) = drawn(rng, (2, 7, 7, 20), (3, 3, 20, 18))
    found = F.conv2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), padding=1)
    wanted = written_out(ex.transpose(0, 3, 1, 2), ew.transpose(3, 2, 0, 1), 1, 1, 1, 1)
    close(found, wanted)


@pytest.mark.parametrize("channels", [5, 6])
def test_not_a_number_and_infinity_reach_what_they_touch(
    rng: np.random.Generator, channels: int
) -> None:
    (_, ex), (w, ew) = drawn(rng, (1, channels, 8, 8), (4, channels, 3, 3))
    ex[0, channels - 1, 2, 2], ex[0, 0, 6, 6] = np.nan, np.inf
    found = F.conv2d(flambeau.tensor(ex).bfloat16(), w, padding=1).float().numpy()
    wanted = written_out(ex, ew, 1, 1, 1, 1)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted))


def test_the_same_bits_on_any_number_of_threads(rng: np.random.Generator) -> None:
    (x, _), (w, _) = drawn(rng, (8, 32, 20, 20), (48, 32, 3, 3))
    before = flambeau.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            flambeau.set_num_threads(threads)
            results.append(F.conv2d(x, w, stride=2).float().numpy().copy())
    finally:
        flambeau.set_num_threads(before)
    assert all(np.array_equal(results[0], r) for r in results)


def test_pairs_are_for_channels_of_bfloat16() -> None:
    def chosen(channels: int, dtype: Any) -> bool:
        x, w = (flambeau.ones(n, channels, 4, 4, dtype=dtype) for n in (1, 2))
        kept = F.conv2d(x, w)
        (node,) = (n for n in record.pending_graph().nodes if n.op.name == "convolution")
        assert tuple(kept.shape) == node.shape
        return convolution.in_pairs(node)

    assert chosen(4, flambeau.bfloat16) == form_of("bf16", host_features()).pairs
    assert chosen(3, flambeau.bfloat16) == form_of("bf16", host_features()).pairs
    assert not chosen(1, flambeau.bfloat16)
    assert not chosen(4, flambeau.float16)
