"""``flambeau doctor``: what flambeau finds on this machine, whether it works, and how fast it is.

Each check ends with a next step where something is wrong. One matrix product is timed and compared
with what the processor could do at most, measured in the same breath.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import flambeau
from flambeau.kernels.limit import fma_limit
from flambeau.runtime import cpuinfo, objects

_PACKAGES = ("numpy", "llvmlite", "ml_dtypes", "safetensors", "rich", "platformdirs")
_FEATURES = {
    "x86_64": (
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512vl",
        "avx512bf16",
        "avx512fp16",
        "amx-bf16",
    ),
    "aarch64": ("neon", "fullfp16", "bf16", "dotprod", "sve", "sve2", "sme"),
}
_SIZE = 1024
_GEMM_SECONDS = 1.0
_GIB = 2**30
_MARKS = {"ok": "[green]ok[/green]", "warning": "[yellow]look[/yellow]", "broken": "[red]bad[/red]"}
_EXAMPLES = """\
examples:
  flambeau doctor                 a report for people
  flambeau doctor --json          the same for programs
  FLAMBEAU_CPU=avx2 flambeau doctor       as it would be on an older processor
"""


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Args:
        name: what was checked.
        state: ``ok``, ``warning`` (works, with a loss) or ``broken``.
        found: what was found.
        advice: the next step; empty when nothing is to be done.
    """

    name: str
    state: str
    found: str
    advice: str = ""


def cpu_report() -> dict[str, Any]:
    """The processor: names, features of note, caches in bytes, cores and threads."""
    features = cpuinfo.host_features()
    notable = _FEATURES.get(cpuinfo.machine(), ())
    return {
        "model": cpuinfo.model_name(),
        "machine": cpuinfo.machine(),
        "llvm_name": cpuinfo.cpu_name(),
        "features": [name for name in notable if name in features],
        "missing_features": [name for name in notable if name not in features],
        "vector_bits": 8 * cpuinfo.vector_bytes(),
        "cache_bytes": list(cpuinfo.cache_sizes()),
        "cores": cpuinfo.physical_cores(),
        "processors": cpuinfo.available_cpus(),
        "threads": flambeau.get_num_threads(),
    }


def memory_report() -> dict[str, int | None]:
    """Main memory in bytes: all of it, and what can be had now; None where it is not known."""
    total = available = None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if "kB" in line}
        total, available = sizes.get("MemTotal"), sizes.get("MemAvailable")
    except (OSError, ValueError, IndexError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"total": total, "available": available}


def cache_report() -> dict[str, Any]:
    """The folder of compiled objects: where it is, how many files it has and their bytes."""
    cache = objects.default()
    if cache is None:
        return {"enabled": False, "directory": None, "files": 0, "bytes": 0, "limit": 0}
    sizes = []
    if cache.directory.is_dir():
        for path in cache.directory.iterdir():
            try:
                sizes.append(path.stat().st_size)
            except OSError:  # another process has removed it meanwhile
                continue
    return {
        "enabled": True,
        "directory": str(cache.directory),
        "files": len(sizes),
        "bytes": sum(sizes),
        "limit": cache.limit,
    }


def version_report() -> dict[str, str]:
    """Versions of flambeau, Python, LLVM, the system and the packages that flambeau stands on."""
    versions = {
        "flambeau": flambeau.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "llvm": ".".join(map(str, cpuinfo.llvm().llvm_version_info)),
    }
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not found"
    return versions


def gemm_report() -> dict[str, float]:
    """GFLOP/s of one float32 matrix product, and the most that the threads in use could do."""
    a, b = flambeau.randn(_SIZE, _SIZE), flambeau.randn(_SIZE, _SIZE)

    def product() -> float:
        start = time.perf_counter()
        flambeau.matmul(a, b)[0, 0].item()
        return time.perf_counter() - start

    product()  # compiles
    best, end = math.inf, time.perf_counter() + _GEMM_SECONDS
    while time.perf_counter() < end:
        best = min(best, product())
    flops = 2.0 * _SIZE**3 / best / 1e9
    limit = flambeau.get_num_threads() * fma_limit("f32")
    return {
        "size": _SIZE,
        "gflops": round(flops, 1),
        "limit_gflops": round(limit, 1),
        "share": round(flops / limit, 3),
    }


def _check(name: str, advice: str, work: Callable[[], str]) -> Check:
    """Do something that should work; what it returns is what is reported."""
    try:
        return Check(name, "ok", work())
    except Exception as error:
        return Check(name, "broken", f"{type(error).__name__}: {error}", advice)


def _computes() -> str:
    x = flambeau.linspace(-2.0, 2.0, 1001, requires_grad=True)
    loss = (x.exp() * 2 + x).sum()
    loss.backward()
    values = np.linspace(-2.0, 2.0, 1001)
    expected = (np.exp(values) * 2 + values).sum()
    if not np.allclose(loss.item(), expected, rtol=1e-4):
        raise ArithmeticError(f"a sum was {loss.item()}, not {expected}")
    if x.grad is None or not np.allclose(x.grad.numpy(), np.exp(values) * 2 + 1, rtol=1e-4):
        raise ArithmeticError("a gradient is wrong")
    return "compiled code gives the right values and gradients"


