"""Exported programs with the machine code that runs them on processors like this one.

The program is run, for some values of its sizes, in a process of its own whose object cache is
empty; what lies there afterwards is all that running it takes, and is stored beside it. The kernels
take sizes when they run, so that it holds for the others as well. Where one that is met later needs
a kernel that none of these sizes did, that one is compiled as ever.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flambeau import record
from flambeau.autograd import no_grad
from flambeau.dtypes import bool as bool_dtype
from flambeau.export.archive import entries_of, load, program_of, save
from flambeau.export.dims import ExportError
from flambeau.export.program import ExportedModule, ExportedProgram
from flambeau.ir.symbol import SMALLEST, filled
from flambeau.ops.rows import NAMES
from flambeau.pytree import tree_unflatten
from flambeau.runtime import family, jit, objects
from flambeau.serialization import replacing
from flambeau.version import __version__

_CODE = "aot/objects/"
_TARGET = "aot/target.json"
#: Sizes that kernels may tell apart: few and many elements, odd ones, whole vectors, long and wide.
_SIZES = (
    (5, 7, 3), (16, 64, 32), (37, 97, 61), (128, 256, 64), (2, 300, 16), (300, 2, 16), (64, 64, 64),
)  # fmt: skip


def compile_aot(
    ep: ExportedProgram,
    f: str | os.PathLike[str],
    *,
    sizes: Sequence[Mapping[str, int]] | None = None,
) -> None:
    """Write an exported program together with its compiled kernels.

    Args:
        ep: the program.
        f: a path. The file is also one that `load` reads, without looking at the code.
        sizes: values of the program's named sizes that it is compiled for; by default a few in
            their ranges. Others work too.

    Raises:
        ExportError: the program does not run.
    """
    plain = io.BytesIO()
    save(ep, plain)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.pt2"
        path.write_bytes(plain.getvalue())
        chosen = [dict(s) for s in sizes] if sizes is not None else _chosen(ep)
        environment = {
            **os.environ,
            "FLAMBEAU_CACHE": "1",
            "FLAMBEAU_CACHE_DIR": folder,
            "FLAMBEAU_CACHE_SIZE": "16GB",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(path), json.dumps(chosen)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ExportError(f"the program cannot be compiled: {done.stderr[-2000:].strip()}")
        (cache,) = Path(folder).glob("objects-*")
        compiled = objects.ObjectCache(cache, 1 << 40).items()
    target = {"version": __version__, "processor": jit.target(), "sizes": chosen}
    with zipfile.ZipFile(plain, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(_TARGET, json.dumps(target))
        for key, code in sorted(compiled.items()):
            archive.writestr(_CODE + key.hex(), code)
    with replacing(Path(f)) as sink:
        sink.write(plain.getvalue())


_CHILD = "import sys; from flambeau.export.aot import _run; _run(*sys.argv[1:])"


def _run(path: str, sizes: str) -> None:
    """In a process of its own: run a program for some sizes."""
    program = load(path)
    module = AheadModule(program)
    symbols = program.traced.symbols
    for chosen in json.loads(sizes):
        unknowns = symbols.unknowns_at([int(chosen[n]) for n in symbols.names])
        leaves = []
        for i in program.inputs:
            if i.dtype is None:
                leaves.append(i.value)
                continue
            shape = filled(i.shape, unknowns)
            zeros = i.dtype.category < 2 and i.dtype is not bool_dtype  # any place is inside
            leaves.append(NAMES["zeros" if zeros else "ones"](*shape, dtype=i.dtype))
        args, kwargs = tree_unflatten(leaves, program.in_spec)
        module(*args, **kwargs)


def _chosen(ep: ExportedProgram) -> list[dict[str, int]]:
    """Values of the sizes, within their ranges, for which the guards hold."""
    symbols = ep.traced.symbols
    names = symbols.names
    found = [dict(zip(names, symbols.at_hand, strict=False))]
    for ones in _parts(names):  # a size of 1 makes another program
        found += [_within(ep, row, ones) for row in (_SIZES[1:3] if ones else _SIZES)]
    return [dict(s) for s in dict.fromkeys(tuple(v.items()) for v in found if _allowed(ep, v))]


def _parts(names: Sequence[str]) -> list[frozenset[str]]:
    """None, each and all of some names, and each but one."""
    every = frozenset(names)
    alone = [frozenset((n,)) for n in names]
    return list(dict.fromkeys((frozenset(), *alone, *(every - a for a in alone), every)))


def _within(ep: ExportedProgram, row: Sequence[int], ones: frozenset[str]) -> dict[str, int]:
    """Sizes like a row's, some of them 1, moved into their ranges."""
    values = {}
    for k, (name, (low, high)) in enumerate(ep.range_constraints.items()):
        n = max(1 if name in ones else row[k % len(row)], low)
        values[name] = n if high is None else min(n, high)
    return values


def _allowed(ep: ExportedProgram, values: Mapping[str, int]) -> bool:
    """Whether the program's guards hold for some sizes."""
    asked = [max(values[n], SMALLEST) for n in ep.traced.symbols.names]
    return all(g.holds(g.expression.space.unknowns_at(asked)) for g in ep.guards)


def load_aot(f: str | os.PathLike[str]) -> AheadModule:
    """Read what `compile_aot` wrote, to run it without compiling.

    The code in the file is run as it is: read files that you trust. `load` reads the same files
    and runs none of it; it gives a program that can be trained.

    Args:
        f: a path.

    Raises:
        ExportError: the file is damaged, holds no code, or code for another processor or version.
        FileNotFoundError: there is no such file.
    """
    entries = entries_of(f)
    program = program_of(entries)
    if _TARGET not in entries:
        raise ExportError("this program was saved without code; write it with compile_aot()")
    try:
        target = json.loads(entries[_TARGET])
        made_for = str(target["processor"]), str(target["version"])
        code = {
            bytes.fromhex(name.removeprefix(_CODE)): data
            for name, data in entries.items()
            if name.startswith(_CODE)
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"the code of the program is damaged: {error}") from None
    here = jit.target(), __version__
    if made_for != here:
        raise ExportError(
            f"this program was compiled for {made_for[0]} by flambeau {made_for[1]}, and this is "
            f"{here[0]}, flambeau {here[1]}; compile it again, or read it with load()"
        )
    objects.give(code)
    return AheadModule(program)


class AheadModule(ExportedModule):
    """Runs an exported program by itself, without gradients: what is recorded before and after a
    call is not part of the call's program, and sizes that came before are not looked at, so that
    its kernels are those that were compiled."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The program's result."""
        record.flush()
        with no_grad(), family.alone():
            found = super().forward(*args, **kwargs)
            record.flush()
        return found


__all__ = ["AheadModule", "compile_aot", "load_aot"]
