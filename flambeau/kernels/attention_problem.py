"""What an attention kernel is made for, and the table of words that it is given.

Shapes: q (B, Hq, L, E), k (B, Hk, S, E), v (B, Hk, S, V), out (B, Hq, L, V), lse (B, Hq, L); Hq is
a multiple of Hk. Inputs may be strided; results are row-major.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau.kernels.emit import Function, Value

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
RESULTS = {"forward": ("out", "lse"), "backward": ("dq", "dk", "dv")}
SIZES = ("B", "Hq", "Hk", "L", "S", "E", "V")
#: what the kernels keep between their parallel parts
OWN = {"forward": ("parts",), "backward": ("shift", "delta", "parts")}
#: keys of a block, for which the scores stay in cache
KEYS = 128


@dataclass(frozen=True)
class Problem:
    """What is compiled in.

    Attributes:
        direction: forward or backward.
        dtype: f32, bf16 or f16: of q, k, v and the results.
        cover: which keys a query may see: "all", "causal" (keys up to its own number), or "blocks"
            (those that a block mask lists).
    """

    direction: str
    dtype: str = "f32"
    cover: str = "all"

    @property
    def fields(self) -> list[str]:
        """Names of the table's words, in order."""
        names = [*INPUTS[self.direction], *RESULTS[self.direction]]
        names += [*SIZES, "scale", "units", "tiles", "chunks", *OWN[self.direction]]
        for x in INPUTS[self.direction]:
            names += [f"{x}_{axis}" for axis in AXES[x]]
        return names


_POINTERS = {"q", "k", "v", "o", "g", "out", "lse", "dlse", "dq", "dk", "dv"} | {
    "parts",
    "shift",
    "delta",
}


class Table:
    """The words of a problem, loaded by name once in a function."""

    def __init__(self, f: Function, problem: Problem) -> None:
        self.f = f
        self.at = {name: k for k, name in enumerate(problem.fields)}
        self.known: dict[str, str] = {}

    def preload(self, *names: str) -> None:
        """Load words on entry, so that loops only use them."""
        for name in names:
            self[name]

    def place(self, name: str) -> str:
        """The address of a word."""
        return self.f.gep("i64", "%t", self.at[name])

    def __getitem__(self, name: str) -> str:
        if name not in self.known:
            kind = "ptr" if name in _POINTERS else "double" if name == "scale" else "i64"
            self.known[name] = self.f.load(kind, self.place(name), 8)
        return self.known[name]


def base(f: Function, t: Table, x: str, b: Value, h: Value, size: int = 4) -> str:
    """Address of one head of an input."""
    offset = f.add(f.mul(b, t[f"{x}_b"]), f.mul(h, t[f"{x}_h"]))
    return f.gep("i8", t[x], f.mul(offset, size))
