"""LLVM IR text to callable machine code, by way of the object cache.

`load(ir)` compiles for this processor (or finds the object on disk) and links it into the process.
The generated code is position-independent and reaches everything outside itself through tables
beside it, so it may lie any distance from what it calls. The code of a `Library` is unmapped when
the last reference to the Library goes.

Modules may call the C library, symbols other parts of the runtime offer with `provide` (such as
`fl_parallel_for`), and whatever was given to llvmlite's `add_symbol`.

Note [Pass pipeline]
Our generators write explicit vectors, hoist what is invariant and repeat little, so most of LLVM's
O2 finds nothing to do, at half the compile time. The default pipeline inlines what is marked
`alwaysinline`, drops what is unused, promotes stack slots to registers and simplifies; on the
matrix multiplication and the vector math the code runs as fast as O2's (sine: a tenth slower)
and compiles in 60 % of the time. `optimize=True` asks for O2, without the loop
and SLP vectorisers, for modules that need LLVM to find invariants or common subexpressions.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flambeau.runtime import cpuinfo, objects, profile, softfloat

_PIPELINE = (
    "always_inliner",
    "global_dead_code_eliminate",
    "sroa",
    "instruction_combine",
    "simplify_cfg",
)
_OPTIMIZE_LEVEL = 2
_CODEGEN_LEVEL = 2  # 1 and 3 take as long and give the same code

_FUNCTION = re.compile(r'(define|declare) ([^@\n]*)@("[^"]+"|[-\w.$]+)\(')

# Held while compiling and linking. Whoever holds the thread pool's lock does not wait for this one.
lock = threading.RLock()
_serial = itertools.count()
_provided: dict[str, Callable[[], int]] = {}
_loaded: weakref.WeakValueDictionary[bytes, Library] = weakref.WeakValueDictionary()
_idle: list[_Compiler] = []


class Library:
    """Machine code in this process, callable as long as the Library is referenced."""

    __slots__ = ("__weakref__", "_addresses", "_tracker", "key", "name")

    def __init__(self, name: str, key: bytes, tracker: Any, addresses: dict[str, int]) -> None:
        self.name = name
        self.key = key
        self._tracker = tracker
        self._addresses = addresses

    def address(self, symbol: str) -> int:
        """Where the function `symbol` lies.

        Raises:
            KeyError: when the module defines no such external function.
        """
        try:
            return self._addresses[symbol]
        except KeyError:
            known = ", ".join(sorted(self._addresses)) or "nothing"
            raise KeyError(
                f"library {self.name!r} has no function {symbol!r}; it has {known}"
            ) from None

    def function(self, symbol: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """A ctypes function for `symbol`, which releases the GIL while it runs.

        It does not keep the Library alive.
        """
        return ctypes.CFUNCTYPE(result, *arguments)(self.address(symbol))

    def __repr__(self) -> str:
        return f"<Library {self.name!r}: {', '.join(sorted(self._addresses))}>"


def provide(symbol: str, address: Callable[[], int]) -> None:
    """Offer native code under a name: modules that declare `symbol` are linked to `address()`.

    `address` is called when the first such module is loaded; what it points to must never go away.
    """
    _provided[symbol] = address


def load(ir_text: str, name: str = "", optimize: bool = False) -> Library:
    """Compile a module of LLVM IR text for this processor and link it into the process.

    Loading the same text again while its Library is alive returns that Library.

    Args:
        ir_text: the module (opaque pointers); its external definitions are the Library's functions.
        name: what to call it in messages.
        optimize: run LLVM's O2 rather than the short pipeline; see Note [Pass pipeline].

    Raises:
        RuntimeError: the IR does not parse or verify, or calls something that does not exist.
    """
    return load_many([ir_text], name, optimize)[0]


def load_many(ir_texts: Sequence[str], name: str = "", optimize: bool = False) -> list[Library]:
    """`load` for several modules at once.

    Those that the cache does not hold are compiled side by side, on as many threads as there are
    processors.
    """
    with lock:
        return _load_all([_key(text, optimize) for text in ir_texts], ir_texts, name, optimize)


def _load_all(
    keys: list[bytes], ir_texts: Sequence[str], name: str, optimize: bool
) -> list[Library]:
    found = {key: _loaded.get(key) for key in keys}
    wanted = {key: text for key, text in zip(keys, ir_texts, strict=True) if not found[key]}
    code = {key: objects.get(key) for key in wanted}
    missing = [key for key, stored in code.items() if stored is None]
    if missing:
        with profile.span("compile modules", "compile", modules=len(missing)):
            compiled = _compile_all([wanted[key] for key in missing], name, optimize)
        for key, fresh in zip(missing, compiled, strict=True):
            code[key] = fresh
            objects.put(key, fresh)
    if not wanted:
        return [library for key in keys if (library := found[key])]
    with profile.span("link modules", "compile", modules=len(wanted)):
        linked = {key: _link(text, code[key] or b"", key, name) for key, text in wanted.items()}
    return [found[key] or linked[key] for key in keys]


def compile_object(ir_text: str, name: str = "", optimize: bool = False) -> bytes:
    """The relocatable object file for a module of LLVM IR text (never from the cache)."""
    with _optimised(ir_text, name, optimize) as (machine, module):
        return _emit(machine, module)


def assembly(ir_text: str, name: str = "", optimize: bool = False) -> str:
    """The assembly that `load` would run for this IR, for people to read."""
    with _optimised(ir_text, name, optimize) as (machine, module):
        return str(machine.emit_assembly(module))


def optimised_ir(ir_text: str, name: str = "", optimize: bool = False) -> str:
    """The IR after the pass pipeline, for people to read."""
    with _optimised(ir_text, name, optimize) as (_, module):
        return str(module)


def _key(ir_text: str, optimize: bool) -> bytes:
    return objects.digest(ir_text, _target_key(), str(optimize))


@functools.cache
def _target_key() -> bytes:
    """All that decides the object besides the IR: processor, features, compiler, its settings."""
    llvm = cpuinfo.llvm()
    return objects.digest(
        llvm.get_process_triple(),
        cpuinfo.cpu_name(),
        cpuinfo.feature_string(),
        cpuinfo.llvm_version(),
        f"{_PIPELINE} O{_OPTIMIZE_LEVEL} codegen {_CODEGEN_LEVEL} small pic",
    )


def target() -> str:
    """Processor, features and compiler that objects are made for, as text."""
    return f"{cpuinfo.cpu_name()} {_target_key().hex()}"


def _create_machine() -> Any:
    target = cpuinfo.llvm().Target.from_triple(cpuinfo.llvm().get_process_triple())
    return target.create_target_machine(
        cpu=cpuinfo.cpu_name(),
        features=cpuinfo.feature_string(),
        opt=_CODEGEN_LEVEL,
        reloc="pic",
        codemodel="small",
    )


class _Compiler:
    """A target machine and its passes, for one thread at a time.

    They are used again and again: making a machine takes as long as compiling a small module, and
    llvmlite does not give all of a pass manager's memory back.
    """

    def __init__(self) -> None:
        llvm = cpuinfo.llvm()
        self.machine = _create_machine()
        options = llvm.create_pipeline_tuning_options(_OPTIMIZE_LEVEL)
        options.loop_vectorization = options.slp_vectorization = False
        options.loop_interleaving = options.loop_unrolling = False
        self.builder = llvm.create_pass_builder(self.machine, options)
        self.passes = llvm.create_new_module_pass_manager()
        for step in _PIPELINE:
            getattr(self.passes, f"add_{step}_pass")()

    def run(self, module: Any, optimize: bool) -> None:
        """Put a module through the pipeline."""
        # O2's inliner uses its passes up, so that pipeline is good for one module only.
        passes = self.builder.getModulePassManager() if optimize else self.passes
        _unlocked("LLVMPY_RunNewModulePassManager")(passes, module, self.builder)


@functools.cache
def _data_layout() -> str:
    return str(_create_machine().target_data)


@contextlib.contextmanager
def _optimised(ir_text: str, name: str, optimize: bool) -> Iterator[tuple[Any, Any]]:
    """(target machine, optimised module) for a body; the module and its LLVM context end with it.

    Each module has its own context: contexts share nothing, so threads can work side by side, and
    what LLVM interns (types, constants) is given back.
    """
    llvm = cpuinfo.llvm()
    context = llvm.create_context()
    module = None
    try:
        try:
            module = llvm.parse_assembly(ir_text, context)
            module.verify()
        except RuntimeError as error:
            raise RuntimeError(f"invalid LLVM IR in module {name!r}: {error}") from None
        module.triple, module.data_layout = llvm.get_process_triple(), _data_layout()
        try:
            compiler = _idle.pop()
        except IndexError:
            compiler = _Compiler()
        compiler.run(module, optimize)
        yield compiler.machine, module
        _idle.append(compiler)
    finally:
        if module is not None:
            module.close()
        context.close()


def _emit(machine: Any, module: Any) -> bytes:
    """`machine.emit_object(module)` without llvmlite's lock."""
    ffi = cpuinfo.llvm().ffi
    with ffi.OutputString() as error:
        buffer = _unlocked("LLVMPY_TargetMachineEmitToMemory")(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        start, size = ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer)
        return ctypes.string_at(start, size)
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


