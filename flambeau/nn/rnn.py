"""Recurrent layers and their cells.

Shapes: T steps, B batch, I features of the input, H of the hidden state, L layers times directions.
Inputs are ``(T, B, I)``, ``(B, T, I)`` with ``batch_first``, ``(T, I)``, or a ``PackedSequence``.
"""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

import flambeau
from flambeau.control import without_value
from flambeau.nn import init
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.nn.utils.rnn import PackedSequence
from flambeau.ops.recurrent import GATES
from flambeau.tensor import Tensor

_MODES = {"RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu", "GRU": "gru", "LSTM": "lstm"}


def _check_options(
    input_size: Any, hidden_size: Any, num_layers: int, bias: Any, batch_first: Any, dropout: Any,
    proj_size: int,
) -> None:  # fmt: skip
    """Refuse options that make no recurrent layer."""
    number = isinstance(dropout, numbers.Number) and not isinstance(dropout, bool)
    if not number or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an "
            "element being zeroed"
        )
    for name, value, kind in (
        ("bias", bias, bool),
        ("batch_first", batch_first, bool),
        ("input_size", input_size, int),
        ("hidden_size", hidden_size, int),
    ):
        if not isinstance(value, kind):
            raise TypeError(
                f"{name} should be of type {kind.__name__}, got: {type(value).__name__}"
            )
        if kind is int and value <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout "
            f"expects num_layers greater than 1, but got dropout={dropout} and "
            f"num_layers={num_layers}",
            stacklevel=3,
        )


def _permuted(states: tuple[Tensor, ...], order: Any) -> tuple[Tensor, ...]:
    return states if order is None else tuple(s.index_select(1, order) for s in states)


