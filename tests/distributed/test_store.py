"""Stores, by one list of operations."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import flambeau.distributed as dist
from flambeau.distributed.store import FileStore, HashStore, PrefixStore, Store, TCPStore

pytestmark = pytest.mark.timeout(60)

STORES: dict[str, Callable[[Path], Store]] = {
    "hash": lambda folder: HashStore(),
    "file": lambda folder: FileStore(str(folder / "store"), 1),
    "tcp": lambda folder: TCPStore("127.0.0.1", 0, 1, True),
    "prefix": lambda folder: PrefixStore("a", HashStore()),
}


@pytest.mark.parametrize("name", STORES)
def test_operations(name: str, tmp_path: Path) -> None:
    store = STORES[name](tmp_path)
    store.set("a", "one")
    store.set("b", b"\x00\xff")
    assert (store.get("a"), store.get("b")) == (b"one", b"\x00\xff")
    assert [store.add("n", 2), store.add("n", 3)] == [2, 5]
    assert store.get("n") == b"5"
    store.append("a", "!")
    assert store.multi_get(["a", "n"]) == [b"one!", b"5"]
    assert store.compare_set("c", "", "first") == b"first"
    assert store.compare_set("c", "other", "second") == b"first"
    assert store.compare_set("c", "first", "second") == b"second"
    assert store.check(["a", "b"])
    assert not store.check(["a", "z"])
    assert (store.num_keys(), store.delete_key("a"), store.delete_key("a")) == (4, True, False)
    with pytest.raises(dist.DistError, match="keys: \\['z'\\]"):
        store.wait(["z"], timedelta(milliseconds=30))


def test_processes_meet_at_a_port() -> None:
    master = TCPStore("127.0.0.1", 0, 2, True)
    other = TCPStore("127.0.0.1", master.port, 2, False)
    late: list[Any] = []
    thread = threading.Thread(target=lambda: late.append(master.get("x")))
    thread.start()
    other.set("x", "y")
    thread.join(10)
    assert late == [b"y"]
