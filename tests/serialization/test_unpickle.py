"""The restricted unpickler: it agrees with Python's on plain data and runs nothing."""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections import Counter, OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flambeau.unpickle import Global, Unpickler

ALLOWED = {
    ("collections", "OrderedDict"): Global(OrderedDict, OrderedDict),
    ("collections", "Counter"): Global(Counter, Counter),
    ("builtins", "set"): Global(set, set),
    ("builtins", "frozenset"): Global(frozenset, frozenset),
    ("builtins", "complex"): Global(complex, complex),
    ("builtins", "bytes"): Global(bytes, bytes),
    ("builtins", "bytearray"): Global(bytearray, bytearray),
    ("_codecs", "encode"): Global(str.encode, str.encode),
}


def find(module: str, name: str) -> Global:
    if (module, name) not in ALLOWED:
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} refused")
    return ALLOWED[module, name]


def loads(data: bytes) -> Any:
    return Unpickler(data, find).load()


keys = st.one_of(st.integers(), st.text(), st.binary(), st.booleans(), st.none())
plain = st.recursive(
    st.one_of(keys, st.floats(allow_nan=False), st.complex_numbers(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner),
        st.sets(keys),
        st.frozensets(keys),
        st.dictionaries(keys, inner).map(OrderedDict),
    ),
    max_leaves=30,
)


@given(plain, st.integers(2, 5))
def test_plain_data_as_pythons_own_unpickler(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    found = loads(data)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_shared_and_recursive_structure(protocol: int) -> None:
    inner: list[Any] = []
    inner.append(inner)
    cyclic: Any = ([],)
    cyclic[0].append(cyclic)  # a tuple within itself: the pickle throws away what it had begun
    a, b, c = loads(pickle.dumps((inner, inner, cyclic), protocol))
    assert a is b
    assert a[0] is a
    assert c[0][0] is c


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_large_values(protocol: int) -> None:
    value = [1 << 3000, "é" * 70_000, b"x" * 70_000, bytearray(b"y" * 300), -1, 65535, 1 << 31]
    assert loads(pickle.dumps(value, protocol)) == value


class Reduced:
    def __init__(self, *what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("function", "args"),
    [
        (os.system, ("echo run > hostile",)),
        (eval, ("open('hostile', 'w')",)),
        (exec, ("open('hostile', 'w')",)),
        (getattr, (os, "system")),
        (__import__, ("os",)),
        (open, ("hostile", "w")),
        (bytes.fromhex, ("00",)),
        (pickle.loads, (b"N.",)),
    ],
)
def test_functions_are_refused_by_name(
    function: Any, args: Any, protocol: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if function is getattr:
        args = ("text", "upper")
    nested = [1, {"deep": (Reduced(function, args),)}]
    with pytest.raises(pickle.UnpicklingError, match=r"GLOBAL \S+ refused"):
        loads(pickle.dumps(nested, protocol))
    assert not list(tmp_path.iterdir())


def test_attributes_of_allowed_names_cannot_be_reached() -> None:
    """Protocol 4 can name `OrderedDict.fromkeys`; it is another global."""
    data = pickle.dumps(Reduced(OrderedDict.fromkeys, ("ab",)), 4)
    with pytest.raises(pickle.UnpicklingError, match="refused"):
        loads(data)


def test_only_allowed_objects_are_called() -> None:
    # (1)() : REDUCE on a number
    with pytest.raises(pickle.UnpicklingError, match="unrecognized function 1"):
        loads(b"\x80\x02K\x01)R.")


def test_state_is_set_on_allowed_classes_only() -> None:
    for stack in (b"]", b"}", b"K\x01", b"\x8f"):
        with pytest.raises(pickle.UnpicklingError, match="Can only build"):
            loads(b"\x80\x02" + stack + b"}b.")


def test_state_of_an_ordered_dict() -> None:
    value = OrderedDict(a=1)
    value._metadata = {"version": 1}
    found = loads(pickle.dumps(value, 2))
    assert found == value
    assert found._metadata == {"version": 1}


def test_extending_other_things_than_lists() -> None:
    with pytest.raises(pickle.UnpicklingError, match="Can only APPEND"):
        loads(b"\x80\x02}K\x01a.")
    with pytest.raises(pickle.UnpicklingError, match="Can only SETITEM"):
        loads(b"\x80\x02]K\x01K\x01s.")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b".",
        b"\x80\x02}",
        b"\x80\x02h\x05.",  # a memo entry that is not there
        b"\x80\x02K",
        b"\x80\x02X\xff\xff\xff\xff.",  # a text of 4 GiB
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b".",
        b"\x80\x02B\xff\xff\xff\x7f.",
        b"\x80\x02\x8b\xff\xff\xff\xff.",  # a number of negative size
        b"\x80\x02u.",
        b"\x80\x02\x87.",
        b"\x80\x02R.",
        b"\x80\x02(}u.",
        b"\x80\x02X\x01\x00\x00\x00\xff.",  # not UTF-8
        b"\x80\x09N.",
        b"\x80\x00N.",
        b"\x80\x02}]K\x01s.",  # an unhashable key
        b"cos\nsystem",
        b"\x80\x02K\x01Q.",
        b"I1\n.",  # protocol 0
    ],
)
def test_malformed_pickles(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        loads(data)


@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        loads(b"\x80\x02" + data)
    except pickle.UnpicklingError:
        pass


@given(plain, st.integers(0, 10_000), st.integers(0, 255))
def test_changed_bytes_raise_nothing_else(value: Any, at: int, byte: int) -> None:
    data = bytearray(pickle.dumps(value, 2))
    data[at % len(data)] = byte
    try:
        loads(bytes(data))
    except pickle.UnpicklingError:
        pass


def test_memo_indices_take_no_memory() -> None:
    """Python's own unpickler makes room for the largest index."""
    assert loads(b"\x80\x02]r\xff\xff\xff\xff.") == []


def test_deep_nesting_is_built_but_never_hashed() -> None:
    depth = 200_000
    assert loads(b"\x80\x02" + b")" + b"\x85" * depth + b".") is not None
    with pytest.raises(pickle.UnpicklingError, match="nested too deep"):
        loads(b"\x80\x02})" + b"\x85" * depth + b"Ns.")


def test_keys_whose_hash_takes_for_ever() -> None:
    """A tuple that holds the one before twice: 2 ** 60 parts in 200 bytes."""
    twice = b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(1, 50))
    with pytest.raises(pickle.UnpicklingError, match="too deep or too large"):
        loads(b"\x80\x02}K\x01" + twice + b"Ns.")


def test_where_a_pickle_ends() -> None:
    first, second = pickle.dumps([1], 2), pickle.dumps([2], 2)
    reader = Unpickler(first + second, find)
    assert reader.load() == [1]
    assert Unpickler(first + second, find, at=reader.position).load() == [2]


def test_names_of_python_2() -> None:
    assert loads(b"\x80\x02c__builtin__\nset\n]\x85R.") == set()


def test_nothing_is_imported() -> None:
    assert "antigravity" not in sys.modules
    with pytest.raises(pickle.UnpicklingError, match=r"antigravity\.fly refused"):
        loads(b"\x80\x02cantigravity\nfly\n.")
    assert "antigravity" not in sys.modules
