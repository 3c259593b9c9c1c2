"""``torch.backends``: the libraries that torch stands on, with switches that change nothing."""

from flambeau.interpose.standins import (
    backends_cpu as cpu,
)
from flambeau.interpose.standins import (
    backends_cuda as cuda,
)
from flambeau.interpose.standins import (
    backends_cudnn as cudnn,
)
from flambeau.interpose.standins import (
    backends_mkl as mkl,
)
from flambeau.interpose.standins import (
    backends_mkldnn as mkldnn,
)
from flambeau.interpose.standins import (
    backends_mps as mps,
)
from flambeau.interpose.standins import (
    backends_openmp as openmp,
)
from flambeau.interpose.standins import (
    backends_quantized as quantized,
)

__all__ = ["cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "quantized"]
