"""The operators of the database that do not agree, each with the reason.

tests/parity/opinfo/test_database.py fails for an operator that is here and agrees, as for one that
is not here and does not. `tools/operators.py` tells which these are.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

#: Operator -> dtype, stage (of `calls.STAGES`), or "all" -> why it does not agree.
REASONS: dict[str, dict[str, str]] = tomllib.loads(
    (Path(__file__).parent / "reasons.toml").read_text()
)


def reason(name: str, key: str) -> str | None:
    """Why an operator does not agree in a dtype or a stage; None where it must."""
    found = REASONS.get(name, {})
    return found.get("all") or found.get(key)
