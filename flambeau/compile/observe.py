"""Which Python a call runs: the code whose reads its guards must cover.

Note [What is observed]
While a call is watched, a profile function sees every Python function that is entered and every
library function that Python code calls. What it enters is one of three things. The *core* of this
package (recording, the table, autograd) reads tensors and a few switches, which the guards name
themselves; what the core calls in the standard library belongs to it. Everything else is *open*:
the program's own code, and `nn`, `optim` and the like, which are written as programs are. The
globals and attributes that open code names are what the call may depend on (`guards.py`). A library
function that open code calls must be one whose result follows from its arguments alone, or the
call cannot be replayed.
"""

from __future__ import annotations

import dis
import gc
import os
import sys
import sysconfig
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

from flambeau import record

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: Parts of the package that are written as programs are.
_OPEN_PARTS = tuple(
    _PACKAGE + part + os.sep for part in ("nn", "optim", "utils", "amp", "data", "distributed")
)
_LIBRARY = tuple(
    os.path.abspath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")
)

#: Packages that the core calls.
_SUPPORT = ("numpy", "scipy", "llvmlite", "ml_dtypes", "safetensors")

_CORE, _STANDARD, _OPEN, _WITHIN = range(4)

#: Modules in C whose functions' results follow from their arguments.
_PURE_MODULES = frozenset(
    "builtins math cmath _operator _functools itertools _collections _collections_abc _abc _bisect"
    " _heapq _struct _string _weakref _typing _warnings _thread _sre _decimal _datetime re"
    " collections functools operator typing abc types copyreg".split()
)
_IMPURE_BUILTINS = frozenset(("print", "input", "open", "breakpoint", "__import__"))
_PURE_TYPES: tuple[type, ...] = (
    *(str, bytes, bytearray, int, float, complex, bool, tuple, list, dict, set, frozenset),
    *(slice, range, type, type(None), property, OrderedDict, defaultdict, deque),
    *(types.FunctionType, types.MethodType, types.GeneratorType, types.MappingProxyType),
    *(types.CellType, types.ModuleType, type({}.keys()), type({}.values()), type({}.items())),
    BaseException,
)
#: Names whose use means that any attribute may be read.
_REFLECTION = frozenset(
    "getattr setattr hasattr delattr attrgetter vars dir locals globals eval exec __dict__"
    " __getattribute__".split()
)
_READS = frozenset(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"))
_STORES = frozenset(("STORE_ATTR", "DELETE_ATTR"))
_GLOBALS = frozenset(("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"))


class Names:
    """What one code object names.

    Attributes:
        reads: attributes it reads.
        attributes: attributes it reads or writes, and strings that may be names of some.
        globals: global variables.
        reflects: whether it may read attributes whose names do not stand in it.
    """

    __slots__ = ("attributes", "globals", "reads", "reflects", "own")

    def __init__(self, code: types.CodeType) -> None:
        reads: set[str] = set()
        stores: set[str] = set()
        found: set[str] = set()
        for instruction in dis.get_instructions(code):
            if instruction.opname in _READS:
                reads.add(instruction.argval)
            elif instruction.opname in _STORES:
                stores.add(instruction.argval)
            elif instruction.opname in _GLOBALS:
                found.add(instruction.argval)
        self.own = not is_package(code) and not _is_standard(code)
        self.reads = frozenset(reads)
        self.globals = frozenset(found)
        self.reflects = self.own and not _REFLECTION.isdisjoint(reads | found)
        if not _REFLECTION.isdisjoint(reads | found):
            stores |= {c for c in code.co_consts if isinstance(c, str) and c.isidentifier()}
        self.attributes = frozenset(reads | stores)


_names: dict[types.CodeType, Names] = {}


def names_of(code: types.CodeType) -> Names:
    """What a code object names, found once."""
    found = _names.get(code)
    if found is None:
        found = _names[code] = Names(code)
    return found


def is_package(code: types.CodeType) -> bool:
    """Whether code belongs to this package."""
    return code.co_filename.startswith(_PACKAGE)


def _is_standard(code: types.CodeType) -> bool:
    name = code.co_filename
    return name.startswith("<frozen") or (
        name.startswith(_LIBRARY) and "site-packages" not in name and "dist-packages" not in name
    )


def _kind(code: types.CodeType, space: dict[str, Any]) -> int:
    if is_package(code):
        return _OPEN if code.co_filename.startswith(_OPEN_PARTS) else _CORE
    package = str(space.get("__name__", "")).partition(".")[0]
    if code.co_filename == "<string>":  # what data classes and named tuples generate
        if package == "flambeau":
            return _CORE
        if package.startswith("namedtuple_"):
            return _STANDARD
    return _STANDARD if _is_standard(code) or package in _SUPPORT else _OPEN


_kinds: dict[types.CodeType, int] = {}


class Observer:
    """Sees a call run.

    Attributes:
        codes: the open code that was entered, with its globals.
        entered: core code that was entered.
        impure: the first library function whose result may not follow from its arguments.
        foreign: modules of C code that open code called into without harm.
    """

    def __init__(self) -> None:
        self.codes: dict[types.CodeType, dict[str, Any]] = {}
        self.entered: set[types.CodeType] = set()
        self.impure = ""
        self._stack = [_CORE]

    def _event(self, frame: types.FrameType, event: str, arg: Any) -> None:
        stack = self._stack
        if event == "call":
            code = frame.f_code
            kind = _kinds.get(code)
            if kind is None:
                kind = _kinds[code] = _kind(code, frame.f_globals)
            if kind == _STANDARD:
                kind = _OPEN if stack[-1] == _OPEN else _WITHIN
            if kind == _OPEN:
                self.codes.setdefault(code, frame.f_globals)
            elif kind == _CORE:
                self.entered.add(code)
            stack.append(kind)
        elif event == "return":
            if len(stack) > 1:
                stack.pop()
        elif event == "c_call" and stack[-1] == _OPEN and not self.impure:
            if not _is_pure(arg):
                self.impure = _title(arg)

    def run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function and see it run."""
        before = sys.getprofile()
        collects = gc.isenabled()
        gc.disable()  # callbacks and finalisers, which may run at any time, are no part of the call
        record.thread.observer = self
        sys.setprofile(self._event)
        try:
            return fn(*args, **kwargs)
        finally:
            sys.setprofile(before)
            record.thread.observer = None
            if collects:
                gc.enable()

    def live(
        self, method: Any, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any], again: bool
    ) -> Any:
        """A live method is called: it runs at each replay, so what it does is nothing to know."""
        watcher = record.thread.watcher
        if watcher is not None:
            return watcher.live(method, owner, args, kwargs, again)
        return self.unseen(method, (owner, *args), kwargs)

    def unseen(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function without looking; for use within `run`."""
        before = sys.getprofile()
        sys.setprofile(None)
        record.thread.observer = None
        try:
            return fn(*args, **kwargs)
        finally:
            record.thread.observer = self
            sys.setprofile(before)


def _is_pure(function: Any) -> bool:
    """Whether a library function's result follows from its arguments."""
    owner = getattr(function, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        module = getattr(function, "__module__", None)
        return module in _PURE_MODULES and function.__name__ not in _IMPURE_BUILTINS
    kind = owner if isinstance(owner, type) else type(owner)
    if issubclass(kind, _PURE_TYPES) or kind.__module__ in _PURE_MODULES:
        return True
    return function.__name__ in vars(object) or function.__name__ in vars(type)


def _title(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    place = getattr(function, "__module__", None)
    if owner is not None and not isinstance(owner, types.ModuleType):
        place = (owner if isinstance(owner, type) else type(owner)).__qualname__
    name = getattr(function, "__name__", repr(function))
    return f"{place}.{name}" if place and place != "builtins" else name
