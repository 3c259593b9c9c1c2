"""What torch's own database of wrong calls refuses is refused here, with the same class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau
from tests.conftest import HAS_TORCH

pytestmark = pytest.mark.parity
pytest.importorskip("expecttest", reason="torch's database of calls needs it")

if HAS_TORCH:
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

#: Calls that are accepted here, or refused with another class, by name and number, with the reason.
ELSEWHERE = {
    ("arange", 6): "torch raises ValueError in the database's own wrapper",
    ("cat", 6): "storages can always be resized here",
    ("cat", 7): "storages can always be resized here",
    ("cat", 8): "storages can always be resized here",
    ("narrow_copy", 1): "torch raises RuntimeError from a check inside",
    ("gather", 7): "torch resizes `out` into the index's memory; here it gets memory of its own",
}


class Unlike(Exception):
    """A value that has no counterpart here."""


def converted(value: Any, known: dict[int, Any]) -> Any:
    """A value for flambeau; tensors that share memory in torch share it here."""
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided or value.device.type != "cpu" or value.is_complex():
            raise Unlike(value)
        storage = value.untyped_storage()
        base = known.get(storage.data_ptr())
        if base is None:
            flat = torch.empty(0, dtype=value.dtype).set_(storage)
            base = flambeau.tensor(flat.float().numpy() if value.dtype is torch.bfloat16
                                   else flat.numpy())  # fmt: skip
            base = base.to(getattr(flambeau, str(value.dtype).removeprefix("torch.")))
            if storage.data_ptr():
                known[storage.data_ptr()] = base
        if base.dtype.name != str(value.dtype).removeprefix("torch."):
            raise Unlike(value)
        shown = base.as_strided(tuple(value.shape), value.stride(), value.storage_offset())
        return shown.detach().requires_grad_(value.requires_grad)
    if isinstance(value, torch.dtype):
        name = str(value).removeprefix("torch.")
        if not hasattr(flambeau, name):
            raise Unlike(value)
        return getattr(flambeau, name)
    if isinstance(value, torch.device):
        return flambeau.device(str(value))
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (list, tuple)):
        return type(value)(converted(v, known) for v in value)
    if isinstance(value, dict):
        return {k: converted(v, known) for k, v in value.items()}
    if isinstance(value, (bool, int, float, complex, str, type(None), np.generic)):
        return value
    raise Unlike(value)


def own(name: str) -> Any:
    """flambeau's function of an operation's dotted name, or None."""
    found: Any = flambeau
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None and "." not in name and not name.startswith("__"):
        found = getattr(flambeau.Tensor, name, None)
    return found


def settle(value: Any) -> None:
    """Compute results, so that what is wrong with values is seen."""
    if isinstance(value, flambeau.Tensor):
        value.tolist()
    elif isinstance(value, (list, tuple)):
        for v in value:
            settle(v)


def wrong_calls() -> Iterator[Any]:
    """The database's operations that have wrong calls and exist here."""
    seen = set()
    for op in op_db if HAS_TORCH else ():
        plain = (getattr(op.op, "__module__", "") or "").startswith("torch.testing")
        if op.error_inputs_func is not None and op.name not in seen and not plain:
            if own(op.name) is not None:
                seen.add(op.name)
                yield pytest.param(op, id=op.name)


@pytest.mark.parametrize("op", list(wrong_calls()))
def test_wrong_calls_raise_torchs_class(op: Any) -> None:
    problems = []
    for number, wrong in enumerate(op.error_inputs("cpu")):
        if (op.name, number) in ELSEWHERE:
            continue
        sample = wrong.sample_input
        call = (sample.input, sample.args, sample.kwargs)
        try:
            given, args, kwargs = converted(call, {})
        except Unlike:
            continue
        try:
            op.op(sample.input, *sample.args, **sample.kwargs)
        except Exception as error:
            expected = error
        else:
            continue  # this build of torch accepts it
        try:
            settle(own(op.name)(given, *args, **kwargs))
        except type(expected):
            continue
        except Exception as error:
            problems.append(f"{number}: {error!r}, torch {expected!r}")
        else:
            problems.append(f"{number}: accepted, torch {expected!r}")
    assert not problems, "\n".join(problems)
