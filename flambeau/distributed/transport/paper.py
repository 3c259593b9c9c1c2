"""Ranks that exist on paper: each would do what this one does, so nobody is asked.

Programs are checked on it (`distributed/check.py`) whose collectives are recorded and never run.
What runs while they are set up, as the exchange of shapes when a group is made, answers as if all
ranks had given the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.distributed.transport.base import Call, Done, Transport, Work


class Paper(Transport):
    """A communicator of one rank that acts as many."""

    name = "paper"

    def issue(self, call: Call) -> Work:
        """Give every rank's part as this one would."""
        if call.name != "all_to_all":
            return super().issue(call)
        for target in call.targets:
            source = call.sources[self.rank]
            target[...] = source.reshape(target.shape)
        return Done()

    def split(self, ranks: Sequence[int]) -> Transport | None:
        """The communicator of some ranks."""
        if self.rank not in ranks:
            return None
        return Paper(list(ranks).index(self.rank), len(ranks), self.timeout)

    def abort(self, reason: str) -> None:
        """Nobody waits."""
