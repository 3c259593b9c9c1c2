"""Every registered variant against dense attention in float64, forward and with all gradients."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import flambeau
from flambeau.nn.attention.flex_attention import AuxRequest, create_block_mask
from flambeau.nn.attention.picture import plot_mask
from flambeau.nn.attention.variants import VARIANTS, Mods, Variant, merged

#: B, H, L, S
SIZES = (2, 3, 40, 72)


def settings(variant: Variant, sizes: Any, dtype: Any) -> tuple[dict[str, Any], list[Any]]:
    """(the sample's settings in a dtype, those that are learned)."""
    rng = np.random.default_rng(7)

    def draw(*shape: int) -> Any:
        return flambeau.tensor(-rng.uniform(0, 0.3, shape), dtype=dtype)

    found = variant.sample(draw, sizes)
    learned = []
    for name, x in found.items():
        if isinstance(x, flambeau.Tensor) and x.is_floating_point():
            found[name] = x.detach().requires_grad_()
            learned.append(found[name])
    return found, learned


def dense(q: Any, k: Any, v: Any, mods: Mods) -> tuple[Any, Any]:
    """(output, log-sum-exp) by whole matrices of scores, without the rows of attention."""
    s = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    place = [
        flambeau.arange(n).reshape([n if i == d else 1 for i in range(4)])
        for d, n in enumerate(s.shape)
    ]
    if mods.score is not None:
        s = mods.score(s, *place)
    seen = flambeau.ones(1, 1, 1, 1, dtype=flambeau.bool)
    if mods.mask is not None:
        seen = mods.mask(*place)
    p = s.exp() * seen
    total = p.sum(-1, keepdim=True)
    return p / flambeau.where(total == 0, 1.0, total) @ v, total.log().squeeze(-1)


def operands(rng: np.random.Generator, sizes: Any, dtype: Any) -> list[Any]:
    """Query, key, value and the output's cotangent."""
    b, h, n, s = sizes
    shapes = ((b, h, n, 16), (b, h, s, 16), (b, h, s, 24), (b, h, n, 24))
    return [flambeau.tensor(rng.standard_normal(x), dtype=dtype) for x in shapes]


@pytest.mark.parametrize("name", VARIANTS)
def test_against_dense_attention(name: str) -> None:
    found = []
    for dtype in (flambeau.float32, flambeau.float64):
        *leaves, g = operands(np.random.default_rng(3), SIZES, dtype)
        leaves = [x.requires_grad_() for x in leaves]
        given, learned = settings(VARIANTS[name], SIZES, dtype)
        mods = VARIANTS[name].make(**given)
        if dtype is flambeau.float32:
            out, aux = mods.attend(*leaves, return_aux=AuxRequest(lse=True))
            lse = aux.lse
        else:
            out, lse = dense(*leaves, mods)
        grads = flambeau.autograd.grad(out, [*leaves, *learned], g)
        found.append([x.detach().numpy() for x in (out, lse, *grads)])
    for a, b in zip(*found, strict=True):
        size = max(1.0, np.abs(b[np.isfinite(b)]).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * size)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_says_what_it_is(name: str) -> None:
    found = VARIANTS[name]
    assert found.name == name
    assert found.meaning
    assert "arXiv:" in found.paper


def test_pictures(tmp_path: Path) -> None:
    mods = VARIANTS["causal"].make()
    drawn = plot_mask(mods, 3, 4, title="causal", path=tmp_path / "mask.svg")
    assert (tmp_path / "mask.svg").read_text() == drawn
    root = ElementTree.fromstring(drawn)
    paths = root.findall(".//{*}path")
    assert [x.get("d") for x in paths] == ["M0 0h1v1h-1zM0 1h2v1h-2zM0 2h3v1h-3z"]
    assert mods.mask is not None
    blocks = plot_mask(create_block_mask(mods.mask, None, None, 256, 256))
    paths = ElementTree.fromstring(blocks).findall(".//{*}path")
    assert [x.get("d") for x in paths] == ["M0 0h1v1h-1zM1 1h1v1h-1z", "M0 1h1v1h-1z"]
    graded = plot_mask(VARIANTS["alibi"].make(flambeau.ones(1)), 3, 3)
    assert len(ElementTree.fromstring(graded).findall(".//{*}path")) == 3


def test_parts_of_the_keys_are_merged(rng: np.random.Generator) -> None:
    q, k, v, _ = operands(rng, (1, 2, 30, 90), flambeau.float32)
    parts = []
    for first in (0, 30, 60, 75):
        end = {0: 30, 30: 60, 60: 75, 75: 90}[first]
        mods = VARIANTS["ring"].make(flambeau.tensor(45), flambeau.tensor(first))
        out, aux = mods.attend(
            q, k[:, :, first:end], v[:, :, first:end], return_aux=AuxRequest(lse=True)
        )
        parts.append((out, aux.lse))
    found, lse = merged(parts)
    mods = VARIANTS["cached"].make(flambeau.tensor(45))
    out, aux = mods.attend(q, k, v, return_aux=AuxRequest(lse=True))
    np.testing.assert_allclose(found.numpy(), out.numpy(), atol=2e-6)
    np.testing.assert_allclose(lse.numpy(), aux.lse.numpy(), atol=2e-6)
