"""What an index out of range raises: the class and the words of the public operation."""

from __future__ import annotations

from typing import Any, NamedTuple

from flambeau.ir.graph import Node


class Fault(NamedTuple):
    """The error of a wrong index, a static attribute of the nodes that read or write by index.

    Attributes:
        message: with {index}, {dim} and {size} of the first wrong one.
        error: the exception's class.
        dims: for each index tensor, the user's dimension that it runs over; counted if empty.
        wraps: negative indices had the size added before they came here.
    """

    message: str = "index {index} is out of bounds for dimension {dim} with size {size}"
    error: type[Exception] = IndexError
    dims: tuple[int, ...] = ()
    wraps: bool = False

    def __str__(self) -> str:
        return self.error.__name__


PLAIN = Fault()


def fault_of(node: Node) -> Fault:
    """The fault of a node that reads or writes by index."""
    found = node.attrs[-1] if node.attrs else None
    return found if isinstance(found, Fault) else PLAIN


def index_error(node: Node, indices: list[Any]) -> Exception | None:
    """The error of a node's first index that is out of range, or None where all are in it.

    Args:
        indices: an array for each indexed dimension, or None where it is not known.
    """
    fault = fault_of(node)
    for position, index in enumerate(indices):
        size = node.src[0].shape[position]
        if index is None or not index.size or (index.min() >= 0 and index.max() < size):
            continue
        wrong = int(index[(index < 0) | (index >= size)].flat[0])
        if fault.wraps and wrong < 0:
            wrong -= size
        dim = fault.dims[position] if fault.dims else position
        return fault.error(fault.message.format(index=wrong, dim=dim, size=size))
    return None
