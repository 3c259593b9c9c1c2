"""Files of exported programs with words exchanged: loading one raises ExportError, or gives a
program that runs or raises as calls do. No file crashes the process, hangs it, or fails otherwise.

    python -m tests.export.fuzz --files 10000

runs them in processes of their own and names the files that did (by seed) what they must not.
"""

from __future__ import annotations

import argparse
import io
import random
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import flambeau
from flambeau import nn
from flambeau.control import cond, scan
from flambeau.export import Dim, ExportError, export, load, save

#: What calls of a program may raise.
RAISED = (RuntimeError, IndexError, ValueError, TypeError)
_CHUNK = 100
_SECONDS = 300


class Tagger(nn.Module):
    """Some of everything: a lookup, a recurrence, attention, norms, a scan, branches, sorting."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.sequence = nn.LSTM(8, 16, batch_first=True)
        self.narrow = nn.Linear(16, 4)
        self.norm = nn.BatchNorm1d(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        y = self.narrow(self.sequence(self.words(x))[0])
        y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        z = self.attention(y, y, y, need_weights=False)[0]
        last, _ = scan(lambda c, v: ((c * 0.5 + v).tanh(), c), z[:, 0], z, dim=1)
        last = cond(last.sum() > 0, lambda: last.exp() * z[:, -1], lambda: last - 1)
        return {
            "c": last,
            "p": (z.softmax(-1).cumsum(1)[:, ::2], z.sum()),
            "s": z[..., 0].sort(-1)[0],
        }


def exported() -> Any:
    """The program whose files are exchanged."""
    words = flambeau.zeros(4, 5, dtype=flambeau.int64)
    sizes = {0: Dim("batch", max=512), 1: Dim("time", min=2, max=10000)}
    return export(Tagger(), (words,), dynamic_shapes=(sizes,))


def zipped(entries: dict[str, bytes]) -> io.BytesIO:
    """A file of entries."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    made.seek(0)
    return made


def mutated(entries: dict[str, bytes], chance: random.Random) -> dict[str, bytes]:
    """The entries with a few words of one text exchanged."""
    name = chance.choice([n for n in entries if n.endswith((".txt", ".json"))])
    words = re.findall(r"\w+|\W", entries[name].decode())
    places = [k for k, w in enumerate(words) if w.isidentifier() or w.isdigit()]
    for _ in range(chance.randint(1, 2)):
        words[chance.choice(places)] = chance.choice(
            [words[chance.choice(places)], str(chance.randint(0, 64)), "time", "None", "-1"]
        )
    return {**entries, name: "".join(words).encode()}


def attempt(entries: dict[str, bytes], x: Any) -> str:
    """Load a program and run it: "refused", "raised" or "ran"."""
    try:
        module = load(zipped(entries)).module()
    except ExportError:
        return "refused"
    try:
        with flambeau.no_grad():
            for leaf in flambeau.pytree.tree_leaves(module(x)):
                leaf.sum().item()
    except RAISED:
        return "raised"
    return "ran"


def _chunk(path: str, first: int, count: int) -> None:
    """In a process of its own: files of some seeds."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    x = flambeau.randint(0, 11, (3, 7))
    for seed in range(first, first + count):
        print(seed, end=" ", flush=True)
        print(attempt(mutated(entries, random.Random(seed)), x), flush=True)


def main() -> int:
    """Run as many files as are asked for; -> 1 if one did what it must not."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--path", type=Path, default=Path("fuzzed.pt2"), help="where to work")
    given = parser.parse_args()
    save(exported(), given.path)
    counts: Counter[str] = Counter()
    wrong = []
    seed, end = given.first, given.first + given.files
    while seed < end:
        code = f"from tests.export.fuzz import _chunk; _chunk({str(given.path)!r}, {seed}, "
        code += f"{min(_CHUNK, end - seed)})"
        try:
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, timeout=_SECONDS, check=False
            )
            out, why = done.stdout, done.stderr.decode()[-500:] or f"signal {-done.returncode}"
            if done.returncode and not out:  # it did not begin
                wrong.append((str(seed), why))
        except subprocess.TimeoutExpired as error:
            out, why = error.stdout or b"", "it does not end"
        lines = out.decode().split("\n")
        counts.update(line.split()[1] for line in lines if len(line.split()) == 2)
        last = lines[-1].split()
        if last:  # a seed without its outcome
            wrong.append((last[0], why))
            seed = int(last[0]) + 1
        else:
            seed += _CHUNK
    given.path.unlink()
    print(dict(counts), "wrong:", wrong)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
