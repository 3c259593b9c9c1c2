"""What is recorded to read memory that others see: NumPy arrays, DLPack, other processes.

An operation must see what the memory holds when it is called, however late it runs. Where the
memory is small, it is copied: the value that was read keeps the copy, and the cell gets a new one
over the memory, for whoever reads next. A program that wraps one array after another (the states of
an environment, samples) so waits for nothing. Larger memory is read at once, by a flush.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from flambeau import record
from flambeau.ir.graph import INPUT, Node
from flambeau.runtime.memory import Buffer

#: Bytes of the largest memory that is copied, which takes a fraction of a flush's time.
SMALL = 64 << 10


def settle(cells: Iterable[record.Cell]) -> None:
    """Have what was just recorded over exposed cells see what their memory holds now."""
    thread = record.thread
    if thread.joined or thread.tracing or thread.watcher is not None or record.sync:
        record.settle_exposed()
        return
    for cell in cells:
        node, home = cell.node, cell.home
        if home is None or node.buffer is not home or home.nbytes > SMALL:
            record.settle_exposed()
            return
        copy = Buffer(home.nbytes)
        ctypes.memmove(copy.ptr, home.ptr, home.nbytes)
        cell.node = Node(INPUT, (), (), node.shape, node.dtype)
        cell.node.buffer = home
        node.buffer = copy
