"""Memory layouts and formats: torch's names. Tensors here are always strided and row-major."""

from __future__ import annotations

from flambeau.dtype import prefix


class layout:
    """How a tensor's elements lie in memory. Instances are unique."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"{prefix[0]}.{self.name}"

    def __reduce__(self) -> str:
        return self.name


class memory_format:
    """The order of dimensions in memory that a copy is asked to have. Instances are unique."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"{prefix[0]}.{self.name}"

    def __reduce__(self) -> str:
        return self.name


strided = layout("strided")
sparse_coo = layout("sparse_coo")
sparse_csr = layout("sparse_csr")
sparse_csc = layout("sparse_csc")
sparse_bsr = layout("sparse_bsr")
sparse_bsc = layout("sparse_bsc")
jagged = layout("jagged")

preserve_format = memory_format("preserve_format")
contiguous_format = legacy_contiguous_format = memory_format("contiguous_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
