"""Other ways to say which sizes may change: of tensors themselves, and by more example inputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from flambeau.export.dims import Dim
from flambeau.export.program import ExportedProgram
from flambeau.nn.module import Module
from flambeau.pytree import tree_flatten, tree_map, tree_unflatten
from flambeau.tensor import Tensor


def _bound(m: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Inputs by the names that `forward` has for them."""
    return dict(inspect.signature(m.forward).bind(*args, **(kwargs or {})).arguments)


class ShapesCollection:
    """Sizes that may change, said of example inputs: `shapes[tensor] = {0: Dim("batch")}`.

    Given to `export` as `dynamic_shapes`. Everything that is not named is fixed.

    Example:
        >>> from flambeau import nn, ones
        >>> from flambeau.export import Dim, export
        >>> x, shapes = ones(4, 3), ShapesCollection()
        >>> shapes[x] = {0: Dim("batch")}
        >>> list(export(nn.Linear(3, 2), (x,), dynamic_shapes=shapes).range_constraints)
        ['batch']
    """

    def __init__(self) -> None:
        self._shapes: dict[int, tuple[Tensor, Any]] = {}

    def __setitem__(self, t: Tensor, shape: Any) -> None:
        """Say what of a tensor's shape may change, as an entry of `dynamic_shapes` does.

        Raises:
            TypeError: it is no tensor.
            ValueError: something else was said of it.
        """
        if not isinstance(t, Tensor):
            raise TypeError(f"Cannot assign shape to non-tensor type {type(t)}")
        if id(t) in self._shapes and self._shapes[id(t)][1] != shape:
            raise ValueError(
                f"Shapes assigned to tensor do not match: expected {self._shapes[id(t)][1]}, "
                f"got {shape}"
            )
        self._shapes[id(t)] = t, shape

    def __getitem__(self, t: Tensor) -> Any:
        """What was said of a tensor; None where nothing was."""
        return self._shapes.get(id(t), (t, None))[1]

    def __len__(self) -> int:
        return len(self._shapes)

    def __iter__(self) -> Iterator[Tensor]:
        return (t for t, _ in self._shapes.values())

    def dynamic_shapes(
        self, m: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """`dynamic_shapes` of inputs, by parameter name.

        Raises:
            ValueError: something was said of tensors that are no inputs.
        """
        bound = _bound(m, args, kwargs)
        unknown = self._shapes.keys() - {id(x) for x in tree_flatten(bound)[0]}
        if unknown:
            raise ValueError(
                f"Some tensors that were assigned shapes were not found in args: {len(unknown)} of "
                f"{len(self)}"
            )
        found: dict[str, Any] = tree_map(
            lambda x: self[x] if isinstance(x, Tensor) else None, bound
        )
        return found


class AdditionalInputs:
    """More example inputs: the sizes in which they differ are open.

    Given to `export` as `dynamic_shapes`.

    Example:
        >>> from flambeau import nn, ones
        >>> from flambeau.export import export
        >>> more = AdditionalInputs()
        >>> more.add((ones(5, 3),))
        >>> program = export(nn.Linear(3, 2), (ones(4, 3),), dynamic_shapes=more)
        >>> program.module()(ones(9, 3)).shape
        torch.Size([9, 2])
    """

    def __init__(self) -> None:
        self._examples: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = []

    def add(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> None:
        """Inputs of another call.

        Raises:
            TypeError: `args` is no tuple, or `kwargs` no dictionary.
        """
        if not isinstance(args, tuple):
            raise TypeError(f"Representative args {args} must be a tuple")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise TypeError(f"Representative kwargs {kwargs} must be None or a dict")
        self._examples.append((args, kwargs or {}))

    def dynamic_shapes(
        self, m: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """`dynamic_shapes` of inputs, by parameter name.

        Raises:
            ValueError: inputs of different structure, number of dimensions, or other values.
        """
        first, spec = tree_flatten(_bound(m, args, kwargs))
        found: list[Any] = [{} if isinstance(x, Tensor) else None for x in first]
        for more in self._examples:
            others, other = tree_flatten(_bound(m, *more))
            if other != spec:
                raise ValueError(f"Additional inputs have the structure {other}, not {spec}")
            for open_, x, y in zip(found, first, others, strict=True):
                if not isinstance(x, Tensor):
                    if x != y:
                        raise ValueError(f"Additional inputs have the value {y!r} for {x!r}")
                elif not isinstance(y, Tensor) or x.ndim != y.ndim:
                    raise ValueError("Additional inputs have tensors of other ranks")
                else:
                    differ = (d for d in range(x.ndim) if x.shape[d] != y.shape[d])
                    open_.update(dict.fromkeys(differ, Dim.AUTO))
        result: dict[str, Any] = tree_unflatten(found, spec)
        return result

    def verify(self, ep: ExportedProgram) -> None:
        """Call a program with each of the inputs.

        Raises:
            RuntimeError: it does not take them.
        """
        module = ep.module()
        for args, kwargs in self._examples:
            module(*args, **kwargs)


def loosened(spec: Any) -> Any:
    """`dynamic_shapes` in which whatever may change is found out (`Dim.AUTO`)."""
    if isinstance(spec, Mapping):
        return {k: loosened(v) for k, v in spec.items()}
    if isinstance(spec, (list, tuple)):
        return type(spec)(map(loosened, spec))
    return spec if spec is None or isinstance(spec, int) or spec is Dim.STATIC else Dim.AUTO


__all__ = ["AdditionalInputs", "ShapesCollection", "loosened"]
