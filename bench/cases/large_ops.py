"""Single operations over float32: elementwise, softmax, reductions, normalisation.

Operands have 16 MB, which a last cache may hold; "add 64 MB" and the like are larger than that.
"""

import numpy as np
import torch
import torch.nn.functional as F

ROWS, COLUMNS = 4096, 1024

FORWARD = {
    "add": lambda x, y, w: x + y,
    "exp": lambda x, y, w: x.exp(),
    "gelu": lambda x, y, w: F.gelu(x),
    "gelu_tanh": lambda x, y, w: F.gelu(x, approximate="tanh"),
    "five_ops": lambda x, y, w: ((x * y + w).sigmoid() * x).clamp(-1, 1),
    "softmax": lambda x, y, w: F.softmax(x, dim=-1),
    "log_softmax": lambda x, y, w: F.log_softmax(x, dim=-1),
    "layer_norm": lambda x, y, w: F.layer_norm(x, (COLUMNS,), w, w),
    "sum": lambda x, y, w: x.sum(),
    "sum_rows": lambda x, y, w: x.sum(dim=-1),
    "sum_columns": lambda x, y, w: x.sum(dim=0),
    "max_rows": lambda x, y, w: x.amax(dim=-1),
    "var_rows": lambda x, y, w: x.var(dim=-1),
    "transpose": lambda x, y, w: x.t().contiguous(),
}
VARIANTS = (
    "add",
    "exp",
    "gelu",
    "gelu_tanh",
    "five_ops",
    "softmax",
    "log_softmax",
    "layer_norm",
    "sum",
    "sum_rows",
    "sum_columns",
    "max_rows",
    "var_rows",
    "transpose",
    "gelu_backward",
    "softmax_backward",
    "layer_norm_backward",
    "add 64 MB",
    "gelu 64 MB",
    "softmax 64 MB",
    "sum 64 MB",
    "transpose 64 MB",
)
QUICK = (
    "add",
    "gelu",
    "softmax",
    "sum",
    "layer_norm",
    "softmax_backward",
    "add 64 MB",
    "gelu 64 MB",
    "softmax 64 MB",
    "sum 64 MB",
)


def setup(variant, compile):
    """The step of one variant. `numpy()` reads the result without a copy, in every contender."""
    random = np.random.default_rng(0)
    name, _, large = variant.partition(" ")
    shape = (ROWS * 4 if large else ROWS, COLUMNS)
    x = torch.tensor(random.standard_normal(shape, dtype=np.float32))
    y = torch.tensor(random.standard_normal(shape, dtype=np.float32))
    w = torch.tensor(random.standard_normal(COLUMNS, dtype=np.float32))
    function = compile(FORWARD[name.removesuffix("_backward")])

    if name.endswith("_backward"):
        x.requires_grad_()

        def step():
            x.grad = None
            function(x, y, w).backward(y)
            return x.grad.numpy()[-1, -1]

    else:

        def step():
            return function(x, y, w).numpy().flat[-1]

    return {"step": step}
