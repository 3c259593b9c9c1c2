"""What a launcher knows of its ranks: their signs of life, who failed first, and the report.

See Note [Launcher and ranks] in `heartbeat`.
"""

from __future__ import annotations

import json
import secrets
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_TELL_SECONDS = 1.5
"""How long ranks have to say what they do once one failed."""
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Limits:
    """How long ranks may take, in seconds.

    Attributes:
        wait: in a collective, waiting for the others.
        silence: without a sign of life, which each gives every second.
        start: until each has said hello.
    """

    wait: float = 600.0
    silence: float = 60.0
    start: float = 120.0


@dataclass
class Rank:
    """What the launcher knows about a rank."""

    number: int
    pid: int = 0
    host: str = ""
    connection: socket.socket | None = None
    heard: float = 0.0
    ended: bool = False
    waiting: dict[str, Any] | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    told: bool = False
    stacks: list[str] = field(default_factory=list)
    received: bytes = b""

    def doing(self) -> str:
        """What it was doing last, as a line; ranks that do the same give the same line."""
        if not self.heard:
            return "had not started"
        at = self.waiting
        if at is not None:
            return f"in {_call(at)}{_place(at)}"
        what = "had ended" if self.ended else "in no collective"
        if not self.records:
            return what
        last = self.records[-1]
        return f"{what}; before, {_call(last)}{_place(last)}"

    def waited(self) -> float:
        """Seconds that it has been in its collective."""
        if self.ended or self.waiting is None:
            return 0.0
        return float(self.waiting["seconds"]) + time.monotonic() - self.heard


@dataclass
class Failure:
    """Why a job ended.

    Attributes:
        cause: a line, as "rank 2 raised ValueError: no data".
        ranks: whose fault it is, as far as it is known.
        died: whether their processes are gone, so that fewer may be started again.
        started: whether every rank had started.
        detail: a traceback or stack, or "".
        others: a line for each rank: what it was doing.
    """

    cause: str
    ranks: list[int]
    died: bool = False
    started: bool = False
    detail: str = ""
    others: list[str] = field(default_factory=list)

    def report(self, who: str = "flambeau launch") -> str:
        """The report as text, of whoever watches the ranks."""
        lines = [f"{who}: {self.cause}"]
        lines += [f"    {line}" for line in self.detail.rstrip().splitlines()]
        lines += [f"  {line}" for line in self.others]
        return "\n".join(lines) + "\n"


def _call(entry: dict[str, Any]) -> str:
    """An entry of the flight record as text."""
    return f"{entry['call']} (call {entry['sequence']} of {entry['group']})"


def _place(entry: dict[str, Any]) -> str:
    """Where in the program it was started."""
    return f" at {entry['place']}" if entry["place"] else ""


def _at(rank: Rank) -> tuple[Any, ...]:
    """Which collective of which group a rank waits in."""
    at = rank.waiting
    return (None,) * 3 if at is None else (at["group"], at["sequence"], at["call"])


def _named(ranks: Sequence[Rank]) -> str:
    """Ranks as text: "rank 1", "ranks 0, 2"."""
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(str(r.number) for r in ranks)}"


