"""What an attention kernel is made for, and the table of words that it is given.

Shapes: q (B, Hq, L, E), k (B, Hk, S, E), v (B, Hk, S, V), out (B, Hq, L, V), lse (B, Hq, L); Hq is
a multiple of Hk. Inputs may be strided; results are row-major.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flambeau.kernels.emit import Function, Value, Words
from flambeau.ops.mods import Mod

AXES = {
    "q": "bhle",
    "k": "bhse",
    "v": "bhsv",
    "o": "bhlv",
    "g": "bhlv",
    "lse": "bhl",
    "dlse": "bhl",
}
INPUTS = {"forward": ("q", "k", "v"), "backward": ("q", "k", "v", "o", "g", "lse", "dlse")}
RESULTS = {"forward": ("out", "lse", "top"), "backward": ("dq", "dk", "dv")}
SIZES = ("B", "Hq", "Hk", "L", "S", "E", "V", "BQ", "BK")
#: what the kernels keep between their parallel parts
OWN = {"forward": ("parts",), "backward": ("shift", "delta", "parts", "groups", "sums")}
#: keys of a block, for which the scores stay in cache
KEYS = 128


#: the block mask's tensors: how many blocks each block of queries sees in part and whole, and
#: which; then how many blocks of queries see each block of keys, and which
BLOCKS = ("kn", "ki", "fkn", "fki", "qn", "qi", "fqn", "fqi")


@dataclass(frozen=True)
class Problem:
    """What is compiled in.

    Attributes:
        direction: forward or backward.
        dtype: f32, bf16 or f16: of q, k, v and the results.
        cover: which keys a query may see: "all", "causal" (keys up to its own number), or "blocks"
            (those that a block mask lists).
        score, mask, keep: the mods; see `ops.flex.How`.
        needs: captured tensors of `score` that need gradients.
        top: whether the greatest scores are a result.
        few: 0, or where queries are few the rows that a unit needs: see `attention_few`.
    """

    direction: str
    dtype: str = "f32"
    cover: str = "all"
    score: Mod | None = None
    mask: Mod | None = None
    keep: Mod | None = None
    needs: tuple[int, ...] = ()
    top: bool = False
    few: int = 0

    @property
    def mods(self) -> dict[str, Mod]:
        """The mods by name."""
        found = {"score": self.score, "mask": self.mask, "keep": self.keep}
        return {name: mod for name, mod in found.items() if mod is not None}

    @property
    def fields(self) -> list[str]:
        """Names of the table's words, in order."""
        names = [*INPUTS[self.direction], *RESULTS[self.direction]]
        names += [*SIZES, "scale", "keep_scale", "units", "tiles", "chunks", *OWN[self.direction]]
        for x in INPUTS[self.direction]:
            names += [f"{x}_{axis}" for axis in AXES[x]]
        if self.cover == "blocks":
            for x in BLOCKS:
                names += [x, f"{x}_b", f"{x}_h", f"{x}_r"]
        names += [word for name, mod in self.mods.items() for word in words_of(name, mod)]
        if self.score is not None:
            for k in self.needs:
                names += [f"grad{k}", f"size{k}"]
                names += [f"score{k}_d{d}" for d in range(len(self.score.captured[k][0]))]
        return names

    @property
    def mod_words(self) -> list[str]:
        """The words that mods read."""
        return [n for n in self.fields if n.startswith(("score", "mask", "keep"))]

    def words(self, f: Function) -> Words:
        """The table's words in a function."""
        return Words(f, self.fields, kind_of)

    def text(self) -> str:
        """The problem in words: what its kernel's name is made from."""
        mods = {name: mod.text() for name, mod in self.mods.items()}
        return (
            f"{self.direction} {self.dtype} {self.cover} {mods} {self.needs} {self.top} {self.few}"
        )


def words_of(prefix: str, mod: Mod) -> list[str]:
    """Names of the words that a mod's captured tensors need: address, sizes and strides."""
    found = []
    for k, (shape, _) in enumerate(mod.captured):
        found.append(f"{prefix}{k}")
        for d in range(len(shape)):
            found += [f"{prefix}{k}_n{d}", f"{prefix}{k}_s{d}"]
    return found


_POINTERS = frozenset(
    ("q", "k", "v", "o", "g", "out", "lse", "top", "dlse", "dq", "dk", "dv", "parts", "shift")
    + ("delta", "sums", *BLOCKS)
)
_CAPTURED = re.compile(r"(score|mask|keep|grad)\d+")
_DOUBLES = ("scale", "keep_scale")


def kind_of(name: str) -> str:
    """The LLVM type of a word."""
    if name in _POINTERS or _CAPTURED.fullmatch(name):
        return "ptr"
    return "double" if name in _DOUBLES else "i64"


def base(f: Function, t: Words, x: str, b: Value, h: Value, size: int = 4) -> str:
    """Address of one head of an input."""
    offset = f.add(f.mul(b, t[f"{x}_b"]), f.mul(h, t[f"{x}_h"]))
    return f.gep("i8", t[x], f.mul(offset, size))
