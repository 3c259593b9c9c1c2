"""``torch.types``: names for annotations."""

from __future__ import annotations

import os
from typing import Any

import flambeau

Number = int | float | bool
Device = Any
FileLike = Any
PathLike = str | os.PathLike
Tensor = flambeau.Tensor
Storage = Any
_int, _float, _bool, _complex = int, float, bool, complex
_device = flambeau.device
_dtype = flambeau.dtype
_layout = Any
_qscheme = Any
_size = flambeau.Size | list[int] | tuple[int, ...]
_symint = int
_dispatchkey = str
