"""Make docs/scenarios.md from what pytest has written about a run of the whole matrix.

`python -m tests.support.matrix.table RESULT.xml > docs/scenarios.md`
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.support.matrix.scenarios import SCENARIOS
from tests.support.matrix.yard import KINDS

HEAD = """\
# Scenarios

What was done to a running daemon, with each kind of worker, and how it ended. `make matrix` runs all
of it and writes this page; the suite runs a part (`tests/process/test_matrix.py`).

A scenario passes when, by a ledger that the jobs write outside of daemon and storage, no job is lost
and none has ended twice (where a worker is killed: at most as many as there are slots, which can have
ended unheard); the daemon then serves with all its workers, exits with 0 in time, and no process,
zombie, descriptor, thread of the master or socket is left. Figures are seconds, with start and stop.
"""


def page(path: Path) -> str:
    cells: dict[tuple[str, str], str] = {}
    suite = next(iter(ET.parse(path).getroot()))
    for case in suite:
        found = re.fullmatch(r".*\[(.+)-(\w+)\]", case.get("name", ""))
        if found is not None:
            cells[found[1], found[2]] = _cell(case)
    rows = [
        f"| {scenario} | " + " | ".join(cells.get((scenario, kind), "not run") for kind in KINDS)
        for scenario in SCENARIOS
    ]
    passed = sum(cell[0].isdigit() for cell in cells.values())
    return "\n".join(
        [
            HEAD,
            f"Last run: {suite.get('timestamp', '')[:10]}, {passed} of {len(cells)} passed.",
            "",
            "| scenario | " + " | ".join(KINDS) + " |",
            "|---" * (len(KINDS) + 1) + "|",
            *(f"{row} |" for row in rows),
            "",
        ]
    )


def _cell(case: ET.Element) -> str:
    failed = [tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None]
    return f"**{failed[0]}**" if failed else f"{float(case.get('time', '0')):.1f}"


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1])))
