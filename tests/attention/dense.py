"""Attention written out in float64, as an independent reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def torch_reference(
    q: Any, k: Any, v: Any, g: Any, g_lse: Any, scale: float, captured: list[Any],
    score: Callable[..., Any] | None = None, mask: Callable[..., Any] | None = None,
) -> tuple[Any, Any, list[Any]]:  # fmt: skip
    """(output, log-sum-exp, gradients of q, k, v and of captured floating-point arrays).

    `score` and `mask` are given torch and the captured tensors and return a mod over whole tensors.
    """
    import torch

    def leaf(x: Any) -> Any:
        x = torch.tensor(x)
        return x.double().requires_grad_() if x.is_floating_point() else x

    q, k, v = leaf(q), leaf(k), leaf(v)
    tables = [leaf(c) for c in captured]
    groups = q.shape[1] // k.shape[1]
    keys, values = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    s = torch.einsum("bhle,bhse->bhls", q, keys) * scale
    place = [
        torch.arange(n).reshape([n if i == d else 1 for i in range(4)])
        for d, n in enumerate(s.shape)
    ]
    if score is not None:
        s = score(torch, tables)(s, *place)
    if mask is not None:
        s = torch.where(mask(torch, tables)(*place).expand(s.shape), s, -torch.inf)
    top = s.detach().amax(-1, keepdim=True)
    top = torch.where(top == -torch.inf, 0.0, top)
    p = torch.exp(s - top)
    total = p.sum(-1, keepdim=True)
    seen = total > 0
    safe = torch.where(seen, total, 1.0)
    out = torch.where(seen, p / safe, 0.0) @ values
    lse = torch.where(seen, torch.log(safe) + top, 0.0)[..., 0]
    loss = (out * torch.tensor(g).double()).sum() + (lse * torch.tensor(g_lse).double()).sum()
    leaves = [q, k, v, *(t for t in tables if t.requires_grad)]
    grads = torch.autograd.grad(loss, leaves)
    lse = torch.where(seen[..., 0], lse, -torch.inf)
    return out.detach().numpy(), lse.detach().numpy(), [x.numpy() for x in grads]


def numpy_reference(
    q: Any, k: Any, v: Any, g: Any, scale: float, causal: bool
) -> tuple[Any, Any, list[Any]]:
    """(output, log-sum-exp, gradients of q, k and v) of attention without mods."""
    groups = q.shape[1] // k.shape[1]
    b, heads, keys_, _ = k.shape
    q, g = q.astype(np.float64), g.astype(np.float64)
    keys, values = (np.repeat(x.astype(np.float64), groups, 1) for x in (k, v))
    s = q @ keys.swapaxes(-1, -2) * scale
    if causal:
        s = np.where(np.arange(keys_) <= np.arange(q.shape[2])[:, None], s, -np.inf)
    top = s.max(-1, keepdims=True)
    p = np.exp(s - top)
    total = p.sum(-1, keepdims=True)
    p /= total
    dp = g @ values.swapaxes(-1, -2)
    ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * scale

    def shared(x: Any) -> Any:
        return x.reshape(b, heads, groups, keys_, -1).sum(2)

    grads = [ds @ keys, shared(ds.swapaxes(-1, -2) @ q), shared(p.swapaxes(-1, -2) @ g)]
    return p @ values, (top + np.log(total))[..., 0], grads
