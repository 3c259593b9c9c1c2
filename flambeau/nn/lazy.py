"""Layers that learn the size of their input from the first one.

A lazy layer has `UninitializedParameter`s. Its first call, or a state dict that it loads, gives
them their shapes and initial values; the layer then is an ordinary one, of its class too.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import flambeau
from flambeau.nn.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from flambeau.nn.linear import Linear
from flambeau.nn.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from flambeau.nn.uninitialized import UninitializedBuffer, UninitializedParameter, is_lazy


class LazyModuleMixin:
    """A module whose `initialize_parameters(*input)` shapes its parameters before the first call.

    Attributes:
        cls_to_become: the module's class from then on; None leaves it.
    """

    cls_to_become: type | None = None
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As the next class, with hooks that wait for an input or a state dict."""
        super().__init__(*args, **kwargs)
        this: Any = self
        self._load_hook = this._register_load_state_dict_pre_hook(self._lazy_load_hook)
        self._initialize_hook = this.register_forward_pre_hook(
            self._infer_parameters, with_kwargs=True
        )
        warnings.warn(
            "Lazy modules are a new feature under heavy development so changes to the API or "
            "functionality can happen at any moment.",
            stacklevel=2,
        )

    def _own(self) -> Any:
        return itertools.chain(self._parameters.items(), self._buffers.items())

    def has_uninitialized_params(self) -> bool:
        """Whether some parameter or buffer of this module has no shape yet."""
        return any(is_lazy(t) for _, t in self._own())

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give all parameters their shapes and values, from the module's input.

        Raises:
            NotImplementedError: the class does not define it.
        """
        raise NotImplementedError(
            f"initialize_parameters is not implemented for {type(self).__name__}"
        )

    def _infer_parameters(self, module: Any, args: Any, kwargs: Any = None) -> None:
        """Before the first call: initialize, and become an ordinary module.

        Raises:
            RuntimeError: something is left without a shape.
        """
        module.initialize_parameters(*args, **(kwargs or {}))
        if module.has_uninitialized_params():
            name = type(module).__name__
            raise RuntimeError(f"module {name} has not been fully initialized")
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become

    def _lazy_load_hook(
        self, state_dict: Any, prefix: str, local_metadata: Any, *more: Any
    ) -> None:
        """Before a state dict is read: take shapes over from it."""
        for name, t in self._own():
            key = prefix + name
            if key in state_dict and is_lazy(t) and not is_lazy(state_dict[key]):
                with flambeau.no_grad():
                    t.materialize(state_dict[key].shape)

    def _replicate_for_data_parallel(self) -> Any:
        raise RuntimeError(
            "Modules with uninitialized parameters can't be used with `DataParallel`. Run a dummy "
            "forward pass to correctly initialize the modules"
        )


class LazyLinear(LazyModuleMixin, Linear):
    """`Linear` whose ``in_features`` is the size of the first input's last dimension.

    Args:
        out_features: size of the last dimension of the result.
        bias: whether there is a bias.
        device: of the parameters.
        dtype: of the parameters.
    """

    cls_to_become = Linear

    def __init__(
        self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        """Parameters without shapes."""
        super().__init__(0, 0, False)
        self.weight: Any = UninitializedParameter(device=device, dtype=dtype)
        self.out_features = out_features
        if bias:
            self.bias: Any = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, once they have shapes."""
        if not self.has_uninitialized_params() and self.in_features != 0:
            super().reset_parameters()

    def initialize_parameters(self, input: Any) -> None:
        """Take ``in_features`` from an input ``(..., in_features)``."""
        if self.has_uninitialized_params():
            with flambeau.no_grad():
                self.in_features = input.shape[-1]
                self.weight.materialize((self.out_features, self.in_features))
                if self.bias is not None:
                    self.bias.materialize((self.out_features,))
                self.reset_parameters()
        if self.in_features == 0:  # a state dict gave the shapes
            self.in_features = self.weight.shape[-1]


