"""Names of the package that are imported when they are first asked for: importing it is light."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

#: Name -> the module that defines it.
NAMES = {
    "explain": "flambeau.explanation",
    "Explanation": "flambeau.explanation",
    "save": "flambeau.serialization",
    "load": "flambeau.serialization",
    "vmap": "flambeau.func",
    "cond": "flambeau.control",
    "autocast": "flambeau.amp",
    "GradScaler": "flambeau.amp",
    "OutOfMemoryError": "flambeau.interpose.standins.cuda",
    **dict.fromkeys(
        (
            "is_autocast_enabled",
            "set_autocast_enabled",
            "get_autocast_dtype",
            "set_autocast_dtype",
            "is_autocast_cache_enabled",
            "set_autocast_cache_enabled",
            "clear_autocast_cache",
            "autocast_increment_nesting",
            "autocast_decrement_nesting",
            "is_autocast_cpu_enabled",
            "set_autocast_cpu_enabled",
            "get_autocast_cpu_dtype",
            "set_autocast_cpu_dtype",
            "get_autocast_gpu_dtype",
            "set_autocast_gpu_dtype",
        ),
        "flambeau.amp.autocast_mode",
    ),
}

#: Modules below the package, and those that the package has only in the form torch's programs see.
MODULES = (
    "data",
    "utils",
    "compiler",
    "safetensors",
    "serialization",
    "tensorboard",
    "amp",
    "distributed",
    "export",
    "distributions",
    "fft",
    "linalg",
    "masked",
    "signal",
    "special",
    "func",
    "testing",
    "library",
    "profiler",
    "overrides",
    "array_api",
    "fx",
    "nested",
)
STANDINS = (
    "accelerator",
    "backends",
    "cpu",
    "cuda",
    "jit",
    "mps",
    "multiprocessing",
    "types",
    "version",
    "xpu",
)


def _exists(name: str) -> bool:
    return importlib.util.find_spec(f"flambeau.{name}") is not None


def attribute(name: str) -> Any:
    """The `__getattr__` of the package: import what `name` stands for.

    Raises:
        AttributeError: the package has no such name.
    """
    package = sys.modules["flambeau"]
    found: Any = None
    if name in NAMES:
        found = getattr(importlib.import_module(NAMES[name]), name)
    elif name in MODULES and _exists(name):
        found = importlib.import_module(f"flambeau.{name}")
    elif name in STANDINS:
        found = importlib.import_module(f"flambeau.interpose.standins.{name}")
    if found is None:
        raise AttributeError(f"module 'flambeau' has no attribute {name!r}", name=name, obj=package)
    setattr(package, name, found)
    return found


def names() -> list[str]:
    """The `__dir__` of the package: with what has not been imported yet."""
    modules = filter(_exists, MODULES)
    return sorted({*vars(sys.modules["flambeau"]), *NAMES, *modules, *STANDINS})