def _multiplies() -> str:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 130, 70)), random.normal(size=(2, 70, 90))
    found = flambeau.matmul(flambeau.from_numpy(a), flambeau.from_numpy(b)).numpy()
    if not np.allclose(found, a @ b):
        raise ArithmeticError("a matrix product is wrong")
    return "matrix products are right"


def _cache_check(report: dict[str, Any]) -> Check:
    advice = "set FLAMBEAU_CACHE_DIR to a folder that you alone may write"
    if not report["enabled"]:
        found = "turned off: programs compile anew each time"
        return Check("cache", "warning", found, "unset FLAMBEAU_CACHE and FLAMBEAU_CACHE_SIZE")
    key = objects.digest("doctor", str(os.getpid()))
    cache = objects.default()
    assert cache is not None
    if not cache.put(key, b"doctor") or cache.get(key) != b"doctor":
        found = f"{report['directory']} cannot be used: programs compile anew each time"
        return Check("cache", "warning", found, advice)
    cache.remove(key)
    return Check("cache", "ok", "can be written and read")


def _version_check(versions: dict[str, str]) -> Check:
    missing = [name for name in _PACKAGES if versions[name] == "not found"]
    if missing:
        advice = f"pip install {' '.join(missing)}"
        return Check("packages", "broken", f"not found: {', '.join(missing)}", advice)
    return Check("packages", "ok", "all there")


def _memory_check(memory: dict[str, int | None]) -> Check:
    available = memory["available"]
    if available is not None and available < _GIB:
        found = f"{available / _GIB:.1f} GiB free"
        return Check("memory", "warning", found, "close programs, or train a smaller model")
    return Check("memory", "ok", "unknown" if available is None else f"{_gib(available)} free")


def examine() -> dict[str, Any]:
    """Everything the command reports, as plain values."""
    report: dict[str, Any] = {"versions": version_report(), "cpu": cpu_report()}
    report["devices"] = [{"type": "cpu", "available": True, "name": report["cpu"]["model"]}]
    report["memory_bytes"], report["cache"] = memory_report(), cache_report()
    advice = "run with FLAMBEAU_CACHE=0; if that helps, delete the cache's folder, else report it"
    checks = [
        _version_check(report["versions"]),
        _check("compiler", advice, _computes),
        _check("products", advice, _multiplies),
        _cache_check(report["cache"]),
        _memory_check(report["memory_bytes"]),
    ]
    if all(check.state != "broken" for check in checks):
        try:
            report["gemm"] = gemm_report()
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            checks.append(Check("speed", "broken", found, advice))
    report["checks"] = [asdict(check) for check in checks]
    report["healthy"] = all(check.state != "broken" for check in checks)
    return report


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / _GIB:.1f} GiB"


def _bytes(size: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.4g} {unit}"
    return f"{size} B"


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True, min_width=12)
    table.add_column(overflow="fold")
    return table


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report of :func:`examine` for people."""
    cpu, cache, memory = report["cpu"], report["cache"], report["memory_bytes"]
    machine = _table("[bold]machine[/bold]")
    for device in report["devices"]:
        machine.add_row("device", f"{device['type']}: {device['name']}")
    machine.add_row("features", f"{', '.join(cpu['features'])} ({cpu['llvm_name']})")
    if cpu["missing_features"]:
        machine.add_row("", f"[dim]without {', '.join(cpu['missing_features'])}[/dim]")
    machine.add_row("vectors", f"{cpu['vector_bits']} bits")
    levels = [f"L{i} {_bytes(size)}" for i, size in enumerate(cpu["cache_bytes"], 1) if size]
    machine.add_row("cpu caches", ", ".join(levels))
    machine.add_row(
        "threads",
        f"{cpu['threads']} in use, {cpu['cores']} cores, {cpu['processors']} processors",
    )
    machine.add_row("memory", f"{_gib(memory['total'])}, {_gib(memory['available'])} free")
    software = _table("\n[bold]software[/bold]")
    for name, version in report["versions"].items():
        software.add_row(name, version)
    where = "turned off"
    if cache["enabled"]:
        where = f"{cache['directory']}: {_bytes(cache['bytes'])} in {cache['files']} files"
        where += f", at most {_bytes(cache['limit'])}"
    software.add_row("object cache", where)
    checks = _table("\n[bold]checks[/bold]")
    for check in report["checks"]:
        checks.add_row(check["name"], f"{_MARKS[check['state']]}  {check['found']}")
        if check["advice"]:
            checks.add_row("", f"[bold]next step:[/bold] {check['advice']}")
    for table in (machine, software, checks):
        console.print(table)
    if "gemm" in report:
        gemm = report["gemm"]
        console.print(
            f"\n[bold]speed[/bold]\n{gemm['size']} x {gemm['size']} float32 product: "
            f"[bold]{gemm['gflops']:,.0f} GFLOP/s[/bold], {gemm['share']:.0%} of the "
            f"{gemm['limit_gflops']:,.0f} that {cpu['threads']} threads can do"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the options, without the command's name; the process's own when None.

    Returns:
        0 when everything essential works, else 1.
    """
    parser = argparse.ArgumentParser(
        prog="flambeau doctor",
        description="Show what flambeau finds on this machine, and whether it works.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(argv)
    report = examine()
    if options.json:
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        show(report, Console(highlight=False, soft_wrap=True))
    return 0 if report["healthy"] else 1
