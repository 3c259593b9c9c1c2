"""What the namespace has: `__array_namespace_info__`."""

from __future__ import annotations

from typing import Any

import flambeau
from flambeau.array_api.promotion import BY_KIND, DTYPES


class __array_namespace_info__:
    """The standard's inspection functions."""

    def capabilities(self) -> dict[str, Any]:
        """What an array library may be without, and how many axes arrays have at most."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> Any:
        """Where arrays are made."""
        return flambeau.get_default_device()

    def devices(self) -> tuple[Any, ...]:
        """The devices there are."""
        return (flambeau.device("cpu"),)

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """The dtypes of arrays that are given none, by kind."""
        real = flambeau.get_default_dtype()
        return {
            "real floating": real,
            "complex floating": real.to_complex(),
            "integral": flambeau.int64,
            "indexing": flambeau.int64,
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        """The dtypes of a kind, of several, or all of them, by name.

        Raises:
            ValueError: no such kind.
        """
        if kind is None:
            return dict(DTYPES)
        if isinstance(kind, tuple):
            return {name: d for k in kind for name, d in self.dtypes(kind=k).items()}
        if kind not in BY_KIND:
            raise ValueError(f"unsupported kind: {kind!r}")
        return {d.name: d for d in BY_KIND[kind]}
