# Written by tools/generate.py from the table of operations; do not edit.

import builtins as _builtins
from typing import Any

import numpy as np

from flambeau import record as _record
from flambeau.device import device as _Device
from flambeau.dtype import dtype as _DType
from flambeau.ir.graph import Node as _Node
from flambeau.layout import layout as _Layout
from flambeau.ops.generator import Generator as _Generator
from flambeau.size import Size as _Size
from flambeau.storage import TypedStorage as _TypedStorage
from flambeau.storage import UntypedStorage as _UntypedStorage
from flambeau.tape import GradFn as _GradFn
from flambeau.tape import Handle as _Handle

from flambeau.tensor import Tensor as Tensor

def bartlett(M: _builtins.int, *, sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """1 - |2 n / N - 1|, a triangle."""
def blackman(M: _builtins.int, *, sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)."""
def cosine(M: _builtins.int, *, sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """sin(pi (n + 0.5) / M), half of a sine."""
def exponential(M: _builtins.int, *, center: _builtins.float | None = None, tau: _builtins.float = ..., sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """exp(-|n - center| / tau)."""
def gaussian(M: _builtins.int, *, std: _builtins.float = ..., sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """exp(-(n / std)^2 / 2), n counted from the middle."""
def general_cosine(M: _builtins.int, *, a: Any, sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """Sum of cosines with weights a and alternating signs."""
def general_hamming(M: _builtins.int, *, alpha: _builtins.float = ..., sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """alpha - (1 - alpha) cos(2 pi n / N)."""
def hamming(M: _builtins.int, *, sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """0.54 - 0.46 cos(2 pi n / N)."""
def hann(M: _builtins.int, *, sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """(1 - cos(2 pi n / N)) / 2."""
def kaiser(M: _builtins.int, *, beta: _builtins.float = ..., sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """i0(beta sqrt(1 - (2 n / N - 1)^2)) / i0(beta)."""
def nuttall(M: _builtins.int, *, sym: _builtins.bool = True, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """Nuttall's minimum 4-term Blackman-Harris window."""
