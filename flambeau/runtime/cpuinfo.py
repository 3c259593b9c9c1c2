"""What the processor can do: name, features, vector width, caches, cores.

Everything is found on first use and kept. LLVM is asked for the name and the features, so this
module also owns the one place where llvmlite is loaded (`llvm()`): its shared library takes 40
to 250 ms to map, which `import flambeau` does not pay.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import math
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

# What FLAMBEAU_CPU may restrict to: LLVM's name for the processor, the features left.
_X86_BASE = frozenset({"64bit", "cmov", "cx8", "fxsr", "mmx", "sse", "sse2"})
_X86_V3 = _X86_BASE | {
    "avx", "avx2", "bmi", "bmi2", "crc32", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt",
    "sahf", "sse3", "sse4.1", "sse4.2", "ssse3", "xsave",
}  # fmt: skip
_X86_V4 = _X86_V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_LEVELS = {
    "generic": ("x86-64", _X86_BASE),
    "avx2": ("x86-64-v3", _X86_V3),
    "avx512": ("x86-64-v4", _X86_V4),
}


@functools.cache
def llvm() -> Any:
    """llvmlite.binding with the host's code generator initialised (loaded on the first call)."""
    binding = importlib.import_module("llvmlite.binding")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


@functools.cache
def llvm_version() -> str:
    """The versions of llvmlite and of the LLVM inside it."""
    number = ".".join(map(str, llvm().llvm_version_info))
    return f"llvmlite {importlib.import_module('llvmlite').__version__}, LLVM {number}"


@functools.cache
def machine() -> str:
    """The instruction set: "x86_64", "aarch64" or what the platform calls itself."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


@functools.cache
def _native_features() -> dict[str, bool]:
    return dict(llvm().get_host_cpu_features())


@functools.cache
def _level() -> str:
    """FLAMBEAU_CPU, checked: "native" or a level of this machine's instruction set."""
    level = os.environ.get("FLAMBEAU_CPU", "").strip().lower() or "native"
    if level == "native" or level == "generic":
        return level
    if level not in _LEVELS:
        known = ", ".join(["native", *_LEVELS])
        raise ValueError(f"FLAMBEAU_CPU must be one of {known}, but got {level!r}")
    missing = set() if machine() == "x86_64" else {machine()}
    if machine() == "x86_64":
        missing = {name for name in _LEVELS[level][1] if _native_features().get(name) is False}
    if missing:
        raise RuntimeError(
            f"FLAMBEAU_CPU={level}: this processor lacks {', '.join(sorted(missing))}"
        )
    return level


def cpu_name() -> str:
    """LLVM's name for the processor code is generated for, such as "znver4" or "apple-m1"."""
    if _level() == "native":
        return str(llvm().get_host_cpu_name())
    return _LEVELS[_level()][0] if machine() == "x86_64" else "generic"


@functools.cache
def host_features() -> frozenset[str]:
    """LLVM's names of the features generated code may use ("avx512f", "avx512bf16", "neon", ...).

    FLAMBEAU_CPU=avx2|avx512|generic leaves only that level's, to test the code other machines get.
    """
    native = frozenset(name for name, there in _native_features().items() if there)
    if _level() == "native":
        return native
    if machine() == "x86_64":
        return native & _LEVELS[_level()][1] | _LEVELS[_level()][1]
    return native & {"neon", "fp-armv8"}


@functools.cache
def feature_string() -> str:
    """The features in the form LLVM's target machine takes ("+avx2,-avx512f,...")."""
    if _level() == "native":
        return ",".join(
            f"{'+' if on else '-'}{name}" for name, on in sorted(_native_features().items())
        )
    return ",".join(f"+{name}" for name in sorted(host_features()))


@functools.cache
def vector_bytes() -> int:
    """The widest vector register generated code should use, in bytes: 64, 32 or 16."""
    features = host_features()
    if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= features:
        return 64
    return 32 if "avx2" in features else 16


def available_cpus() -> int:
    """Processors this process may use: its affinity mask, capped by its control group's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, math.ceil(quota)) if quota else count)


@functools.cache
def _cgroup_quota() -> float | None:
    """Processors' worth of time that the control group grants (containers), None: unlimited."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return None if quota == "max" else float(quota) / float(period)
    except (OSError, ValueError):
        pass
    try:
        base = Path("/sys/fs/cgroup/cpu")
        quota_us = int((base / "cpu.cfs_quota_us").read_text())
        return None if quota_us <= 0 else quota_us / int((base / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return None


def physical_cores() -> int:
    """Distinct cores among the processors this process may run on (hyper-threads counted once)."""
    if not hasattr(os, "sched_getaffinity"):
        return _sysctl("hw.physicalcpu") or available_cpus()
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            siblings = Path(
                f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            ).read_text()
        except OSError:
            return available_cpus()
        cores.add(siblings.strip())
    return max(1, min(len(cores), available_cpus()))


@functools.cache
def cache_sizes() -> tuple[int, int, int]:
    """Data cache sizes in bytes (L1 of a core, L2 of a core, L3 whole; 0 where there is none)."""
    sizes = {1: 0, 2: 0, 3: 0}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level = (index / "type").read_text().strip(), int((index / "level").read_text())
            match = re.fullmatch(r"(\d+)([KMG]?)", (index / "size").read_text().strip())
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and match and level in sizes:
            sizes[level] = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
    if not sizes[1] and sys.platform == "darwin":
        for level, names in ((1, ("hw.perflevel0.l1dcachesize", "hw.l1dcachesize")),
                             (2, ("hw.perflevel0.l2cachesize", "hw.l2cachesize")),
                             (3, ("hw.l3cachesize",))):  # fmt: skip
            sizes[level] = next((size for name in names if (size := _sysctl(name))), 0)
    if not sizes[1]:
        return 32 << 10, 1 << 20, 0
    return sizes[1], sizes[2] or 256 << 10, sizes[3]


def _sysctl(name: str) -> int:
    """An integer of macOS's sysctl, 0 when there is none."""
    if sys.platform != "darwin":
        return 0
    value, size = ctypes.c_int64(0), ctypes.c_size_t(8)
    failed = ctypes.CDLL(None).sysctlbyname(
        name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return 0 if failed else value.value  # little endian: right for 4 bytes as for 8


@functools.cache
def model_name() -> str:
    """The processor's name as its maker writes it, for people ("AMD EPYC ..."), or LLVM's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")) and ":" in line:
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or cpu_name()
