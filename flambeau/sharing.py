"""Tensors in messages between processes: what travels is their memory, not their values.

Importing this module teaches `multiprocessing` how: arguments of a process, and what is put into
its queues and pipes. A tensor is moved to shared memory when it is sent; both sides see each
other's writes, as long as one of them holds it. What a process put into a queue can be taken out
while that process lives.
"""

from __future__ import annotations

import os
import weakref
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Any

from flambeau import dtypes, record
from flambeau.device import cpu
from flambeau.storage import SharedFile, UntypedStorage, shared_buffer, tensor_from_storage
from flambeau.tensor import Tensor


def _send(tensor: Tensor) -> Any:
    """How a tensor is pickled for another process.

    Raises:
        RuntimeError: the tensor is the result of operations that autograd follows.
    """
    if tensor.requires_grad and not tensor.is_leaf:
        raise RuntimeError(
            "Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd "
            "does not support crossing process boundaries.  If you just want to transfer the data, "
            "call detach() on the tensor before serializing (e.g., putting it on the queue)."
        )
    storage = tensor.detach().untyped_storage().share_memory_()
    file = storage._cell.home.file
    view = (tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
    number, starting = file.number, get_spawning_popen()
    if starting is not None:  # a descriptor that a new process inherits can be named once only
        number = os.dup(number)
        weakref.finalize(starting, os.close, number)
    handle = DupFd(number)
    return _receive, (handle, storage.nbytes(), tensor.dtype.name, *view, tensor.requires_grad)


def _receive(
    handle: Any,
    nbytes: int,
    dtype: str,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
    requires_grad: bool,
) -> Tensor:
    """The tensor over memory that another process sent."""
    buffer = shared_buffer(nbytes, SharedFile(handle.detach()))
    cell = record.realised_cell(buffer, (nbytes,), dtypes.uint8, cpu)
    cell.exposed = True
    storage = UntypedStorage._over(cell)
    made = tensor_from_storage(storage, getattr(dtypes, dtype), offset, shape, stride)
    made.requires_grad = requires_grad
    return made


ForkingPickler.register(Tensor, _send)
