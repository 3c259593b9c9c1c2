"""flambeau: PyTorch's API, recorded as it is called and executed fused."""

# ruff: noqa: F401 (what is imported here are the public names)

from math import e, inf, nan, pi

from flambeau import autograd, legacy, ops, printing, random, storage
from flambeau.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from flambeau.autograd.anomaly import (
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    set_anomaly_enabled,
)
from flambeau.budget import get_memory_budget, set_memory_budget
from flambeau.compile import compile
from flambeau.deferred import attribute as __getattr__
from flambeau.deferred import names as __dir__
from flambeau.device import device, get_default_device, set_default_device
from flambeau.dlpack import from_dlpack, to_dlpack
from flambeau.dtype import (
    bfloat16,
    bool,
    can_cast,
    cdouble,
    cfloat,
    complex64,
    complex128,
    double,
    dtype,
    finfo,
    float,
    float8_e4m3fn,
    float8_e4m3fnuz,
    float8_e5m2,
    float8_e5m2fnuz,
    float8_e8m0fnu,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    iinfo,
    int,
    int8,
    int16,
    int32,
    int64,
    long,
    promote_types,
    set_default_dtype,
    short,
    uint8,
    uint16,
    uint32,
    uint64,
)
from flambeau.layout import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    jagged,
    layout,
    legacy_contiguous_format,
    memory_format,
    preserve_format,
    sparse_bsc,
    sparse_bsr,
    sparse_coo,
    sparse_csc,
    sparse_csr,
    strided,
)
from flambeau.legacy import (
    BFloat16Tensor,
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
    set_default_tensor_type,
)
from flambeau.ops.generator import Generator, default_generator
from flambeau.ops.rows import NAMES as _NAMES
from flambeau.printing import get_printoptions, printoptions, set_printoptions
from flambeau.runtime import host as _host
from flambeau.runtime.threads import get_num_threads, set_num_threads
from flambeau.settings import (
    are_deterministic_algorithms_enabled,
    get_deterministic_debug_mode,
    get_float32_matmul_precision,
    get_num_interop_threads,
    is_deterministic_algorithms_warn_only_enabled,
    is_storage,
    is_warn_always_enabled,
    set_deterministic_debug_mode,
    set_float32_matmul_precision,
    set_flush_denormal,
    set_num_interop_threads,
    set_warn_always,
    typename,
    use_deterministic_algorithms,
)
from flambeau.size import Size
from flambeau.storage import TypedStorage, UntypedStorage
from flambeau.tensor import Tensor

__version__ = "0.1.0"
newaxis = None

# every public row of the table, over modules of the same name (`tensor`) but under dtypes (`float`)
globals().update(
    {_name: _row for _name, _row in _NAMES.items() if not isinstance(globals().get(_name), dtype)}
)

# these are written in the public names above
from flambeau import nn, optim, sparse  # noqa: E402
from flambeau.sparse import sparse_coo_tensor, sparse_csr_tensor  # noqa: E402
