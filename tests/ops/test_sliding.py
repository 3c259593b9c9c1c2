"""Blocks added up into images, for every way that shifts, steps and edges meet."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import flambeau as fl
import flambeau.nn.functional as F

RNG = np.random.default_rng(0)


def added_up(
    blocks: np.ndarray, size: tuple[int, int], kernel: tuple[int, int], dilation: tuple[int, int],
    padding: tuple[int, int], stride: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    """Every element of every block added where it lies."""
    n, rows, _ = blocks.shape
    c = rows // (kernel[0] * kernel[1])
    wide = np.zeros((n, c, *(s + 2 * p for s, p in zip(size, padding, strict=True))))
    counts = [
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, p, d, k, t in zip(size, padding, dilation, kernel, stride, strict=True)
    ]
    x = blocks.reshape(n, c, *kernel, *counts)
    for i, j, a, b in itertools.product(*map(range, (*kernel, *counts))):
        wide[:, :, i * dilation[0] + a * stride[0], j * dilation[1] + b * stride[1]] += x[
            :, :, i, j, a, b
        ]
    return wide[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2), (4, 4)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (2, 1)])
def test_fold(padding: tuple[int, int], dilation: tuple[int, int], stride: tuple[int, int]) -> None:
    for size, kernel in (((7, 9), (3, 3)), ((12, 8), (2, 3)), ((9, 11), (1, 4)), ((5, 7), (1, 1))):
        how = {"dilation": dilation, "padding": padding, "stride": stride}
        x = fl.tensor(RNG.standard_normal((2, 3, *size)), requires_grad=True)
        columns = F.unfold(x, kernel, **how)
        found = F.fold(columns, size, kernel, **how)
        wanted = added_up(columns.detach().numpy(), size, kernel, dilation, padding, stride)
        np.testing.assert_allclose(found.detach().numpy(), wanted, atol=1e-12)
        # unfold and fold are each other's transposes
        weights = RNG.standard_normal(found.shape)
        (F.unfold(x, kernel, **how) * F.unfold(fl.tensor(weights), kernel, **how)).sum().backward()
        assert x.grad is not None
        expected = added_up(
            F.unfold(fl.tensor(weights), kernel, **how).numpy(),
            size, kernel, dilation, padding, stride,
        )  # fmt: skip
        np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-12)


def test_patches_of_bfloat16_are_put_back() -> None:
    image = fl.randn(2, 3, 32, 48).bfloat16()
    patches = F.unfold(image, 16, stride=16)
    assert bool((F.fold(patches, (32, 48), 16, stride=16) == image).all())
