"""flambeau: PyTorch's API, recorded as it is called and executed fused."""

from flambeau import autograd, dtype as _dtypes, ops
from flambeau.ops.table import NAMES as _names
from flambeau.tensor import Tensor
from flambeau.device import device
from flambeau.size import Size
from flambeau.runtime.threads import get_num_threads, set_num_threads
from flambeau.version import __version__
from flambeau.runtime import host as _host
from flambeau.ops.random import Generator, default_generator
from flambeau.autograd import (
    enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad,
    set_grad_enabled)

globals().update(_names)
globals().update({k: v for k, v in vars(_dtypes).items()
                  if isinstance(v, _dtypes.dtype) or k in ("dtype", "finfo", "iinfo", "get_default_dtype", "set_default_dtype", "promote_types", "can_cast")})
from flambeau import nn, optim  # noqa: E402