class RNNBase(Module):
    """What `RNN`, `LSTM` and `GRU` share: layers of one or two directions, one after the other.

    Args:
        mode: ``"RNN_TANH"``, ``"RNN_RELU"``, ``"LSTM"`` or ``"GRU"``.
        input_size: I.
        hidden_size: H.
        num_layers: how many layers; the states of one are the input of the next.
        bias: whether there are `bias_ih_l{k}` and `bias_hh_l{k}`.
        batch_first: inputs and outputs are ``(B, T, .)``.
        dropout: probability of dropping a number between layers, while training.
        bidirectional: a second set of weights goes from the last step to the first; outputs stand
            side by side.
        proj_size: if positive, an LSTM's hidden state is projected to this size.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: sizes or probabilities out of range.
        TypeError: options of another type.
    """

    __constants__ = [
        "mode",
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
    ]

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Draw the parameters uniformly from +-1/sqrt(hidden_size)."""
        super().__init__()
        _check_options(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        if mode not in _MODES:
            raise ValueError("Unrecognized RNN mode: " + mode)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        directions, gates = self._directions, GATES[_MODES[mode]][0] * hidden_size
        hidden = proj_size or hidden_size
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            features = input_size if layer == 0 else hidden * directions
            for suffix in ("", "_reverse")[:directions]:
                shapes = {"weight_ih": (gates, features), "weight_hh": (gates, hidden)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}  # type: ignore[dict-item]
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                names = []
                for what, shape in shapes.items():
                    names.append(f"{what}_l{layer}{suffix}")
                    value = flambeau.empty(shape, device=device, dtype=dtype)
                    self.register_parameter(names[-1], Parameter(value))
                self._all_weights.append(names)
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self) -> None:
        """Nothing: kernels take the parameters where they lie."""

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from their defaults."""
        shown = [str(self.input_size), str(self.hidden_size)]
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0),
            ("bidirectional", False),
        ):
            value = getattr(self, name)
            if value != default:
                shown.append(f"{name}={value}")
        return ", ".join(shown)

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Refuse an input of another dtype or size than the weights'."""
        dtype = self._flat_weights[0].dtype
        if input.dtype != dtype and not flambeau.is_autocast_enabled(input.device.type):
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({dtype}). Convert "
                f"input: input.to({dtype}), or convert model: model.to({input.dtype})"
            )
        packed = batch_sizes is not None and not without_value(batch_sizes)
        wanted = 2 if packed else 3
        if input.dim() != wanted:
            raise RuntimeError(f"input must have {wanted} dimensions, got {input.dim()}")
        if self.input_size != input.size(-1):
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got "
                f"{input.size(-1)}"
            )

    def _state_shapes(self, batch: int) -> list[tuple[int, int, int]]:
        """Shapes of the states: the hidden one, and for an LSTM that of its cells."""
        count = self.num_layers * self._directions
        shapes = [(count, batch, self.proj_size or self.hidden_size)]
        if self.mode == "LSTM":
            shapes.append((count, batch, self.hidden_size))
        return shapes

    def _first_states(self, hx: Any, input: Tensor, batch: int, unbatched: bool) -> tuple[Any, ...]:
        """The given first states as 3-D tensors of the right sizes, or zeros."""
        shapes = self._state_shapes(batch)
        if hx is None:
            return tuple(
                flambeau.zeros(shape, dtype=input.dtype, device=input.device) for shape in shapes
            )
        states = tuple(hx) if self.mode == "LSTM" else (hx,)
        wanted = 2 if unbatched else 3
        found = [s.dim() for s in states]
        if found != [wanted] * len(shapes):
            words = "unbatched 2-D" if unbatched else "batched 3-D"
            if self.mode == "LSTM":
                got = ", ".join(f"{n}-D" for n in found)
                raise RuntimeError(
                    f"For {words} input, hx and cx should also be {wanted}-D but got ({got}) "
                    "tensors"
                )
            raise RuntimeError(
                f"For {words} input, hx should also be {wanted}-D but got {found[0]}-D tensor"
            )
        if unbatched:
            states = tuple(s.unsqueeze(1) for s in states)
        for k, (state, shape) in enumerate(zip(states, shapes, strict=True)):
            if tuple(state.shape) != shape:
                which = f"hidden[{k}] size" if self.mode == "LSTM" else "hidden size"
                raise RuntimeError(f"Expected {which} {shape}, got {list(state.shape)}")
        return states

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """All hidden states of the last layer, and the last state of every layer and direction.

        Args:
            input: a tensor or a ``PackedSequence``.
            hx: first states ``(L, B, H)``, zeros by default; for an LSTM a pair of hidden states
                and cell states.

        Returns:
            The hidden states in the form of the input, and last states in the form of ``hx``.

        Raises:
            ValueError: an input of another number of dimensions, or of another dtype.
            RuntimeError: an input or states of other sizes.
        """
        call = getattr(flambeau, _MODES[self.mode])
        rest = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        if isinstance(input, PackedSequence):
            data, batch_sizes, order, back = input
            batch = data.size(1) if without_value(batch_sizes) else int(batch_sizes[0])
            states = self._first_states(hx, data, batch, False)
            self.check_input(data, batch_sizes)
            given = _permuted(states, order)
            out, *last = call(data, batch_sizes, self._given(given), self._flat_weights, *rest)
            packed = PackedSequence(out, batch_sizes, order, back)
            return packed, self._given(_permuted(tuple(last), back))
        if input.dim() not in (2, 3):
            end = " tensor instead" if self.mode.startswith("RNN") else " instead"
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D{end}"
            )
        unbatched = input.dim() == 2
        batch_dim = 0 if self.batch_first else 1
        if unbatched:
            input = input.unsqueeze(batch_dim)
        states = self._first_states(hx, input, input.size(batch_dim), unbatched)
        self.check_input(input, None)
        out, *last = call(input, self._given(states), self._flat_weights, *rest, self.batch_first)
        if unbatched:
            out, last = out.squeeze(batch_dim), [s.squeeze(1) for s in last]
        return out, self._given(tuple(last))

    def _given(self, states: tuple[Tensor, ...]) -> Any:
        """States as users see them: an LSTM's are a pair."""
        return states if self.mode == "LSTM" else states[0]


