"""``torch.jit.annotations``: names for annotations of scripted code."""

from __future__ import annotations

from typing import Any


class _Lists(type):
    def __getitem__(cls, item: Any) -> Any:
        return list[item]


class BroadcastingList2(metaclass=_Lists):
    """``BroadcastingListN[T]``: a T, or a list of N of them."""


BroadcastingList1 = BroadcastingList3 = BroadcastingList2
List = list
