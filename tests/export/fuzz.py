"""Files of exported programs, and ONNX models, with parts exchanged: loading one raises
ExportError, or gives a program that runs or raises as calls do. No file crashes the process, hangs
it, or fails otherwise.

    python -m tests.export.fuzz --files 10000

runs them in processes of their own and names the files that did (by seed) what they must not. A
loop that a file says has no end runs until it is stopped, like any program's; such files are
counted by themselves.
"""

from __future__ import annotations

import argparse
import io
import pickle
import random
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flambeau
from flambeau import nn
from flambeau.control import associative_scan, cond, scan, while_loop
from flambeau.control import map as each
from flambeau.export import Dim, ExportError, export, load, onnx, save

#: What calls of a program may raise.
RAISED = (RuntimeError, IndexError, ValueError, TypeError)
OUTCOMES = ("refused", "raised", "ran")
_CHUNK = 200
#: Seconds of computing that one file may take, and seconds in all.
_GUARD = 20.0
_ASLEEP = 300


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


class Control(nn.Module):
    """Graphs in graphs: branches in loops in branches, steps whose sizes are open."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 4)
        self.cell = nn.GRUCell(4, 3)

    def forward(self, x: Any) -> Any:
        y = self.words(x)

        def step(c: Any, v: Any) -> Any:
            h = self.cell(v, c)
            return h, cond(h.sum() > 0, lambda: h[:, ::2] * 2, lambda: h[:, :2] - 1)

        last, found = scan(step, y.new_zeros(y.shape[0], 3), y, dim=1, reverse=True)
        sums = associative_scan(lambda a, b: a * 0.5 + b, y, 1)
        count, large = while_loop(
            lambda n, z: (z.abs().sum() < 50) & (n < 9),
            lambda n, z: (n + 1, cond(n < 2, lambda: z + 1, lambda: z * 2)),
            (0, sums),
        )
        many = each(lambda r: r.flip(0).max(0)[0], y)
        return cond(count > 3, lambda: last, lambda: last.tanh()), found, large, many


def exported(net: type[nn.Module] = Tagger) -> Any:
    """The program whose files are exchanged."""
    words = flambeau.zeros(4, 5, dtype=flambeau.int64)
    sizes = {0: Dim("batch", max=512), 1: Dim("time", min=2, max=10000)}
    return export(net(), (words,), dynamic_shapes=(sizes,))


def zipped(entries: dict[str, bytes]) -> io.BytesIO:
    """A file of entries."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    made.seek(0)
    return made


def entries_of(program: Any) -> dict[str, bytes]:
    """What stands in a program's file."""
    sink = io.BytesIO()
    save(program, sink)
    with zipfile.ZipFile(sink) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# -- mutations -------------------------------------------------------------------------------------


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


def _fields(message: Any) -> Iterator[tuple[Any, Any, int | None]]:
    """All values of a protobuf message and those inside it: owner, field, place in the field."""
    for field, value in message.ListFields():
        many = [(k, v) for k, v in enumerate(value)] if field.is_repeated else [(None, value)]
        for place, v in many:
            yield message, field, place
            if field.message_type is not None:
                yield from _fields(v)


def mutated_model(data: bytes, chance: random.Random) -> bytes:
    """An ONNX model with a few fields exchanged, dropped or doubled, or with wrong bytes."""
    if chance.random() < 0.2:
        wrong = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            wrong[chance.randrange(len(wrong))] ^= chance.randint(1, 255)
        return bytes(wrong[: chance.choice([len(wrong), chance.randrange(len(wrong))])])
    import onnx as format_

    model = format_.ModelProto.FromString(data)
    for _ in range(chance.randint(1, 2)):
        places = [f for f in _fields(model) if f[1].name not in ("metadata_props", "raw_data")]
        owner, field, place = chance.choice(places)
        kin = [f for f in places if f[1] is field]
        other, _, there = chance.choice(kin)
        theirs = getattr(other, field.name)
        value = theirs if there is None else theirs[there]
        if field.message_type is None:
            if isinstance(value, (int, float)) and chance.random() < 0.5:
                value = type(value)(chance.choice([-1, 0, 1, 2, 3, 7, 64, (1 << 31) - 1]))
            if field.enum_type is not None:
                value = chance.choice(list(field.enum_type.values_by_number))
        own = getattr(owner, field.name)
        if chance.random() < 0.1:
            owner.ClearField(field.name)
        elif field.message_type is not None:
            copy = type(value).FromString(value.SerializeToString())
            (own if place is None else own[place]).CopyFrom(copy)
        elif place is None:
            setattr(owner, field.name, value)
        else:
            own[place] = value
    return bytes(model.SerializeToString())


# -- what becomes of a file ------------------------------------------------------------------------


def attempt(file: dict[str, bytes] | bytes, x: Any) -> str:
    """Load a program, or a model, and run it: one of `OUTCOMES`."""
    try:
        if isinstance(file, bytes):
            with tempfile.NamedTemporaryFile(suffix=".onnx") as sink:
                sink.write(file)
                sink.flush()
                module = onnx.load(sink.name).module()
        else:
            module = load(zipped(file)).module()
    except ExportError:
        return "refused"
    print("loaded", end=" ", flush=True)
    try:
        with flambeau.no_grad():
            for leaf in flambeau.pytree.tree_leaves(module(x)):
                leaf.sum().item()
    except RAISED:
        return "raised"
    return "ran"


def corpus() -> list[Any]:
    """Files that are exchanged: entries of archives, and bytes of models."""
    programs = [exported(net) for net in (Tagger, Control)]
    models = [onnx.export(p).model_proto.SerializeToString() for p in programs]
    tagger, control = map(entries_of, programs)
    often = [tagger, control, models[1]]
    return [*often * 8, models[0]]  # which takes half as long as all the others


def _chunk(path: str, first: int, count: int) -> None:
    """In a process of its own: files of some seeds."""
    files = pickle.loads(Path(path).read_bytes())
    x = flambeau.randint(0, 11, (3, 7))
    for seed in range(first, first + count):
        print(seed, end=" ", flush=True)
        signal.setitimer(signal.ITIMER_VIRTUAL, _GUARD)  # ends the process, native code or not
        signal.alarm(_ASLEEP)
        file, chance = files[seed % len(files)], random.Random(seed)
        changed = mutated_model if isinstance(file, bytes) else mutated
        print(attempt(changed(file, chance), x), flush=True)


def main() -> int:
    """Run as many files as are asked for; -> 1 if one did what it must not."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--path", type=Path, default=Path("fuzzed"), help="where to work")
    given = parser.parse_args()
    given.path.write_bytes(pickle.dumps(corpus()))
    counts: Counter[str] = Counter()
    wrong = []
    seed, end = given.first, given.first + given.files
    while seed < end:
        code = f"from tests.export.fuzz import _chunk; _chunk({str(given.path)!r}, {seed}, "
        code += f"{min(_CHUNK, end - seed)})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        why = f"ended with {done.returncode}: {done.stderr.decode()[-500:]}"
        lines = done.stdout.decode().split("\n")
        counts.update(line.split()[-1] for line in lines[:-1])
        seed += len(lines) - 1
        last = lines[-1].split()
        if not done.returncode:
            continue
        if last[1:] and done.returncode == -signal.SIGVTALRM:
            counts["endless"] += 1
        else:
            wrong.append((last[:1] or str(seed), why))
        print(seed, last, why.splitlines()[-1], flush=True)
        seed += 1
    given.path.unlink()
    print(dict(counts), "wrong:", wrong)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
