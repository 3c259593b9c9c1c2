"""``torch.version`` and ``torch.torch_version``: which torch flambeau answers for."""

from __future__ import annotations

import re
from typing import Any

TORCH = "2.11.0"
"""The release whose API flambeau follows."""

__version__ = f"{TORCH}+flambeau"
debug = False
git_version = "unknown"
cuda = hip = rocm = xpu = None


def _key(version: Any) -> tuple[int, ...]:
    if isinstance(version, tuple | list):
        numbers = [int(part) for part in version if str(part).isdigit()]
    else:
        release = re.match(r"v?\d+(\.\d+)*", str(version))
        if release is None:
            raise ValueError(f"not a version: {version!r}")
        numbers = [int(part) for part in release[0].lstrip("v").split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


class TorchVersion(str):
    """A version string that compares as a version with strings and tuples.

    Only the numbers of the release count, so ``2.11.0+flambeau == "2.11"``.
    """

    __slots__ = ()

    def __lt__(self, other: Any) -> bool:
        return _key(str(self)) < _key(other)

    def __le__(self, other: Any) -> bool:
        return _key(str(self)) <= _key(other)

    def __gt__(self, other: Any) -> bool:
        return _key(str(self)) > _key(other)

    def __ge__(self, other: Any) -> bool:
        return _key(str(self)) >= _key(other)

    def __eq__(self, other: object) -> bool:
        try:
            return str(self) == str(other) or _key(str(self)) == _key(other)
        except ValueError:
            return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return str.__hash__(self)
