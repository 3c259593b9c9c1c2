#!/usr/bin/env python3
"""Compare the operators of torch's own database with torch, all samples, and count what agrees.

python tools/operators.py                           float32: results and gradients
python tools/operators.py --dtype int64 bfloat16    other dtypes
python tools/operators.py --deep                    also second derivatives and tangents
python tools/operators.py --only linalg --limit 5   some operators, some samples of each
python tools/operators.py --json FILE               write the table: operator, dtype -> outcome

Needs torch (the `parity` extra). An operator counts as public where torch gives it a name without
a leading underscore; entries of the database that only compilers see are left out.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.testing._internal.common_methods_invocations import op_db

from tests.parity.opinfo.calls import full_name, outcome
from tests.parity.opinfo.reasons import reason


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", nargs="+", default=["float32"], help="names of dtypes")
    parser.add_argument("--only", default="", help="a pattern that names must contain")
    parser.add_argument("--limit", type=int, help="at most so many samples of each operator")
    parser.add_argument("--deep", action="store_true", help="second derivatives and tangents too")
    parser.add_argument("--json", type=Path, help="where to write the table")
    return parser.parse_args()


def main() -> int:
    """Run the command; 1 where something does not agree and has no reason."""
    chosen = options()
    torch.set_num_threads(1)
    table: dict[str, dict[str, Any]] = {}
    unexplained = 0
    for dtype in chosen.dtype:
        start = time.perf_counter()
        counts: collections.Counter[str] = collections.Counter()
        samples = 0
        for op in op_db:
            name = full_name(op)
            if not re.search(chosen.only, name):
                continue
            found = outcome(op, getattr(torch, dtype), chosen.limit, chosen.deep)
            counts[found.status] += 1
            samples += found.samples
            entry = {"status": found.status, "samples": found.samples}
            if found.status not in ("pass", "no dtype"):
                why = reason(name, dtype)
                entry["why"] = found.why
                if why is not None:
                    entry["reason"] = why
                elif found.status != "unlike":
                    unexplained += 1
                print(f"  {found.status:9} {name}: {why or found.why}")
            table.setdefault(name, {})[dtype] = entry
        compared = sum(n for status, n in counts.items() if status not in ("no dtype", "unlike"))
        share = 100.0 * counts["pass"] / max(compared, 1)
        print(
            f"{dtype}: {counts['pass']} of {compared} agree ({share:.1f} %), {samples} samples, "
            f"{time.perf_counter() - start:.0f} s; {dict(counts)}"
        )
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
