"""Sample arguments of the rows, by family; imported by tests only.

Each module gives rows their samples: functions of `r`, where r(*shape, dtype=, low=, high=) makes a
tensor, that return tuples of arguments, the last of which may be a dict of keyword arguments.
"""

from importlib import import_module
from pkgutil import iter_modules

from flambeau.ops.rows import ROWS

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

#: Rows whose derivative is not that of their values, by design; torch's is compared instead.
_BY_RULE = (
    "embedding",  # the entry for padding gets no gradient
    "_embedding",
    "_embedding_sparse",
    "native_batch_norm",  # as of native_layer_norm
    "native_layer_norm",  # mean and deviation are results without derivatives
    "_cross_entropy",  # the log-sum-exp is kept for the rule alone
    "_recurrent_layer",  # what the gates were is kept for the rule alone
    "nan_to_num",  # what it replaces has no derivative
    "_scan",  # `ops.steps` has its derivative
    "_cond",  # `ops.branches` has its derivative
    "_while",  # it has none
    "_dynamic_linear",  # straight through the rounding, as the three that follow
    "_fake_quantize",
    "fake_quantize_per_channel_affine",
    "fake_quantize_per_tensor_affine",
    "to_dtype",  # narrow results round
)
for _name in _BY_RULE:
    ROWS[_name].gradcheck = False
