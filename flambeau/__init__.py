"""flambeau: PyTorch's API, recorded as it is called and executed fused."""

from flambeau import autograd, ops  # noqa: F401
from flambeau.runtime import host  # noqa: F401
from flambeau.ops.table import NAMES as _names
from flambeau.tensor import Tensor  # noqa: F401
from flambeau.dtype import *  # noqa: F403
from flambeau.dtype import dtype  # noqa: F401
from flambeau.device import device  # noqa: F401
from flambeau.size import Size  # noqa: F401
globals().update(_names)
