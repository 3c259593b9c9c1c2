"""Under autocast, every row gives torch's dtypes, and its leaves gradients of torch's dtypes."""

from __future__ import annotations

from typing import Any

import pytest

import flambeau
from flambeau.ops.rows import ROWS
from flambeau.tensor import Tensor
from tests.conftest import HAS_TORCH
from tests.table import cases
from tests.table.test_parity import COMPARED, flat, leaf, peer, to_torch, weighted

if HAS_TORCH:
    import torch

pytestmark = pytest.mark.parity

#: By the name in torch's own list of operations that its autocast for CPUs converts: the row.
_OTHER_NAMES = {"cross_entropy_loss": "cross_entropy", "grid_sampler": "grid_sample"}
_LOWER = {
    *("linear", "matmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "linalg_vecdot", "prelu"),
    *("conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d"),
    *("conv_transpose3d", "scaled_dot_product_attention"),
}
#: Rows whose dtype follows from how torch happens to write them: the mean over channels of a
#: bfloat16 input is `avg_pool3d` there, and float32 therefore; the last step of an inverse is a
#: product, and bfloat16 therefore; with a tensor as its scale a rounding is not on torch's list.
_OPEN = {"local_response_norm", "linalg_pinv", "pinverse", "fake_quantize_per_tensor_affine"}
#: Families that autocast leaves as they are in torch, where they refuse 16-bit numbers; here they
#: are computed in float32.
_NARROW_REFUSED = ("linalg", "elimination", "fourier")
_PROMOTE = {"cat", "stack", "index_copy"}


def test_policies_are_torchs() -> None:
    listed = {
        name.removeprefix("aten::").partition(".")[0]
        for name in torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCPU")
    }
    wrong = []
    for name in sorted(_OTHER_NAMES.get(name, name) for name in listed):
        row = ROWS.get(name) or ROWS.get(name.removeprefix("linalg_"))
        wanted = "lower" if name in _LOWER else "promote" if name in _PROMOTE else "float32"
        if row is not None and cases.public(row.name) and row.autocast != wanted:
            wrong.append(f"{name}: {row.autocast}, torch {wanted}")
    assert not wrong, "\n".join(wrong)


def test_no_other_row_converts() -> None:
    listed = {
        name.removeprefix("aten::").partition(".")[0]
        for name in torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCPU")
    }
    listed |= {_OTHER_NAMES.get(name, name) for name in listed}
    ours = {name for name, row in ROWS.items() if row.autocast not in (None, "exempt")}
    extra = {n for n in ours if n not in listed and f"linalg_{n}" not in listed}
    known = {n for n in extra if ROWS[n].module.rpartition(".")[2] in _NARROW_REFUSED}
    assert not {n for n in extra - known if cases.public(n)}


def halves(value: Any) -> Any:
    """Arguments with every second float tensor in bfloat16."""
    count = 0

    def change(t: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if not t.dtype.is_floating_point or count % 2 == 0:
            return leaf(t)
        made = t.detach().to(flambeau.bfloat16)
        made.requires_grad = t.requires_grad
        return made

    return cases.mapped(value, change)


def names(found: list[Any]) -> list[str]:
    """The dtypes of some tensors, by name."""
    return [str(t.dtype).rpartition(".")[2] for t in found]


def differences(call: cases.Call, mixed: bool) -> list[str]:
    """Where one call's dtypes under autocast differ from torch's."""
    mine = halves((call.args, call.kwargs)) if mixed else (call.args, call.kwargs)
    args, kwargs = to_torch(mine[0]), to_torch(mine[1])
    label = f"{call}{' mixed' if mixed else ''}"
    try:
        with torch.autocast("cpu", torch.bfloat16):
            theirs = flat(peer(call.row.name)(*args, **kwargs), torch.Tensor)
    except cases.REFUSALS:
        return []  # what torch refuses, in the region or at all, is left open
    with flambeau.autocast("cpu", flambeau.bfloat16):
        ours = cases.tensors(call.row.call(*mine[0], **mine[1]))
    if names(ours) != names(theirs):
        return [f"{label}: {names(ours)}, torch {names(theirs)}"]
    total, wanted = cases.weighted(ours), weighted(theirs)
    if total is None or wanted is None:
        return []
    leaves = [t for t in flat(mine, Tensor) if t.requires_grad]
    peers = [t for t in flat((args, kwargs), torch.Tensor) if t.requires_grad]
    found = flambeau.autograd.grad(total, leaves, allow_unused=True)
    try:
        expected = torch.autograd.grad(wanted, peers, allow_unused=True)
    except RuntimeError:
        return []
    return [
        f"{label}: gradient {names([g])}, torch {names([w])}"
        for g, w in zip(found, expected, strict=True)
        if g is not None and w is not None and names([g]) != names([w])
    ]


@pytest.mark.parametrize("name", [name for name in COMPARED if name not in _OPEN])
def test_dtypes_are_torchs(name: str) -> None:
    problems = []
    try:
        calls = cases.calls(name, cases.Draw(flambeau.float32, grad=True))
    except cases.REFUSALS:
        return
    for call in calls[:4]:
        for mixed in (False, True):
            try:
                problems += differences(call, mixed)
            except cases.REFUSALS as error:
                problems.append(f"{call} mixed={mixed}: {type(error).__name__}: {error}")
    assert not problems, "\n".join(problems)
