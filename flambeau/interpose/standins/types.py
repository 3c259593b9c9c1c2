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