@functools.cache
def _unlocked(name: str) -> Any:
    """A function of llvmlite's library without the lock llvmlite takes around every call.

    For the two that take nearly all the time. They touch only what belongs to the module's own
    context and to a target machine nobody else uses meanwhile, which LLVM allows.
    """
    function = getattr(cpuinfo.llvm().ffi.lib, name)
    return getattr(function, "_cfn", function)


def _compile_all(texts: list[str], name: str, optimize: bool) -> list[bytes]:
    """Objects for several modules, compiled on as many threads as there are processors."""
    workers = min(len(texts), cpuinfo.available_cpus())
    if workers <= 1:
        return [compile_object(text, name, optimize) for text in texts]
    results: list[Any] = [None] * len(texts)
    # The longest first, so that no thread is left with a long one at the end.
    queue = iter(sorted(range(len(texts)), key=lambda index: -len(texts[index])))

    def work() -> None:
        for index in queue:
            try:
                results[index] = compile_object(texts[index], name, optimize)
            except Exception as error:
                results[index] = error

    others = [
        threading.Thread(target=work, name=f"flambeau-compile-{i}") for i in range(1, workers)
    ]
    for other in others:
        other.start()
    work()
    for other in others:
        other.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


@functools.cache
def _linker() -> Any:
    """The one LLJIT of the process. It only links: modules are compiled before."""
    return cpuinfo.llvm().create_lljit_compiler(_create_machine(), use_jit_link=True)


