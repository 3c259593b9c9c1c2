"""Compiled kernels: found by name in memory, in the object cache, or compiled together."""

from __future__ import annotations

import functools
import os
import threading
import weakref
import zlib
from collections.abc import Callable
from typing import Any

from flambeau.codegen import vecmath
from flambeau.codegen.emitted import version_of
from flambeau.codegen.llvm import Kernel
from flambeau.kernels import matmul, scatter
from flambeau.runtime import cpuinfo, jit, objects, threads

#: dtype -> the matrix product that computes it
GEMM = {
    "float32": "fl_gemm_f32",
    "float64": "fl_gemm_f64",
    "bfloat16": "fl_gemm_bf16",
    "float16": "fl_gemm_f16",
}
_loaded: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _after_fork() -> None:
    """In a child: another thread of the parent may have held the lock, and it is not here."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def vector_bytes() -> int:
    """Bytes of the host's vectors."""
    return cpuinfo.vector_bytes()


class Addresses(dict[str, int]):
    """Kernel name -> address, with the libraries that must stay alive."""

    libraries: list[Any]

    def body(self, name: str) -> int:
        """The address of the body of a region's kernel, (table, begin, end, worker)."""
        return int(_loaded[name].address(f"{name}_body"))


def _written(symbol: str, write: Callable[[frozenset[str]], str]) -> str:
    """The module of a kernel, which is written once for all processes of a machine.

    Args:
        symbol: the kernel; with the features, all that its text depends on.
        write: the CPU's features -> the text.
    """
    features = cpuinfo.host_features()
    version = version_of(("codegen", "kernels"))
    if version is None:
        return write(features)
    key = objects.digest("module", symbol, " ".join(sorted(features)), version)
    found = objects.get(key)
    if found is not None:
        return zlib.decompress(found).decode()
    text = write(features)
    objects.put(key, zlib.compress(text.encode(), 1))
    return text


@functools.cache
def _gemm(name: str) -> Any:
    dtype = name.removeprefix("fl_gemm_")
    return jit.load(_written(name, functools.partial(matmul.module_text, dtype)), name)


@functools.cache
def _scatter(dtype_name: str, mode: str, count: int) -> Any:
    return jit.load(scatter.module_text(dtype_name, mode, count), "scatter")


@functools.cache
def _claimed(symbol: str, write: Callable[[frozenset[str]], str]) -> Any:
    return jit.load(_written(symbol, write), symbol)


def module(kernel: Kernel) -> str:
    """A kernel's text with the vector functions it calls."""
    declared = sorted(vecmath.declarations(kernel.math))
    own = kernel.text.splitlines()
    known = {line for line in own if line.startswith("declare")}
    extra = [d for d in declared if d not in known]
    return "\n".join([*extra, vecmath.definitions(kernel.math), *own])


def addresses(
    kernels: list[Kernel], gemms: set[str], scatters: dict[str, Any], claimed: dict[str, Any]
) -> Addresses:
    """Native code for every kernel named."""
    found = Addresses()
    found.libraries = []
    threads.get_num_threads()
    with _lock:
        missing = [k for k in kernels if k.name not in _loaded]
        if missing:
            fresh = jit.load_many([module(k) for k in missing])
            for k, library in zip(missing, fresh, strict=True):
                _loaded[k.name] = library
                found.libraries.append(library)
        for k in kernels:
            library = _loaded[k.name]
            found.libraries.append(library)
            found[k.name] = library.address(k.name)
        for name, what in scatters.items():
            library = _scatter(*what)
            found.libraries.append(library)
            found[name] = library.address(name)
        for name, claim in claimed.items():
            for needed in claim.needs:
                found.libraries.append(_gemm(needed))
                jit.provide(needed, functools.partial(_gemm(needed).address, needed))
            library = _claimed(claim.symbol, claim.text)
            found.libraries.append(library)
            found[name] = library.address(name)
        for name in gemms:
            library = _gemm(name)
            found.libraries.append(library)
            found[name] = library.address(name)
    return found
