"""A restricted reader of pickles: it builds plain containers and calls nothing it was not given.

Python's own unpickler looks any global up by name and calls it, so reading a file means running it.
This one is a small stack machine over the opcodes that checkpoints use. A global is looked up in a
table handed in by the caller; only what that table offers can be called, built or filled.
Reference: the opcode descriptions in CPython's `pickletools`.
"""

from __future__ import annotations

import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError, decode_long
from typing import Any

_MAPPINGS = (dict, OrderedDict, Counter)
_KEY_DEPTH, _KEY_PARTS = 64, 4096
_SIMPLE_KEYS = frozenset({str, int, bool, float, bytes, complex, type(None)})

#: What goes wrong in a pickle that does not follow its own rules, or in a constructor it calls.
_MALFORMED = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    struct.error,
    RecursionError,
    MemoryError,
)


class Global:
    """What a name in a pickle stands for.

    Args:
        value: the object itself.
        call: called where the pickle calls the object; None where it may only be mentioned.
        build: whether the pickle may set the state of the object's instances.
    """

    __slots__ = ("build", "call", "value")

    def __init__(
        self, value: Any, call: Callable[..., Any] | None = None, build: bool = False
    ) -> None:
        self.value = value
        self.call = call
        self.build = build


class Unpickler:
    """Reads one pickle of protocol 2 to 5.

    Args:
        data: the bytes.
        find: maps (module, name) to what it stands for; raises UnpicklingError to refuse.
        persistent_load: turns a persistent id (a tuple) into an object.
        at: where in the bytes the pickle begins.

    After `load()`, `position` is the offset of the first byte behind the pickle.
    """

    def __init__(
        self,
        data: bytes,
        find: Callable[[str, str], Global],
        persistent_load: Callable[[tuple[Any, ...]], Any] | None = None,
        at: int = 0,
    ) -> None:
        self._data = data
        self._find = find
        self._persistent_load = persistent_load
        self.position = at
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._known: dict[int, Global] = {}
        self._proto = 2

    def load(self) -> Any:
        """The object.

        Raises:
            UnpicklingError: the pickle names something that is not allowed, uses an opcode that
                is not supported, or is malformed.
        """
        try:
            return self._run()
        except UnpicklingError:
            raise
        except _MALFORMED as error:
            raise UnpicklingError(
                f"the pickle is malformed ({type(error).__name__}: {error})"
            ) from error

    def _run(self) -> Any:
        opcodes, data = _OPCODES, self._data
        while True:
            if self.position >= len(data):
                raise UnpicklingError("pickle data was truncated")
            code = data[self.position]
            self.position += 1
            if code == 0x2E:  # STOP
                return self._stack.pop()
            step = opcodes.get(code)
            if step is None:
                raise UnpicklingError(f"Unsupported operand {code}")
            step(self)

    # -- bytes ------------------------------------------------------------------------------------

    def _take(self, size: int) -> bytes:
        begin = self.position
        if size < 0 or begin + size > len(self._data):
            raise UnpicklingError("pickle data was truncated")
        self.position = begin + size
        return self._data[begin : begin + size]

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _line(self) -> str:
        end = self._data.find(b"\n", self.position)
        if end < 0:
            raise UnpicklingError("pickle data was truncated")
        found = str(self._data[self.position : end], "utf-8")
        self.position = end + 1
        return found

    def _push_text(self, width: int) -> None:
        self._stack.append(str(self._take(self._number(width)), "utf-8", "surrogatepass"))

    def _push_bytes(self, width: int) -> None:
        self._stack.append(self._take(self._number(width)))

    def _push_long(self, width: int) -> None:
        self._stack.append(decode_long(self._take(self._number(width))))

    # -- containers -------------------------------------------------------------------------------

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _tuple(self, size: int) -> None:
        items = tuple(self._stack[-size:])
        if len(items) != size:
            raise UnpicklingError("the pickle takes more from its stack than it put there")
        self._stack[-size:] = [items]

    def _may_fill(self, target: Any, kinds: tuple[type, ...], what: str) -> None:
        admitted = self._known.get(id(type(target)))
        if type(target) in kinds or (
            admitted is not None and admitted.build and isinstance(target, kinds)
        ):
            return
        raise UnpicklingError(
            f"Can only {what} for {', '.join(k.__name__ for k in kinds)}, but got {type(target)}"
        )

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        self._may_fill(target, (list,), "APPEND")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        self._may_fill(target, _MAPPINGS, "SETITEM")
        if len(items) % 2:
            raise UnpicklingError("a key has no value")
        for i in range(0, len(items), 2):
            check_hashable(items[i])
            target[items[i]] = items[i + 1]

    def _add_items(self) -> None:
        items, target = self._since_mark(), self._stack[-1]
        self._may_fill(target, (set,), "ADDITEMS")
        target.update(check_hashable(item) for item in items)

    def _push_marked(self, kind: type) -> None:
        items = self._since_mark()  # first: it brings the stack back that is appended to
        self._stack.append(kind(items))

    def _frozenset(self) -> None:
        items = self._since_mark()
        self._stack.append(frozenset(check_hashable(item) for item in items))

    def _dict(self) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._set_items(items)

    # -- globals ----------------------------------------------------------------------------------

    def _global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise UnpicklingError("STACK_GLOBAL requires str")
        found = self._find(*mapped_name(module, name))
        self._known[id(found.value)] = found
        self._stack.append(found.value)

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._global(module, name)

    def _callable(self, target: Any) -> Callable[..., Any]:
        found = self._known.get(id(target))
        if found is None or found.call is None:
            raise UnpicklingError(f"Trying to call reduce for unrecognized function {target!r}")
        return found.call

    def _reduce(self) -> None:
        args = self._stack.pop()
        call = self._callable(self._stack[-1])
        if type(args) is not tuple:
            raise UnpicklingError(f"arguments of a call must be a tuple, but got {type(args)}")
        self._stack[-1] = call(*args)

    def _new_object(self, with_keywords: bool) -> None:
        keywords = self._stack.pop() if with_keywords else {}
        args, cls = self._stack.pop(), self._stack.pop()
        call = self._callable(cls)
        if type(args) is not tuple or type(keywords) is not dict:
            raise UnpicklingError("arguments of a new object must be a tuple and a dict")
        admitted = self._known[id(cls)]
        if admitted.build and isinstance(cls, type) and call is cls:
            self._stack.append(cls.__new__(cls, *args, **keywords))
        else:
            self._stack.append(call(*args, **keywords))

    def _may_build(self, kind: type) -> bool:
        """Whether objects of a class may be given state: the class that a call of another admitted
        name returned need not itself be named in the file."""
        known = self._known.get(id(kind))
        if known is None:
            try:
                known = self._find(kind.__module__, kind.__qualname__)
            except UnpicklingError:
                return False
        return known.build and known.value is kind

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is OrderedDict:
            if type(state) is not dict or not all(type(k) is str for k in state):
                raise UnpicklingError("the state of an OrderedDict must be a dict of attributes")
            target.__dict__.update(state)
            return
        if not self._may_build(type(target)):
            raise UnpicklingError(
                "Can only build OrderedDict or types allowlisted via "
                f"`add_safe_globals`, but got {type(target)}"
            )
        if hasattr(target, "__setstate__"):
            target.__setstate__(state)
            return
        slots = None
        if isinstance(state, tuple) and len(state) == 2:
            state, slots = state
        if state:
            target.__dict__.update(state)
        for key, value in (slots or {}).items():
            setattr(target, key, value)

    def _persistent(self) -> None:
        pid = self._stack.pop()
        if type(pid) is not tuple or self._persistent_load is None:
            raise UnpicklingError(f"persistent_load id must be tuple, but got {type(pid)}")
        self._stack.append(self._persistent_load(pid))

    # -- the rest ---------------------------------------------------------------------------------

    def _protocol(self) -> None:
        self._proto = self._number(1)
        if not 2 <= self._proto <= 5:
            raise UnpicklingError(f"pickle protocol {self._proto} is not supported (2 to 5 are)")

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self) -> None:
        self._since_mark()

    def _frame(self) -> None:
        self._number(8)

    def _memoize(self, index: int) -> None:
        self._memo[index] = self._stack[-1]