def _find(symbol: str) -> int | None:
    """Where what a module calls lies: offered here, known to llvmlite, or in the C library."""
    offered = _provided.get(symbol)
    if offered:
        return offered()
    known = cpuinfo.llvm().address_of_symbol(symbol)
    if known:
        return int(known)
    for library in _c_libraries():
        with contextlib.suppress(AttributeError):
            return ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value
    return None


@functools.cache
def _c_libraries() -> list[ctypes.CDLL]:
    libraries = [ctypes.CDLL(None)]
    if sys.platform == "linux":
        with contextlib.suppress(
            OSError
        ):  # a Python that is linked without it, or another C library
            libraries.append(ctypes.CDLL("libm.so.6"))
    return libraries


def _functions(ir_text: str) -> tuple[list[str], list[str]]:
    """(functions a module defines for others, functions it calls from outside)."""
    defined, declared = [], []
    for match in _FUNCTION.finditer(ir_text):
        start = match.start()
        if ir_text[ir_text.rfind("\n", 0, start) + 1 : start].strip():
            continue  # in a comment or a string
        symbol = match[3].strip('"')
        if match[1] == "define":
            if not match[2].startswith(("internal", "private")):
                defined.append(symbol)
        elif not symbol.startswith("llvm."):
            declared.append(symbol)
    return defined, declared


@functools.cache
def _softfloat() -> Library:
    return load(softfloat.IR, "float conversions")


def _link(ir_text: str, code: bytes, key: bytes, name: str) -> Library:
    symbols, called = _functions(ir_text)
    builder = cpuinfo.llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
    for symbol in called:
        address = _find(symbol)
        if not address:
            raise RuntimeError(
                f"cannot link module {name!r}: it calls {symbol}, which does not exist"
            )
        builder.import_symbol(symbol, address)
    for symbol in softfloat.NAMES:
        # Called by what LLVM made of a conversion: to be seen in the object's names only.
        if symbol.encode() in code and symbol not in symbols:
            builder.import_symbol(symbol, _softfloat().address(symbol))
    for symbol in symbols:
        builder.export_symbol(symbol)
    # Libraries of one process never share a name, even after they are gone.
    unique = f"{name or 'module'}.{next(_serial)}"
    try:
        tracker = builder.link(_linker(), unique)
    except RuntimeError as error:
        raise RuntimeError(f"cannot link module {name!r}: {error}") from None
    library = Library(name or unique, key, tracker, {symbol: tracker[symbol] for symbol in symbols})
    _loaded[key] = library
    return library


def _before_fork() -> None:
    # A child made while another thread compiles would find LLVM's own locks taken for ever.
    lock.acquire()


def _after_fork() -> None:
    lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
