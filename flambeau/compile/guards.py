"""Guards: what must still hold for a recorded call to be replayed, as one generated function.

Note [What is guarded]
From the arguments, the globals and the closures of the code that ran, the walk follows every
attribute that this code names, and every element of containers. Numbers, strings and the like must
be equal, functions and classes the same, containers of one length, other objects of one class with
as many attributes; tensors have one type, shape, dtype, device, strides, place on the tape and
pattern of sharing memory. Code that asks for attributes by computed names makes the walk follow all
of them. What has state that cannot be seen (an open file, an iterator, a NumPy array) refuses the
call, which is then recorded each time.

Sizes that have changed between calls are symbols (Note [Symbolic sizes] in `ir/symbol.py`): what
the call has asked about them is checked instead of their values.

The walk writes the source of a function `guard(args, kwargs)`. It returns the tensors that were
found, the containers that the call writes tensors to and the sizes that are symbols, or the number
of the check that failed.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import math
import pathlib
import re
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from flambeau import record
from flambeau.compile.observe import is_package, names_of
from flambeau.device import device as Device
from flambeau.device import get_default_device
from flambeau.dtype import dtype as DType
from flambeau.dtype import get_default_dtype
from flambeau.ir.symbol import SMALLEST, Symbols, SymInt
from flambeau.layout import layout as Layout
from flambeau.layout import memory_format as MemoryFormat
from flambeau.ops.generator import Generator, default_generator
from flambeau.ops.streams import get_stream
from flambeau.tape import modes, saved_hooks
from flambeau.tensor import Tensor

#: More checks than this cost more than they save.
MAX_CHECKS = 50_000

_ABSENT = object()
_PLAIN = (int, str, bytes, complex)
_SINGLES = (type(None), bool, type(Ellipsis), type(NotImplemented))
_EQUALS = (
    *(range, slice, decimal.Decimal, fractions.Fraction, re.Pattern, pathlib.PurePath),
    *(datetime.date, datetime.timedelta, datetime.time, Device, np.generic),
)
_TENSOR_FIELDS = frozenset(
    "_cell _shape dtype _map _rg _grad_fn _grad _output_nr _base _generation _seen_generation"
    " _accumulator _hooks _retains _inference _view_cache _post_hooks _multi_view _unseen"
    " name".split()
)
_TRUSTED = ("flambeau", "builtins", "typing", "abc", "collections", "enum", "types")
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType)


class Refusal(Exception):
    """A call that cannot be replayed; the message says why."""


class Slot(NamedTuple):
    """A place that held a value when the call began.

    Attributes:
        kind: "item" of a dict or list, "cell" of a closure, "attribute", or "keys", whose value is
            a dict's keys or a list's length.
        container: what it is a place of.
        key: which place.
        value: what it held.
        path: for messages.
        name: the generated function's variable of the container.
    """

    kind: str
    container: Any
    key: Any
    value: Any
    path: str
    name: str

    def read(self) -> Any:
        """What the place holds now."""
        if self.kind == "item":
            try:
                return self.container[self.key]
            except (KeyError, IndexError):
                return _ABSENT
        if self.kind == "cell":
            try:
                return self.container.cell_contents
            except ValueError:
                return _ABSENT
        if self.kind == "attribute":
            return getattr(self.container, self.key, _ABSENT)
        return _keys(self.container)


_IDENTITIES = (
    *(DType, Layout, MemoryFormat, enum.Enum, types.BuiltinFunctionType, types.CodeType),
    *(types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType),
    *(types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType),
    *(type(record._lock), type(Slot.kind), types.GenericAlias),
)


def _keys(container: Any) -> Any:
    return list(map(id, container)) if isinstance(container, dict) else len(container)


def switches() -> tuple[Any, ...]:
    """The switches of this thread that recording reads."""
    return (
        modes.grad,
        modes.inference,
        modes.anomaly,
        None if modes.autocast is None else tuple(modes.autocast.items()),
        get_default_dtype(),
        get_default_device(),
        get_stream(),
        tuple(saved_hooks()),
    )


def same(a: Any, b: Any) -> bool:
    """Whether two values that cannot change are equal and of one type."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, types.MethodType):
        return a.__func__ is b.__func__ and a.__self__ is b.__self__
    return isinstance(a, (*_PLAIN, *_EQUALS)) and bool(a == b)


