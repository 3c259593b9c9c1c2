"""What a library costs before it does anything: the time of its import, and its size on disk."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import re
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.contenders import CONTENDERS, ROOT, environment


@dataclass
class Footprint:
    """Seconds of `import`, beyond starting Python, and bytes installed, dependencies included."""

    name: str
    import_seconds: float
    installed_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)


def import_seconds(packages: list[str], rounds: int, caches: Path) -> dict[str, float]:
    """Median time of importing each package, in fresh processes started in turns."""
    taken: dict[str, list[float]] = {package: [] for package in ["", *packages]}
    variables = environment(1, caches)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    variables["PYTHONPYCACHEPREFIX"] = str(caches / "bytecode")
    for number in range(rounds + 1):
        for package, times in taken.items():
            command = f"import {package}" if package else ""
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", command], env=variables, check=True, cwd=ROOT)
            if number:  # the first round only fills the caches
                times.append(time.perf_counter() - started)
    python = statistics.median(taken.pop(""))
    return {package: statistics.median(times) - python for package, times in taken.items()}


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder, compiled Python left out."""
    return sum(
        (Path(base) / file).stat().st_size
        for base, _, files in os.walk(folder)
        for file in files
        if not file.endswith(".pyc")
    )


def needs(requirements: list[str]) -> list[str]:
    """The distributions that requirement lines name, leaving out extras and other systems."""
    found = []
    for requirement in requirements:
        name, _, marker = requirement.partition(";")
        if "extra" in marker or "win32" in marker or "Windows" in marker:
            continue
        match = re.match(r"[\w.-]+", name.strip())
        assert match is not None
        found.append(match.group())
    return found


def installed_bytes(package: str) -> int:
    """Bytes of a distribution and of all it depends on, each counted once."""
    seen: set[str] = set()
    total = 0
    if package == "flambeau":  # also measured from a checkout that is not installed
        total += size_of(ROOT / "flambeau")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        waiting = needs(project["dependencies"])
    else:
        waiting = [package]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an optional part, or one for another system
        paths = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
        total += sum(p.stat().st_size for p in paths if p.suffix != ".pyc" and p.is_file())
        waiting += needs(distribution.requires or [])
    return total


def measure(
    names: list[str], rounds: int, caches: Path, say: Callable[[str], None]
) -> list[Footprint]:
    """The footprints of the contenders that are installed."""
    libraries = ["flambeau", "torch", "jax"]
    wanted = [name for name in libraries if name in names and CONTENDERS[name].is_installed()]
    say("import time and installed size")
    seconds = import_seconds(wanted, rounds, caches)
    return [Footprint(name, seconds[name], installed_bytes(name)) for name in wanted]
