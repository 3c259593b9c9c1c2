"""The Python array API standard, 2025.12: tensors under the names and rules it has.

PyTorch's own names, in `flambeau`, differ in places: `max` gives places as well, dimensions are
`dim`, 0-d tensors do not take part in promotion. `x.__array_namespace__()` gives this module, so
that libraries written in the standard find it by themselves.

Example:
    >>> import flambeau
    >>> xp = flambeau.ones(2, 3).__array_namespace__()
    >>> xp.max(xp.asarray([[1, 5], [7, 2]]), axis=0).tolist()
    [7, 5]

Reference: https://data-apis.org/array-api/2025.12/
"""

from __future__ import annotations

from math import e, inf, nan, pi

from flambeau.array_api import arrangement, creation, elementwise, fft, linalg, promotion
from flambeau.array_api import statistics as _statistics
from flambeau.array_api.info import __array_namespace_info__
from flambeau.array_api.promotion import DTYPES as _DTYPES

__array_api_version__ = "2025.12"
newaxis = None
_PARTS = (arrangement, creation, elementwise, promotion, _statistics)
_SHARED = ("matmul", "tensordot", "vecdot")  # of `linalg`
for _part in _PARTS:
    globals().update({name: vars(_part)[name] for name in _part.__all__})
globals().update({name: vars(linalg)[name] for name in _SHARED}, **_DTYPES)

__all__ = [
    "__array_api_version__",
    "__array_namespace_info__",
    "e",
    "fft",
    "inf",
    "linalg",
    "nan",
    "newaxis",
    "pi",
    *_DTYPES,
    *_SHARED,
    *(name for part in _PARTS for name in part.__all__),
]