class _LazyConvolution(LazyModuleMixin):
    """A convolution whose ``in_channels`` are those of the first input; the other arguments are the
    class's own, from ``out_channels`` on."""

    _count: int
    _names: tuple[str, ...] = (
        *("stride", "padding", "dilation", "groups", "bias", "padding_mode", "device", "dtype"),
    )
    in_channels: int
    out_channels: int

    def __init__(self, out_channels: int, kernel_size: Any, *args: Any, **kwargs: Any) -> None:
        """Parameters without shapes."""
        arguments = dict(zip(self._names, args, strict=False)) | kwargs
        bias = arguments.pop("bias", True)
        where: dict[str, Any] = {k: arguments.get(k) for k in ("device", "dtype")}
        # groups would be compared with channels that are not known yet
        groups = arguments.pop("groups", 1)
        super().__init__(0, 0, kernel_size, bias=False, groups=groups, **arguments)
        self.weight: Any = UninitializedParameter(**where)
        self.out_channels = out_channels
        if bias:
            self.bias: Any = UninitializedParameter(**where)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, once they have shapes."""
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Any, *args: Any, **kwargs: Any) -> None:
        """Take ``in_channels`` from an input ``(N, C, ...)`` or ``(C, ...)``.

        Raises:
            RuntimeError: an input of another number of dimensions.
            ValueError: channels that the groups do not divide.
        """
        this: Any = self
        if self.has_uninitialized_params():
            self.in_channels = self._channels(input)
            if self.in_channels % this.groups:
                raise ValueError("in_channels must be divisible by groups")
            inside, outside = self.in_channels, self.out_channels
            lead = (
                (inside, outside // this.groups)
                if this.transposed
                else (outside, inside // this.groups)
            )
            with flambeau.no_grad():
                self.weight.materialize((*lead, *this.kernel_size))
                if self.bias is not None:
                    self.bias.materialize((outside,))
                self.reset_parameters()
        if self.in_channels == 0:  # a state dict gave the shapes
            shape = self.weight.shape
            self.in_channels = shape[0] if this.transposed else shape[1] * this.groups

    def _channels(self, input: Any) -> int:
        single, batch = self._count + 1, self._count + 2
        if input.dim() not in (single, batch):
            raise RuntimeError(
                f"Expected {single}D (unbatched) or {batch}D (batched) input to "
                f"{type(self).__name__}, but got input of size: {input.shape}"
            )
        channels: int = input.shape[1] if input.dim() == batch else input.shape[0]
        return channels


class LazyConv1d(_LazyConvolution, Conv1d):
    """`Conv1d` whose ``in_channels`` are those of the first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConvolution, Conv2d):
    """`Conv2d` whose ``in_channels`` are those of the first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConvolution, Conv3d):
    """`Conv3d` whose ``in_channels`` are those of the first input."""

    cls_to_become = Conv3d


class _LazyTransposed(_LazyConvolution):
    """A transposed convolution whose ``in_channels`` are those of the first input."""

    _names = (
        *("stride", "padding", "output_padding", "groups", "bias", "dilation", "padding_mode"),
        *("device", "dtype"),
    )


class LazyConvTranspose1d(_LazyTransposed, ConvTranspose1d):
    """`ConvTranspose1d` whose ``in_channels`` are those of the first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, ConvTranspose2d):
    """`ConvTranspose2d` whose ``in_channels`` are those of the first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, ConvTranspose3d):
    """`ConvTranspose3d` whose ``in_channels`` are those of the first input."""

    cls_to_become = ConvTranspose3d


class _LazyNorm(LazyModuleMixin):
    """A normalization whose ``num_features`` are the channels of the first input; arguments as of
    its class from ``eps`` on."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        """Parameters and buffers without shapes."""
        super().__init__(0, eps, momentum, False, False)
        self.affine = affine
        self.track_running_stats = track_running_stats
        if affine:
            self.weight: Any = UninitializedParameter(device=device, dtype=dtype)
            if bias:
                self.bias: Any = UninitializedParameter(device=device, dtype=dtype)
        if track_running_stats:
            self.running_mean: Any = UninitializedBuffer(device=device, dtype=dtype)
            self.running_var: Any = UninitializedBuffer(device=device, dtype=dtype)
            self.num_batches_tracked = flambeau.tensor(0, dtype=flambeau.long, device=device)

    def reset_parameters(self) -> None:
        """Ones and zeros, once the parameters have shapes."""
        if not self.has_uninitialized_params() and self.num_features != 0:
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Any) -> None:
        """Take ``num_features`` from an input ``(N, C, ...)``."""
        if self.has_uninitialized_params():
            self.num_features = input.shape[1]
            with flambeau.no_grad():
                for _, t in self._own():
                    if is_lazy(t):
                        t.materialize((self.num_features,))
                self.reset_parameters()
        if self.num_features == 0:  # a state dict gave the shapes
            kept = self.weight if self.weight is not None else self.running_mean
            self.num_features = kept.shape[0]


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """`BatchNorm1d` whose ``num_features`` are the channels of the first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """`BatchNorm2d` whose ``num_features`` are the channels of the first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """`BatchNorm3d` whose ``num_features`` are the channels of the first input."""

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """`InstanceNorm1d` whose ``num_features`` are the channels of the first input."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """`InstanceNorm2d` whose ``num_features`` are the channels of the first input."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """`InstanceNorm3d` whose ``num_features`` are the channels of the first input."""

    cls_to_become = InstanceNorm3d