class Watch:
    """The launcher's end of the ranks' lines.

    Args:
        ranks: how many there are.
        limits: how long they may take.
        address: of this host as the ranks reach it; "127.0.0.1" keeps others out.
    """

    def __init__(self, ranks: int, limits: Limits, address: str) -> None:
        self.limits = limits
        self.ranks = [Rank(number) for number in range(ranks)]
        self._secret = secrets.token_hex(16)
        everywhere = "" if address != "127.0.0.1" else address
        self._server = socket.create_server((everywhere, 0), backlog=max(128, ranks))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ, None)
        self._begun = time.monotonic()
        self.failure: Failure | None = None
        self.address = f"{address}:{self._server.getsockname()[1]}:{self._secret}"

    def status(self) -> str:
        """What the ranks are doing, as a line."""
        return "; ".join(f"{_named(ranks)} {doing}" for doing, ranks in self._alike().items())

    def close(self) -> None:
        """Close every connection."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    # -- hearing ----------------------------------------------------------------------------------

    def hear(self, seconds: float) -> None:
        """Take in what ranks send within some seconds."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                connection, _ = self._server.accept()
                connection.setblocking(False)
                self._selector.register(connection, selectors.EVENT_READ, Rank(-1))
                continue
            self._read(key.fileobj, key.data)  # type: ignore[arg-type]

    def _read(self, connection: socket.socket, rank: Rank) -> None:
        try:
            data = connection.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(connection)
            connection.close()
            rank.connection = None
            if rank.number >= 0 and not rank.ended:
                self._fail(f"rank {rank.number} died{self._of(rank)}", [rank], died=True)
            return
        *lines, rank.received = (rank.received + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if rank.number < 0:
                if message.get("secret") != self._secret:
                    self._selector.unregister(connection)
                    connection.close()
                    return
                rank = self._welcome(connection, message, rank.received)
            else:
                self._take(rank, message)

    def _welcome(self, connection: socket.socket, hello: dict[str, Any], rest: bytes) -> Rank:
        rank = self.ranks[hello["rank"]]
        rank.pid, rank.host, rank.connection = hello["pid"], hello["host"], connection
        rank.heard, rank.received = time.monotonic(), rest
        self._selector.modify(connection, selectors.EVENT_READ, rank)
        return rank

    def _take(self, rank: Rank, message: dict[str, Any]) -> None:
        rank.heard = time.monotonic()
        kind = message["kind"]
        if kind == "beat" and rank.told:  # it has said more already
            return
        rank.records = message["records"]
        rank.waiting = next((r for r in rank.records if not r["over"]), None)
        if kind == "bye":
            rank.ended = True
        elif kind == "told":
            rank.told, rank.stacks = True, message["stacks"]
        elif kind == "failed":
            rank.ended = True
            text = message["text"]
            last = text.rstrip().splitlines()[-1] if text.strip() else "failed"
            raised = text.startswith("Traceback")
            cause = f"rank {rank.number} {'raised ' * raised}{last}{self._of(rank)}"
            self._fail(cause, [rank], detail=text if raised else "")

    def _of(self, rank: Rank) -> str:
        return f" (process {rank.pid} on {rank.host})"

    def _fail(
        self, cause: str, ranks: Sequence[Rank], died: bool = False, detail: str = ""
    ) -> None:
        if self.failure is None:
            started = all(r.heard for r in self.ranks)
            self.failure = Failure(cause, [r.number for r in ranks], died, started, detail)

    # -- judging ----------------------------------------------------------------------------------

    def judge(self) -> None:
        """See whether a rank is late."""
        if self.failure is not None:
            return
        now = time.monotonic()
        late = [r for r in self.ranks if not r.heard]
        if late and now - self._begun > self.limits.start:
            self._fail(f"{_named(late)} did not start within {self.limits.start:g} s", late)
            return
        for rank in self.ranks:
            if rank.heard and not rank.ended and now - rank.heard > self.limits.silence:
                self._fail(
                    f"rank {rank.number} gave no sign of life for {self.limits.silence:g} s"
                    f"{self._of(rank)}",
                    [rank],
                )
                return
        stuck = [r for r in self.ranks if r.waited() > self.limits.wait]
        if stuck:
            self._explain(stuck)

    def _explain(self, stuck: list[Rank]) -> None:
        """Name the ranks for whom the others wait."""
        at = _at(stuck[0])
        same = [r for r in self.ranks if _at(r) == at]
        other = [r for r in self.ranks if r not in same]
        text = f"{_named(same)} waited in {_call(stuck[0].waiting or {})}"
        text += f" for more than {self.limits.wait:g} s"
        if other:
            text += f", but {_named(other)} did not come"
        self._fail(text, other or same)

    def settle(self, code: int | None) -> None:
        """Take in what is still on its way, and judge the exit code of MPI's launcher.

        Args:
            code: None while it runs.
        """
        limit = time.monotonic() + _SETTLE_SECONDS
        while any(r.connection for r in self.ranks) and time.monotonic() < limit:
            self.hear(0.05)
            if self.failure is not None:
                return
        if code:
            self._fail(f"MPI's launcher ended with code {code}", [])

    # -- ending -----------------------------------------------------------------------------------

    def conclude(self) -> None:
        """Ask what every rank does, and complete the failure's report with it."""
        failure = self.failure
        assert failure is not None
        asked = [r for r in self.ranks if self._order(r, "tell")]
        limit = time.monotonic() + _TELL_SECONDS
        while any(r.connection and not r.told for r in asked) and time.monotonic() < limit:
            self.hear(0.05)
        if not failure.detail:
            stacks = [(n, self.ranks[n].stacks) for n in failure.ranks if self.ranks[n].stacks]
            if len(stacks) < len(self.ranks):
                failure.detail = "\n".join(f"rank {n} is at\n{''.join(s)}" for n, s in stacks)
        failure.others += self._differences()
        for doing, ranks in self._alike().items():
            seconds = max(rank.waited() for rank in ranks)
            failure.others.append(
                f"{_named(ranks)}: {doing}" + (f" for {seconds:.1f} s" if seconds else "")
            )

    def _alike(self) -> dict[str, list[Rank]]:
        """Ranks by what they do."""
        alike: dict[str, list[Rank]] = {}
        for rank in self.ranks:
            alike.setdefault(rank.doing(), []).append(rank)
        return alike

    def _differences(self) -> list[str]:
        """The first collective of each group that ranks called differently, a line each."""
        called: dict[tuple[str, int], dict[str, list[Rank]]] = {}
        for rank in self.ranks:
            for entry in rank.records:
                if entry["call"].startswith(("send", "recv")):
                    continue  # between two ranks, so not the same on all
                at = called.setdefault((entry["group"], entry["sequence"]), {})
                at.setdefault(entry["call"], []).append(rank)
        found: dict[str, str] = {}
        for (group, sequence), calls in sorted(called.items()):
            if len(calls) > 1 and group not in found:
                told = "; ".join(f"{_named(ranks)} {call}" for call, ranks in calls.items())
                found[group] = f"the ranks called different collectives: call {sequence} of {group}"
                found[group] += f" was {told}"
        return list(found.values())

    def order_end(self) -> None:
        """Tell every rank to end."""
        for rank in self.ranks:
            self._order(rank, "end")

    def _order(self, rank: Rank, kind: str) -> bool:
        if rank.connection is None:
            return False
        try:
            rank.connection.send(json.dumps({"kind": kind}).encode() + b"\n")
        except OSError:
            return False
        return True
