"""How a module's parameters and buffers change their dtype and device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

import flambeau
from flambeau.dtype import dtype as DType


class ConversionMixin:
    """The part of :class:`~flambeau.nn.Module` that converts and moves tensors."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    children: Callable[[], Iterator[Any]]

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        """Replace every parameter's, gradient's and buffer's value by ``fn`` of it.

        The parameters stay the same objects, so that optimizers keep them.
        """
        if recurse:
            for module in self.children():
                module._apply(fn)
        for param in self._parameters.values():
            if param is None:
                continue
            with flambeau.no_grad():
                applied = fn(param)
                grad = param.grad
                grad_applied = None if grad is None else fn(grad)
            param.data = applied
            if grad is not None:
                grad.data = grad_applied
        for name, buf in self._buffers.items():
            if buf is not None:
                self._buffers[name] = fn(buf)
        return self

    def apply(self, fn: Callable[[Any], None]) -> Self:
        """Call ``fn`` on every submodule, then on the module itself.

        Returns:
            The module.
        """
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def cuda(self, device: Any = None) -> Self:
        """Move parameters and buffers to a CUDA device."""
        return self._apply(lambda t: t.cuda(device))

    def xpu(self, device: Any = None) -> Self:
        """Move parameters and buffers to an XPU device."""
        return self._apply(lambda t: t.xpu(device))

    def cpu(self) -> Self:
        """Move parameters and buffers to the CPU."""
        return self._apply(lambda t: t.cpu())

    def type(self, dst_type: Any) -> Self:
        """Convert parameters and buffers to a dtype, the integer ones too."""
        return self._apply(lambda t: t.type(dst_type))

    def float(self) -> Self:
        """Convert floating-point parameters and buffers to float32."""
        return self._apply(lambda t: t.float() if t.is_floating_point() else t)

    def double(self) -> Self:
        """Convert floating-point parameters and buffers to float64."""
        return self._apply(lambda t: t.double() if t.is_floating_point() else t)

    def half(self) -> Self:
        """Convert floating-point parameters and buffers to float16."""
        return self._apply(lambda t: t.half() if t.is_floating_point() else t)

    def bfloat16(self) -> Self:
        """Convert floating-point parameters and buffers to bfloat16."""
        return self._apply(lambda t: t.bfloat16() if t.is_floating_point() else t)

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Move parameters and buffers to a device without copying their values."""
        return self._apply(lambda t: flambeau.empty_like(t, device=device), recurse=recurse)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or convert parameters and buffers.

        Args:
            args: ``(device)``, ``(dtype)``, ``(device, dtype)`` or ``(tensor)``, then
                optionally ``non_blocking``.
            kwargs: ``device``, ``dtype``, ``non_blocking``, ``memory_format`` by name.

        Returns:
            The module. Integer tensors keep their dtype.

        Raises:
            TypeError: the dtype is not floating-point or complex.
        """
        device, dtype, non_blocking = _parse_to(*args, **kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(
                "nn.Module.to only accepts floating point or complex dtypes, but got desired"
                f" dtype={dtype}"
            )

        def convert(t: Any) -> Any:
            wanted = dtype if t.is_floating_point() or t.is_complex() else None
            options = {} if wanted is None else {"dtype": wanted}
            if device is not None:
                options["device"] = device
            return t.to(**options, non_blocking=non_blocking) if options else t

        return self._apply(convert)

    def share_memory(self) -> Self:
        """Move parameters and buffers into memory shared between processes."""
        return self._apply(lambda t: t.share_memory_())


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, Any, bool]:
    """Device, dtype and ``non_blocking`` from the arguments of ``to``."""
    device = kwargs.pop("device", None)
    dtype = kwargs.pop("dtype", None)
    non_blocking = kwargs.pop("non_blocking", False)
    other = kwargs.pop("tensor", None)
    kwargs.pop("memory_format", None)  # values are stored contiguously
    kwargs.pop("copy", None)
    if kwargs:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(kwargs))}'")
    flags = []
    for arg in args:
        if isinstance(arg, bool):
            flags.append(arg)
        elif isinstance(arg, flambeau.Tensor):
            other = arg
        elif isinstance(arg, DType):
            dtype = arg
        elif arg is not None:
            device = arg
    if other is not None:
        device, dtype = other.device, other.dtype
    if device is not None:
        device = flambeau.device(device)
    return device, dtype, flags[0] if flags else non_blocking
