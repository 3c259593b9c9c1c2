"""How much memory a program may use: `set_memory_budget`."""

from __future__ import annotations

import os
import re
from types import TracebackType
from typing import Any

from flambeau import record
from flambeau.runtime.memory import release_scratch

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", 1):
    _UNITS |= {f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}
_FORMS = (
    "bytes, a text such as '4GB', '512MiB' or '50%', a fraction of the machine's memory, or None"
)


def machine_bytes() -> int:
    """The memory of this machine, or what the control group of this process may use of it."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                found = min(found, int(file.read()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return found


def budget_bytes(budget: Any) -> int | None:
    """A budget in bytes.

    Args:
        budget: bytes; a text with a unit (KB is 1000 bytes, KiB is 1024) or with "%"; a float up to
            1.0, which is a fraction of the machine's memory; None for no bound.

    Raises:
        TypeError: it is of another type.
        ValueError: it is not positive, or a text of another form.
    """
    if budget is None:
        return None
    if isinstance(budget, bool) or not isinstance(budget, (int, float, str)):
        raise TypeError(f"memory budget must be {_FORMS}, but got {type(budget).__name__}")
    if isinstance(budget, str):
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*|%)\s*", budget.lower())
        if found is None or (found[2] != "%" and found[2] not in _UNITS):
            raise ValueError(f"memory budget must be {_FORMS}, but got {budget!r}")
        if found[2] == "%":
            size = float(found[1]) / 100 * machine_bytes()
        else:
            size = float(found[1]) * _UNITS[found[2]]
    else:
        size = budget * machine_bytes() if isinstance(budget, float) and budget <= 1 else budget
    if not 1 <= size < 1 << 62:
        raise ValueError(f"memory budget must be at least one byte, but got {budget!r}")
    return int(size)


class set_memory_budget:
    """Bound the memory that a program uses; also a context manager.

    Where a program would need more, values that its backward part reads are computed a second time
    instead of being kept: first results of elementwise operations and norms, then of attention and
    matrix products, as many as it takes. Results are the same, bit for bit. What is bounded is the
    memory of one recorded program while it runs: its inputs (parameters, optimizer state), its
    results (gradients) and its temporary values. A program that cannot be made to fit runs with
    the least memory found, and a warning says how much that is. What is pending runs first, under
    the bound that was in force.

    Args:
        budget: bytes; a text with a unit such as ``"4GB"`` or ``"512MiB"``, or a percentage; a
            fraction of the machine's memory as a float up to 1.0; None for no bound. At the start
            it is what the environment variable ``FLAMBEAU_MEMORY_BUDGET`` says.

    Raises:
        TypeError, ValueError: the budget is none of these.

    Example:
        >>> import flambeau
        >>> with flambeau.set_memory_budget("4GB"):
        ...     flambeau.get_memory_budget()
        4000000000

    Reference:
        Chen et al., Training Deep Nets with Sublinear Memory Cost (arXiv:1604.06174).
    """

    def __init__(self, budget: float | str | None) -> None:
        wanted = budget_bytes(budget)
        record.flush()
        release_scratch()  # which an earlier program may have left larger than the bound
        self.before = record.memory_budget
        record.memory_budget = wanted

    def __enter__(self) -> None:
        """The bound is in force already."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Run what was recorded inside, and put the bound before back."""
        try:
            if error is None:
                record.flush()
        finally:
            record.memory_budget = self.before


def get_memory_budget() -> int | None:
    """The bound in force, in bytes; None where there is none."""
    return record.memory_budget


record.memory_budget = budget_bytes(os.environ.get("FLAMBEAU_MEMORY_BUDGET") or None)