def mapped_name(module: str, name: str) -> tuple[str, str]:
    """Today's name of a global that a pickle of protocol 2 names as Python 2 did."""
    if (module, name) in NAME_MAPPING:
        return NAME_MAPPING[module, name]
    return IMPORT_MAPPING.get(module, module), name


def check_hashable(key: Any) -> Any:
    """The key itself, when hashing it takes few and shallow steps.

    A small pickle can hold tuples nested so deep that hashing them overflows the C stack, or so
    shared that it takes for ever.

    Raises:
        UnpicklingError: it is nested too deep or has too many parts.
    """
    if type(key) in _SIMPLE_KEYS:
        return key
    level, parts = [key], 0
    for _ in range(_KEY_DEPTH):
        level = [item for k in level if isinstance(k, tuple) for item in k]
        parts += len(level)
        if not level:
            return key
        if parts > _KEY_PARTS:
            break
    raise UnpicklingError("a dictionary's key is a tuple nested too deep or too large")


def _float(u: Unpickler) -> None:
    u._stack.append(struct.unpack(">d", u._take(8))[0])


def _append(u: Unpickler) -> None:
    item = u._stack.pop()
    u._extend([item])


def _set_item(u: Unpickler) -> None:
    value, key = u._stack.pop(), u._stack.pop()
    u._set_items([key, value])


