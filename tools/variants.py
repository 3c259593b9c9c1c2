"""The variants of attention in docs/attention.md, with pictures of their masks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import flambeau
from flambeau.nn.attention.picture import plot_mask
from flambeau.nn.attention.variants import VARIANTS
from flambeau.tensor import Tensor

PAGE = "docs/attention.md"
_BEGIN = (
    "<!-- written by tools/generate.py from flambeau/nn/attention/variants.py; do not edit -->\n"
)
_END = "<!-- end -->\n"
#: B, H, queries and keys of a picture
_SIZES = (1, 2, 24, 24)
_FEW = (1, 2, 8, 24)
_FEW_QUERIES = ("cached", "tree")


def picture(name: str) -> str:
    """The SVG of a variant's sample."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> Tensor:
        return flambeau.tensor(-random.uniform(0, 0.3, shape))

    sizes = _FEW if name in _FEW_QUERIES else _SIZES
    mods = VARIANTS[name].make(**VARIANTS[name].sample(draw, sizes))
    return plot_mask(mods, *sizes[2:], title=f"{name}: what each query sees")


def page() -> str:
    """docs/attention.md, with the variants of today."""
    text = (Path(__file__).resolve().parent.parent / PAGE).read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    parts = []
    for name, found in VARIANTS.items():
        settings = ", ".join(inspect.signature(found.make).parameters)
        parts.append(
            f"### {name}({settings})\n\n{found.meaning}\n\n![{name}](attention/{name}.svg)\n\n"
            f"{found.paper}.\n"
        )
    return f"{before}{_BEGIN}\n" + "\n".join(parts) + f"\n{_END}{after}"


VARIANT_FILES: dict[str, Callable[[], str]] = {
    PAGE: page,
    **{f"docs/attention/{name}.svg": partial(picture, name) for name in VARIANTS},
}
