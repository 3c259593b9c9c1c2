"""An optimizer whose states are shared out over the ranks of a group.

Reference: Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models
(arXiv:1910.02054): its first stage.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any

import flambeau
from flambeau.distributed.groups import group_of
from flambeau.distributed.join import Join, Joinable, JoinHook
from flambeau.ops import collective as rows
from flambeau.optim.optimizer import Optimizer
from flambeau.tensor import Tensor


def owners_of(sizes: Iterable[int], ranks: int) -> list[int]:
    """Which rank updates each parameter: the largest first, to the rank that has least so far."""
    load = [0] * ranks
    given = list(sizes)
    found = [0] * len(given)
    for k in sorted(range(len(given)), key=lambda k: (-given[k], k)):
        found[k] = min(range(ranks), key=lambda r: (load[r], r))
        load[found[k]] += given[k]
    return found


class ZeroRedundancyOptimizer(Optimizer, Joinable):
    """Each rank updates some of the parameters, and then all have all of them.

    Every rank needs all gradients, averaged, as `DistributedDataParallel` leaves them.

    Args:
        params: as any optimizer's, the same on every rank.
        optimizer_class: what updates this rank's share.
        process_group: None takes the default group.
        parameters_as_bucket_view: accepted.
        overlap_with_ddp: accepted; a gather is under way until a parameter is read anyway.
        defaults: options of `optimizer_class`.

    Example:
        >>> from flambeau.optim import AdamW
        >>> def train(rank):
        ...     model = flambeau.nn.Linear(4, 4)
        ...     optimizer = ZeroRedundancyOptimizer(model.parameters(), AdamW, lr=1e-3)
        ...     model(flambeau.ones(1, 4)).sum().backward()
        ...     optimizer.step()
        ...     return len(optimizer.optim.state)
        >>> from flambeau.distributed import spawn_local
        >>> spawn_local(2, train)
        [1, 1]
    """

    def __init__(
        self,
        params: Any,
        optimizer_class: type[Optimizer],
        process_group: Any = None,
        parameters_as_bucket_view: bool = False,
        overlap_with_ddp: bool = False,
        **defaults: Any,
    ) -> None:
        """Share the parameters out."""
        self.process_group = group_of(process_group)
        self._optimizer_class = optimizer_class
        self._options = defaults
        self._consolidated: dict[int, Any] | None = None
        self.optim: Any = None
        super().__init__(params, dict(defaults))
        self._share_out()

    def _share_out(self) -> None:
        """Decide who updates what, and make the optimizer of this rank's share."""
        every = [p for group in self.param_groups for p in group["params"]]
        ranks = self.process_group.size()
        self._every = every
        self._owners = owners_of([p.numel() for p in every], ranks)
        self._own = {
            id(p)
            for p, owner in zip(every, self._owners, strict=True)
            if owner == self.process_group.rank()
        }
        groups = []
        for group in self.param_groups:
            mine = {name: value for name, value in group.items() if name != "param_names"}
            mine["params"] = [p for p in group["params"] if id(p) in self._own]
            groups.append(mine)
        self.optim = self._optimizer_class(groups, **self._options)
        for group, mine in zip(self.param_groups, self.optim.param_groups, strict=True):
            for name, value in mine.items():
                group.setdefault(name, value)
        self.defaults = {**self.optim.defaults, **self.defaults}
        self.state = self.optim.state

    def _pass_options(self) -> None:
        """Schedules change the options here; the share's optimizer reads its own."""
        for group, mine in zip(self.param_groups, self.optim.param_groups, strict=True):
            for name, value in group.items():
                if name not in ("params", "param_names"):
                    mine[name] = value

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Update this rank's share, and take the other shares from their ranks."""
        Join.notify_join_context(self)
        self._pass_options()
        loss = self.optim.step(closure, **kwargs)
        self._exchange_shares()
        return loss

    def _exchange_shares(self) -> None:
        """Every rank's share, to all."""
        kinds: dict[Any, list[int]] = {}
        for k, p in enumerate(self._every):
            kinds.setdefault((p.dtype, p.device), []).append(k)
        ranks = self.process_group.size()
        for places in kinds.values():
            shares = [[k for k in places if self._owners[k] == r] for r in range(ranks)]
            sizes = tuple(sum(self._every[k].numel() for k in share) for share in shares)
            first = self._every[places[0]]
            mine = [self._every[k].detach().reshape(-1) for k in shares[self.process_group.rank()]]
            flat = flambeau.cat(mine) if mine else first.detach().reshape(-1)[:0]
            whole = rows.all_gather(flat, self.process_group, sizes)
            order = [k for share in shares for k in share]
            parts = whole.split([self._every[k].numel() for k in order])
            for k, part in zip(order, parts, strict=True):
                if id(self._every[k]) not in self._own:
                    with flambeau.no_grad():
                        self._every[k].copy_(part.reshape(self._every[k].shape))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; what belongs to whom is decided anew, so it is done before the first step.

        Raises:
            RuntimeError: there is state already.
        """
        if self.optim is not None and self.optim.state:
            raise RuntimeError("ZeroRedundancyOptimizer takes no more groups after the first step")
        super().add_param_group(param_group)
        if self.optim is not None:
            self._share_out()

    # -- uneven inputs ---------------------------------------------------------------------------

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """Ranks that have no more inputs go on updating their shares; given to a `Join` after the
        `DistributedDataParallel` that gives them gradients."""
        return _UpdateShare(self)

    @property
    def join_device(self) -> Any:
        """Of the parameters."""
        return self._every[0].device

    @property
    def join_process_group(self) -> Any:
        """The ranks that have shares."""
        return self.process_group

    # -- state -----------------------------------------------------------------------------------

    def consolidate_state_dict(self, to: int = 0) -> None:
        """Bring all states to one rank, whose `state_dict` then has them; a collective.

        Args:
            to: the rank.
        """
        numbers = {id(p): k for k, p in enumerate(self._every)}
        mine = {
            numbers[id(p)]: {
                name: value.cpu() if isinstance(value, Tensor) else value
                for name, value in state.items()
            }
            for p, state in self.optim.state.items()
        }
        found: dict[int, Any] = {}
        for data in self.process_group.exchange(pickle.dumps(mine)):
            if self.process_group.rank() == to:
                found.update(pickle.loads(data))
        self._consolidated = dict(sorted(found.items())) if found else None
        if self.process_group.rank() == to and self._consolidated is None:
            self._consolidated = {}

    def state_dict(self) -> dict[str, Any]:
        """All states and groups, as the plain optimizer's, on the rank that has them.

        Raises:
            RuntimeError: `consolidate_state_dict` was not called, or for another rank.
        """
        if self._consolidated is None:
            raise RuntimeError(
                "Optimizer state has not been consolidated on this rank. Please call "
                "`consolidate_state_dict(to=...)` on all ranks beforehand if you meant to save the "
                "global state."
            )
        found = super().state_dict()
        found["state"], self._consolidated = self._consolidated, None
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take this rank's share of a whole state, the plain optimizer's or this one's."""
        super().load_state_dict(state_dict)
        given = self.state
        self.optim.state.clear()
        self.optim.state.update({p: given[p] for p in given if id(p) in self._own})
        self.state = self.optim.state


class _UpdateShare(JoinHook):
    """What a rank does whose inputs are used up."""

    def __init__(self, optimizer: ZeroRedundancyOptimizer) -> None:
        self.optimizer = optimizer

    def main_hook(self) -> None:
        """A step of the others."""
        self.optimizer.step()


__all__ = ["ZeroRedundancyOptimizer"]