class Walk:
    """Follows what some code may read, and writes the guard.

    Args:
        codes: the code that ran, with its globals.
        gradients: whether gradients of tensors are read too.
        live: classes whose instances are used through live methods alone (`live.py`).
        compiled: -> the function in a compiled wrapper, or None.
        seen: shapes of tensors in earlier calls, by path; None where sizes are not to be symbols.
        dynamic: whether sizes of arguments are symbols from the first call on.

    Attributes:
        tensors: those that were found, in the order in which the guard returns them.
        paths: where each was found.
        slots: the places that were walked.
        exposed_live: attributes of live objects that the code reads by itself.
        reasons: for each check, what it is about.
        shapes: of the tensors, by path.
        symbols: the symbolic sizes, or None.
        symbolic: tensors that have some, with their shapes.
        places: for each symbol, the path of a tensor and the dimension that it is the size of.
    """

    def __init__(
        self,
        codes: dict[types.CodeType, dict[str, Any]],
        gradients: bool,
        live: tuple[type, ...],
        compiled: Callable[[Any], Any],
        seen: Sequence[dict[str, tuple[int, ...]]] | None = None,
        dynamic: bool = False,
    ) -> None:
        self.codes = codes
        self.gradients = gradients
        self.live = live
        self.compiled = compiled
        self.seen = seen
        self.dynamic = dynamic
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.symbols: Symbols | None = None
        self.symbolic: list[tuple[Tensor, tuple[int, ...]]] = []
        self.places: list[tuple[str, int]] = []
        self._columns: dict[tuple[int, ...], SymInt] = {}
        self.names: set[str] = set()
        self.own: set[str] = set()
        self.everything = False
        for code in codes:
            names = names_of(code)
            self.names |= names.attributes
            if names.own:
                self.own |= names.attributes
            if names.own or "optim" in code.co_filename:
                self.own |= names.reads
            self.everything = self.everything or names.reflects
            self.names.add(code.co_name)  # rows and operators call some by name
        self.tensors: list[Tensor] = []
        self.paths: list[str] = []
        self.slots: list[Slot] = []
        self.exposed_live: list[str] = []
        self.reasons: list[str] = []
        self.found: set[types.CodeType] = set()
        self._lines: list[str] = []
        self._values: dict[str, Any] = {"ABSENT": _ABSENT}
        self._named: dict[int, str] = {}
        self._known: dict[Any, str] = {}
        self._keep: list[Any] = []  # while walking, so that no two objects have one id
        self._held: list[Any] = []  # what the guard knows by its id
        self._count = 0
        self._names_of_tensors: list[str] = []

    # -- writing --------------------------------------------------------------------------------

    def _constant(self, value: Any) -> str:
        name = self._named.get(id(value))
        if name is None:
            name = self._named[id(value)] = f"k{len(self._named)}"
            self._values[name] = value
        return name

    def _check(self, wrong: str, reason: str) -> None:
        if len(self.reasons) > MAX_CHECKS:
            raise Refusal("it depends on more values than can be checked")
        self._lines.append(f"if {wrong}: return {len(self.reasons)}")
        self.reasons.append(reason)

    def _variable(self, expression: str) -> str:
        name = f"v{self._count}"
        self._count += 1
        self._lines.append(f"{name} = {expression}")
        return name

    # -- places ---------------------------------------------------------------------------------

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Walk the arguments of the call."""
        self._check(f"len(args) != {len(args)}", "the number of arguments")
        for k, value in enumerate(args):
            self.walk(value, f"args[{k}]", f"argument {k}")
        if kwargs:
            keys = self._constant(list(kwargs))
            self._keep.append(kwargs)
            self._check(f"list(kwargs) != {keys}", "the names of the arguments")
            for name, value in kwargs.items():
                self.walk(value, f"kwargs[{name!r}]", f"argument {name}")
        else:
            self._check("kwargs", "the names of the arguments")

    def globals(self) -> None:
        """Walk the globals that the code names."""
        for code, space in list(self.codes.items()):
            names = names_of(code)
            for name in sorted(names.globals):
                if name not in space or name.startswith("__"):
                    continue
                value = space[name]
                trusted = not names.own and (
                    isinstance(value, _FUNCTIONS) or value is default_generator
                )
                if trusted or (id(space), name) in self._known:
                    continue
                self._known[id(space), name] = ""
                self._item(space, self._constant(space), name, f"global {name}")

    def _item(self, container: Any, name: str, key: Any, path: str) -> None:
        value = container[key]
        text = repr(key) if type(key) in (str, int) else self._constant(key)
        self.slots.append(Slot("item", container, key, value, path, name))
        self.walk(value, f"{name}[{text}]", path)

    def _attribute(self, owner: Any, name: str, key: str, path: str) -> None:
        value = getattr(owner, key, _ABSENT)
        if value is _ABSENT:
            return
        self.slots.append(Slot("attribute", owner, key, value, path, name))
        self.walk(value, f"{name}.{key}", path)

    # -- values ---------------------------------------------------------------------------------

    def walk(self, value: Any, expression: str, path: str) -> None:
        """Write the checks of one value.

        Raises:
            Refusal: it has state that cannot be seen.
        """
        name = self._variable(expression)
        kind = type(value)
        if isinstance(value, _SINGLES):
            self._check(f"{name} is not {value!r}", path)
        elif kind in _PLAIN:
            k = self._constant(value)
            self._keep.append(value)
            t = self._constant(kind)
            self._check(f"{name} is not {k} and (type({name}) is not {t} or {name} != {k})", path)
        elif kind is float:
            self._float(value, name, path)
        elif isinstance(value, Tensor):
            self._tensor(value, name, path)
        elif id(value) in self._known:
            self._check(f"{name} is not {self._known[id(value)]}", path)
        elif isinstance(value, _EQUALS) or isinstance(value, _PLAIN + (float,)):
            if isinstance(value, enum.Enum):
                self._check(f"{name} is not {self._constant(value)}", path)
            else:
                k, t = self._constant(value), self._constant(kind)
                self._check(
                    f"{name} is not {k} and (type({name}) is not {t} or {name} != {k})", path
                )
        elif isinstance(value, _IDENTITIES):
            self._keep.append(value)
            self._check(f"{name} is not {self._constant(value)}", path)
        else:
            self._known[id(value)] = name
            self._keep.append(value)
            self._structure(value, kind, name, path)

    def _float(self, value: float, name: str, path: str) -> None:
        if math.isnan(value):
            self._check(f"type({name}) is not float or {name} == {name}", path)
        elif value == 0:
            k = self._constant(repr(value))
            self._check(f"type({name}) is not float or repr({name}) != {k}", path)
        else:
            k = self._constant(value)
            self._keep.append(value)
            self._check(f"{name} is not {k} and (type({name}) is not float or {name} != {k})", path)

    def _structure(self, value: Any, kind: type, name: str, path: str) -> None:
        """The checks of a container, a function or another object."""
        if isinstance(value, types.ModuleType):
            self._check(f"{name} is not {self._constant(value)}", path)
            self._module(value, name, path)
        elif isinstance(value, type):
            self._check(f"{name} is not {self._constant(value)}", path)
            self._class(value)
        elif isinstance(value, types.FunctionType):
            self._check(f"{name} is not {self._constant(value)}", path)
            self._function(value, name, path)
        elif isinstance(value, types.MethodType):
            self._check(f"type({name}) is not {self._constant(kind)}", path)
            self.walk(value.__func__, f"{name}.__func__", path)
            self.walk(value.__self__, f"{name}.__self__", path)
        elif isinstance(value, self.live):
            self._check(f"{name} is not {self._constant(value)}", path)
            self._live(value, name, path)
        elif isinstance(value, (staticmethod, classmethod)):
            self._check(f"{name} is not {self._constant(value)}", path)
            self.walk(value.__func__, f"{name}.__func__", path)
        elif isinstance(value, property):
            self._check(f"{name} is not {self._constant(value)}", path)
            for part in ("fget", "fset"):
                self.walk(getattr(value, part), f"{name}.{part}", path)
        elif isinstance(value, functools.cached_property):
            self._check(f"{name} is not {self._constant(value)}", path)
            self.walk(value.func, f"{name}.func", path)
        elif isinstance(value, functools.partial):
            self._check(f"type({name}) is not {self._constant(kind)}", path)
            for part in ("func", "args", "keywords"):
                self.walk(getattr(value, part), f"{name}.{part}", path)
        elif isinstance(value, weakref.ref):
            self._check(f"type({name}) is not {self._constant(kind)}", path)
            self.walk(value(), f"{name}()", path)
        elif isinstance(value, (list, tuple, dict)):
            self._container(value, kind, name, path)
            if hasattr(value, "__dict__") and vars(value):
                self._object(value, kind, name, path)
        elif isinstance(value, (set, frozenset)):
            if not all(isinstance(v, (*_SINGLES, *_PLAIN, float, *_IDENTITIES)) for v in value):
                raise Refusal(f"{path} is a set of objects")
            k = self._constant(frozenset(value))
            self._keep.append(self._values[k])
            self.slots.append(Slot("keys", value, None, len(value), path, name))
            self._check(f"type({name}) is not {self._constant(kind)} or {name} != {k}", path)
        elif isinstance(value, Generator):
            self._check(f"{name} is not {self._constant(value)}", path)
            if value is not default_generator:
                for field in ("_seed", "_counter", "_spare"):
                    self._attribute(value, name, field, f"{path}.{field}")
        elif isinstance(value, np.ndarray):
            raise Refusal(f"{path} is a NumPy array, whose elements cannot be checked")
        elif getattr(kind, "__module__", "") == "_thread" or kind.__name__ in ("lock", "RLock"):
            self._check(f"{name} is not {self._constant(value)}", path)
        else:
            self._other(value, kind, name, path)

    def _other(self, value: Any, kind: type, name: str, path: str) -> None:
        python = kind.__flags__ & (1 << 9) and (
            hasattr(value, "__dict__") or any("__slots__" in vars(c) for c in kind.__mro__)
        )
        if not isinstance(getattr(value, "__dict__", {}), dict):
            python = 0
        if not python and kind is not types.SimpleNamespace:
            raise Refusal(
                f"{path} is a {kind.__module__}.{kind.__qualname__}, whose state cannot be checked"
            )
        self._object(value, kind, name, path)

    def _container(self, value: Any, kind: type, name: str, path: str) -> None:
        self.slots.append(Slot("keys", value, None, _keys(value), path, name))
        t = self._constant(kind)
        if not value:
            self._check(f"{name} or type({name}) is not {t}", path)
        elif isinstance(value, dict):
            keys = list(value)
            self._keep.append(keys)
            if all(type(k) in (str, int, bool, type(None)) for k in keys):
                wrong = f"list({name}) != {self._constant(keys)}"
            else:
                ids = list(map(id, keys))
                self._held.append(keys)
                wrong = f"list(map(id, {name})) != {self._constant(ids)}"
            self._check(f"type({name}) is not {t} or {wrong}", path)
            for key in keys:
                self._item(value, name, key, f"{path}[{key!r}]")
        else:
            self._check(f"type({name}) is not {t} or len({name}) != {len(value)}", path)
            for k in range(len(value)):
                if isinstance(value, tuple):
                    self.walk(value[k], f"{name}[{k}]", f"{path}[{k}]")
                else:
                    self._item(value, name, k, f"{path}[{k}]")

    def _wanted(self, attributes: Any) -> list[str]:
        if self.everything:
            return [n for n in attributes if not n.startswith("__")]
        return [n for n in attributes if n in self.names]

    def _object(self, value: Any, kind: type, name: str, path: str) -> None:
        self._check(f"type({name}) is not {self._constant(kind)}", f"the class of {path}")
        self._class(kind)
        attributes = getattr(value, "__dict__", None)
        if attributes is not None:
            d = self._variable(f"{name}.__dict__")
            self.slots.append(Slot("keys", attributes, None, _keys(attributes), path, d))
            self._check(f"len({d}) != {len(attributes)}", f"the attributes of {path}")
            for key in self._wanted(list(attributes)):
                self._item(attributes, d, key, f"{path}.{key}")
        for each in kind.__mro__:
            slots = vars(each).get("__slots__", ())
            for key in self._wanted((slots,) if isinstance(slots, str) else slots):
                self._attribute(value, name, key, f"{path}.{key}")

    def _live(self, value: Any, name: str, path: str) -> None:
        """An object whose own methods change it: only what the program reads of it by itself, and
        what methods that are not live read (`live_reads` of its class)."""
        attributes = vars(value)
        for key in getattr(type(value), "live_reads", ()):
            self._item(attributes, self._variable(f"{name}.__dict__"), key, f"{path}.{key}")
        for key in list(attributes):
            held = attributes[key]
            if key not in self.own or isinstance(held, (*_FUNCTIONS, *self.live, types.MethodType)):
                continue
            self.exposed_live.append(f"{path}.{key}")
            self._item(attributes, self._variable(f"{name}.__dict__"), key, f"{path}.{key}")

    def _module(self, module: types.ModuleType, name: str, path: str) -> None:
        space = vars(module)
        within = module.__name__.partition(".")[0] in ("flambeau", "torch")
        d = ""
        for key in sorted(self.own & space.keys()):
            value = space[key]
            if key.startswith("__") or value is default_generator:
                continue
            d = d or self._constant(space)
            if within and isinstance(value, (types.FunctionType, type)):
                self._check(f"{d}[{key!r}] is not {self._constant(value)}", f"{path}.{key}")
                self._keep.append(value)
                continue
            self._item(space, d, key, f"{path}.{key}")

    def _class(self, kind: type) -> None:
        for each in kind.__mro__:
            if each.__module__.partition(".")[0] in _TRUSTED or ("class", id(each)) in self._known:
                continue
            self._known["class", id(each)] = ""
            self._keep.append(each)
            d = self._variable(f"{self._constant(each)}.__dict__")
            space = vars(each)
            for key in sorted(self.names & space.keys()):
                if key in ("__dict__", "__doc__", "__module__", "__weakref__", "__slots__"):
                    continue
                self._item(space, d, key, f"{each.__qualname__}.{key}")

    def _function(self, function: types.FunctionType, name: str, path: str) -> None:
        wrapped = vars(function).get("__wrapped__")
        if isinstance(wrapped, types.FunctionType):
            self.walk(wrapped, f"{name}.__wrapped__", path)
        inner = self.compiled(function)
        if inner is not None:
            self.walk(inner, self._constant(inner), path)
        code = function.__code__
        for key in sorted(self.own & vars(function).keys()):
            if not key.startswith("__"):
                self._item(vars(function), f"{name}.__dict__", key, f"{path}.{key}")
        if code not in self.codes:
            return
        self.found.add(code)
        if is_package(code):
            return
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            k = self._constant(cell)
            self._keep.append(cell)
            where = f"{variable} of {function.__qualname__}"
            self.slots.append(Slot("cell", cell, None, value, where, k))
            self.walk(value, f"{k}.cell_contents", where)
        for part in ("__defaults__", "__kwdefaults__"):
            value = getattr(function, part)
            if value:
                self.walk(value, f"{name}.{part}", f"defaults of {function.__qualname__}")

    def _tensor(self, t: Tensor, name: str, path: str) -> None:
        known = self._known.get(id(t))
        if known is not None:
            self._check(f"{name} is not {known}", f"that {path} is the same tensor as another")
            return
        if t._cell.device.type == "meta":
            raise Refusal(f"{path} has no data")
        self._known[id(t)] = name
        self._names_of_tensors.append(name)
        self.tensors.append(t)
        self.paths.append(path)
        self._check(f"type({name}) is not {self._constant(type(t))}", f"the type of {path}")
        self._check(f"{name}.dtype is not {self._constant(t.dtype)}", f"the dtype of {path}")
        self._shape(t, name, path)
        wrong = f"{name}._map is not None" if t._map is None else f"{name}._map != {t._map!r}"
        self._check(wrong, f"the strides of {path}")
        cell = f"{name}._cell"
        self._check(f"{cell}.device is not {self._constant(t._cell.device)}", f"device of {path}")
        tracked = "_rg" if t._base is None else "requires_grad"
        self._check(
            f"({name}._base is None) is not {t._base is None}"
            f" or {name}.{tracked} is not {t.requires_grad}",
            f"whether {path} requires a gradient",
        )
        if t.requires_grad:
            self._check(
                f"({name}._grad_fn is None) is not {t._grad_fn is None}", f"the history of {path}"
            )
        self._check(f"{name}._inference is not {t._inference}", f"inference mode of {path}")
        if self.gradients and (t._rg or t._grad is not None):
            for key in ("_hooks", "_post_hooks", "_grad"):
                self.walk(getattr(t, key), f"{name}.{key}", f"{path}.{key}")
        for key in sorted((self.own & vars(t).keys()) - _TENSOR_FIELDS):
            self._item(vars(t), self._variable(f"{name}.__dict__"), key, f"{path}.{key}")
        self._keep.append(t)

    def _shape(self, t: Tensor, name: str, path: str) -> None:
        """The checks of a shape: symbols where sizes have changed, else equality."""
        self.shapes[path] = t._shape
        shape = tuple(self._size(t, path, d) for d in range(len(t._shape)))
        if not any(type(n) is SymInt for n in shape):
            self._check(f"{name}._shape != {t._shape!r}", f"the shape of {path}")
            return
        self.symbolic.append((t, shape))
        v = self._variable(f"{name}._shape")
        wrong = [f"len({v}) != {len(shape)}"]
        assert self.symbols is not None
        for d, n in enumerate(shape):
            symbol = self.symbols.name_of(n)
            if symbol and self.places[self.symbols.names.index(symbol)] == (path, d):
                self._check(" or ".join(wrong), f"the shape of {path}")
                self._lines.append(f"{symbol} = {v}[{d}]")
                wrong = [f"{symbol} < {SMALLEST}"]
            else:
                wrong.append(f"{v}[{d}] != {symbol or n}")
        self._check(" or ".join(wrong), f"the shape of {path}")

    def _size(self, t: Tensor, path: str, d: int) -> int:
        """A size of a tensor: a symbol if it has changed."""
        n, ndim = t._shape[d], len(t._shape)
        if self.seen is None:
            return n
        before = [s[path][d] for s in self.seen if len(s.get(path, ())) == ndim]
        column = (*before, n)
        marked = (vars(t).get("_dynamic") or {}).get(d)
        wanted = len(set(column)) > 1 or marked or (self.dynamic and path.startswith("argument"))
        if not wanted or marked is False or min(column) < SMALLEST:
            return n
        known = self._columns.get(column)
        if known is None:
            if self.symbols is None:
                self.symbols = Symbols(record.calling_line)
            known = self._columns[column] = self.symbols.symbol(n)
            self.places.append((path, d))
        return known

    def missing(self) -> str:
        """A function of the program that ran and was not found, or "": its closure and defaults
        are not guarded. Functions that the code makes itself need not be found."""
        made: set[types.CodeType] = set()
        stack = list(self.codes)
        while stack:
            inner = [c for c in stack.pop().co_consts if isinstance(c, types.CodeType)]
            stack += [c for c in inner if c not in made]
            made.update(inner)
        for code, space in self.codes.items():
            if str(space.get("__name__")).startswith("namedtuple_"):  # generated, without state
                continue
            if names_of(code).own and code not in made and code not in self.found:
                return code.co_qualname if hasattr(code, "co_qualname") else code.co_name
        return ""

    # -- the result -----------------------------------------------------------------------------

    def guard(self, containers: list[str], pinned: bool) -> Callable[[Any, Any], Any]:
        """The guard, compiled.

        Args:
            containers: names of those that it returns.
            pinned: whether symbolic sizes must be those of the call that was recorded.
        """
        first: dict[int, int] = {}
        distinct = []
        for k, t in enumerate(self.tensors):
            place = first.setdefault(id(t._cell), k)
            name = self._names_of_tensors[k]
            if place == k:
                distinct.append(f"{name}._cell")
            else:
                other = self._names_of_tensors[place]
                self._check(f"{name}._cell is not {other}._cell", f"the memory of {self.paths[k]}")
        if len(distinct) > 1:
            self._check(f"len({{{', '.join(distinct)}}}) != {len(distinct)}", "sharing of memory")
        sizes = ""
        if self.symbols is not None:
            lines, conditions = self.symbols.python()
            self._lines += lines
            for condition, asked in conditions.items():
                self._check(f"not ({condition})", f"that {asked} ({asked.line})")
            names = self.symbols.names
            if pinned:
                for name, (path, d) in zip(names, self.places, strict=True):
                    self._check(f"{name} != {self.shapes[path][d]}", f"the shape of {path}")
            sizes = "".join(f"{n}, " for n in names)
        self._values["switches"] = switches
        now = self._constant(switches())
        self._keep.append(self._values[now])
        tensors = "".join(f"{n}, " for n in self._names_of_tensors)
        others = "".join(f"{n}, " for n in containers)
        number = len(self.reasons)
        self.reasons.append("grad mode, autocast, the default dtype or device")
        self.reasons.append("the form of a container")
        body = "\n  ".join(self._lines)
        source = (
            "def guard(args, kwargs):\n try:\n"
            f"  if switches() != {now}: return {number}\n  {body}\n"
            " except (KeyError, IndexError, AttributeError, TypeError, ValueError, "
            "ZeroDivisionError):\n"
            f"  return {number + 1}\n return ({tensors}), ({others}), ({sizes})\n"
        )
        values = self._values
        exec(compile(source, "<guard>", "exec"), values)
        values["held"] = self._held
        found: Callable[[Any, Any], Any] = values["guard"]
        return found