def _get(width: int) -> Callable[[Unpickler], None]:
    return lambda u: u._stack.append(u._memo[u._number(width)])


def _put(width: int) -> Callable[[Unpickler], None]:
    return lambda u: u._memoize(u._number(width))


def _push(make: Callable[[], Any]) -> Callable[[Unpickler], None]:
    return lambda u: u._stack.append(make())


_OPCODES: dict[int, Callable[[Unpickler], None]] = {
    0x80: Unpickler._protocol,
    0x95: Unpickler._frame,  # FRAME: a hint on how much to read at once
    ord("("): Unpickler._mark,
    ord("0"): Unpickler._pop,
    ord("1"): Unpickler._pop_mark,
    ord("2"): lambda u: u._stack.append(u._stack[-1]),
    ord("N"): _push(lambda: None),
    0x88: _push(lambda: True),
    0x89: _push(lambda: False),
    ord("J"): lambda u: u._stack.append(struct.unpack("<i", u._take(4))[0]),
    ord("K"): lambda u: u._stack.append(u._number(1)),
    ord("M"): lambda u: u._stack.append(u._number(2)),
    ord("G"): _float,
    0x8A: lambda u: u._push_long(1),
    0x8B: lambda u: u._push_long(4),
    ord("X"): lambda u: u._push_text(4),
    0x8C: lambda u: u._push_text(1),
    0x8D: lambda u: u._push_text(8),
    ord("U"): lambda u: u._push_text(1),
    ord("T"): lambda u: u._push_text(4),
    ord("C"): lambda u: u._push_bytes(1),
    ord("B"): lambda u: u._push_bytes(4),
    0x8E: lambda u: u._push_bytes(8),
    0x96: lambda u: u._stack.append(bytearray(u._take(u._number(8)))),
    ord("]"): _push(list),
    ord("}"): _push(dict),
    ord(")"): _push(tuple),
    0x8F: _push(set),
    ord("a"): _append,
    ord("e"): lambda u: u._extend(u._since_mark()),
    ord("s"): _set_item,
    ord("u"): lambda u: u._set_items(u._since_mark()),
    0x90: Unpickler._add_items,
    0x91: Unpickler._frozenset,
    ord("d"): Unpickler._dict,
    ord("l"): lambda u: u._push_marked(list),
    ord("t"): lambda u: u._push_marked(tuple),
    0x85: lambda u: u._tuple(1),
    0x86: lambda u: u._tuple(2),
    0x87: lambda u: u._tuple(3),
    ord("c"): lambda u: u._global(u._line(), u._line()),
    0x93: Unpickler._stack_global,
    ord("R"): Unpickler._reduce,
    0x81: lambda u: u._new_object(False),
    0x92: lambda u: u._new_object(True),
    ord("b"): Unpickler._build,
    ord("Q"): Unpickler._persistent,
    ord("h"): _get(1),
    ord("j"): _get(4),
    ord("q"): _put(1),
    ord("r"): _put(4),
    0x94: lambda u: u._memoize(len(u._memo)),
}
