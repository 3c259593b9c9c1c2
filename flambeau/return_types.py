"""The classes of results with names, as torch has them: ``torch.return_types.max`` and the others.

They are named tuples that print as torch's: a line for each of their tensors.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from flambeau.dtype import prefix

#: Each result's name, and the names of its tensors.
FIELDS = {
    "aminmax": "min max",
    "cummax": "values indices",
    "cummin": "values indices",
    "frexp": "mantissa exponent",
    "geqrf": "a tau",
    "histogram": "hist bin_edges",
    "histogramdd": "hist bin_edges",
    "kthvalue": "values indices",
    "linalg_cholesky_ex": "L info",
    "linalg_eig": "eigenvalues eigenvectors",
    "linalg_eigh": "eigenvalues eigenvectors",
    "linalg_inv_ex": "inverse info",
    "linalg_ldl_factor": "LD pivots",
    "linalg_ldl_factor_ex": "LD pivots info",
    "linalg_lstsq": "solution residuals rank singular_values",
    "linalg_lu": "P L U",
    "linalg_lu_factor": "LU pivots",
    "linalg_lu_factor_ex": "LU pivots info",
    "linalg_qr": "Q R",
    "linalg_slogdet": "sign logabsdet",
    "linalg_solve_ex": "result info",
    "linalg_svd": "U S Vh",
    "lu_unpack": "P L U",
    "max": "values indices",
    "median": "values indices",
    "min": "values indices",
    "mode": "values indices",
    "nanmedian": "values indices",
    "qr": "Q R",
    "sort": "values indices",
    "svd": "U S V",
    "topk": "values indices",
    "triangular_solve": "solution cloned_coefficient",
}


def _print(self: Any) -> str:
    parts = (f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
    return f"{prefix[0]}.return_types.{type(self).__name__}(\n" + ",\n".join(parts) + ")"


def _made(name: str, fields: str) -> Any:
    base = namedtuple(name, fields.split())  # type: ignore[misc]
    members = {"__slots__": (), "__module__": __name__, "__repr__": _print}
    return type(name, (base,), members)


globals().update({name: _made(name, fields) for name, fields in FIELDS.items()})


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