class RNN(RNNBase):
    """Elman's network: ``h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``.

    Args:
        input_size, hidden_size, num_layers: as in `RNNBase`.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias, batch_first, dropout, bidirectional, device, dtype: as in `RNNBase`.

    Example:
        >>> out, h = RNN(10, 20, num_layers=2)(flambeau.ones(5, 3, 10))
        >>> tuple(out.shape), tuple(h.shape)
        ((5, 3, 20), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Draw the parameters uniformly from +-1/sqrt(hidden_size)."""
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(mode, input_size, hidden_size, num_layers, *args, **kwargs)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory.

    ::

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),  g = tanh(the same)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)

    Weights hold the gates in the order i, f, g, o.

    Args: as in `RNNBase`.

    Reference:
        Hochreiter and Schmidhuber, Long Short-Term Memory (Neural Computation 9, 1997); with
        `proj_size` Sak et al. (arXiv:1402.1128).

    Example:
        >>> out, (h, c) = LSTM(10, 20, bidirectional=True)(flambeau.ones(5, 3, 10))
        >>> tuple(out.shape), tuple(c.shape)
        ((5, 3, 40), (2, 3, 20))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Draw the parameters uniformly from +-1/sqrt(hidden_size)."""
        super().__init__("LSTM", *args, **kwargs)


class GRU(RNNBase):
    """Gated recurrent units.

    ::

        r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        n = tanh(W_in x_t + b_in + r * (W_hn h_{t-1} + b_hn))
        h_t = (1 - z) * n + z * h_{t-1}

    Weights hold the gates in the order r, z, n.

    Args: as in `RNNBase`.

    Reference:
        Cho et al., Learning Phrase Representations using RNN Encoder-Decoder (arXiv:1406.1078),
        with the reset gate after the product.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Draw the parameters uniformly from +-1/sqrt(hidden_size)."""
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)


class RNNCellBase(Module):
    """What the cells share: ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh``.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there are biases.
        num_chunks: gates.
        device: of the parameters.
        dtype: of the parameters.
    """

    __constants__ = ["input_size", "hidden_size", "bias"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Draw the parameters uniformly from +-1/sqrt(hidden_size)."""
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        for name, shape in (("ih", (rows, input_size)), ("hh", (rows, hidden_size))):
            value = flambeau.empty(shape, device=device, dtype=dtype)
            self.register_parameter(f"weight_{name}", Parameter(value))
        for name in ("bias_ih", "bias_hh"):
            row = Parameter(flambeau.empty(rows, device=device, dtype=dtype)) if bias else None
            self.register_parameter(name, row)
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from their defaults."""
        shown = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            shown += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            shown += f", nonlinearity={self.nonlinearity}"
        return shown

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0.0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _step(self, row: str, input: Tensor, states: tuple[Any, ...], names: list[str]) -> Any:
        """The cell's row over a batch of one or more, with the states or zeros."""
        if input.dim() not in (1, 2):
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 1D or 2D, got {input.dim()}D instead"
            )
        for state, name in zip(states, names, strict=True):
            if state is not None and state.dim() not in (1, 2):
                raise ValueError(
                    f"{type(self).__name__}: Expected {name} to be 1D or 2D, got {state.dim()}D "
                    "instead"
                )
        single = input.dim() == 1
        if single:
            input = input.unsqueeze(0)
            states = tuple(None if s is None else s.unsqueeze(0) for s in states)
        zeros = (input.size(0), self.hidden_size)
        states = tuple(
            flambeau.zeros(zeros, dtype=input.dtype, device=input.device) if s is None else s
            for s in states
        )
        self._check_sizes(input, states)
        found = getattr(flambeau, row)(
            input, states if len(states) > 1 else states[0], self.weight_ih, self.weight_hh,
            self.bias_ih, self.bias_hh,
        )  # fmt: skip
        if not single:
            return found
        return tuple(x.squeeze(0) for x in found) if len(states) > 1 else found.squeeze(0)

    def _check_sizes(self, input: Tensor, states: tuple[Tensor, ...]) -> None:
        if input.size(1) != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.size(1)} expected {self.input_size}"
            )
        for k, state in enumerate(states):
            if state.size(0) != input.size(0):
                raise RuntimeError(
                    f"Input batch size {input.size(0)} doesn't match hidden{k} batch size "
                    f"{state.size(0)}"
                )
            if state.size(1) != self.hidden_size:
                raise RuntimeError(
                    f"hidden{k} has inconsistent hidden_size: got {state.size(1)}, expected "
                    f"{self.hidden_size}"
                )


class RNNCell(RNNCellBase):
    """One step of `RNN`: input ``(B, I)`` or ``(I)`` and state ``(B, H)`` to the next state.

    Args:
        input_size, hidden_size, bias, device, dtype: as in `RNNCellBase`.
        nonlinearity: ``"tanh"`` or ``"relu"``.
    """

    __constants__ = ["input_size", "hidden_size", "bias", "nonlinearity"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Draw the parameters uniformly from +-1/sqrt(hidden_size)."""
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next hidden state; `hx` is zeros by default."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        found: Tensor = self._step(f"rnn_{self.nonlinearity}_cell", input, (hx,), ["hidden"])
        return found


class LSTMCell(RNNCellBase):
    """One step of `LSTM`: input ``(B, I)`` or ``(I)`` and states ``(B, H)`` to the next states.

    Args:
        input_size, hidden_size, bias, device, dtype: as in `RNNCellBase`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Draw the parameters uniformly from +-1/sqrt(hidden_size)."""
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next hidden state and cell state; `hx` is zeros by default."""
        states = (None, None) if hx is None else tuple(hx)
        found: tuple[Tensor, Tensor] = self._step("lstm_cell", input, states, ["hx[0]", "hx[1]"])
        return found


class GRUCell(RNNCellBase):
    """One step of `GRU`: input ``(B, I)`` or ``(I)`` and state ``(B, H)`` to the next state.

    Args:
        input_size, hidden_size, bias, device, dtype: as in `RNNCellBase`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Draw the parameters uniformly from +-1/sqrt(hidden_size)."""
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next hidden state; `hx` is zeros by default."""
        found: Tensor = self._step("gru_cell", input, (hx,), ["hidden"])
        return found


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell", "RNNCellBase"]
