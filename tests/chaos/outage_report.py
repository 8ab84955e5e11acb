"""The table of outages on a page of docs/: rounds are added to it, those of the same kind replaced.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

KINDS = ("process", "thread", "greenlet", "asyncio")
AGAIN_S = 2.0
"""Work has to begin again within so long after the storage's return."""
HEADING = "# Outages of the storage"
_HEAD = [
    "| storage | it is | for s | " + " | ".join(KINDS) + " |",
    "| --- | --- | ---: |" + " ---: |" * len(KINDS),
]
_TEXT = """\
Two daemons serve one storage, which is taken away under long jobs, short ones, jobs under a lock or
`max_running`, pipelines, chords and jobs that are to run at most once (20 to 28 in a round). Nobody
dies, so in each round nothing may be lost, start twice, be counted as a crash or be a suspect, and no
two may be inside one lock; what the jobs write down outside of the storage is the judge. A number says
after how many seconds from its return work began again, for each kind of worker; at most 2 are allowed.
"Cut off" is one daemon alone for longer than its lease: its jobs start once more elsewhere, its late
ends are refused, and no crash is counted when it is back. "Failed over" is counted from the election.
Empty: not run.

`make outages STORAGE=redis KIND=thread SECONDS=5,13,30,120 REPORT=docs/chaos.md` repeats rows and puts
them here.
"""
Key = tuple[str, str, str]
"""Storage, way, length in seconds."""


class Row(NamedTuple):
    storage: str
    kind: str
    way: str
    seconds: float
    jobs: int
    again_s: float
    broken: tuple[str, ...]


def line(row: Row) -> str:
    """Return what is printed of a round."""
    said = "; ".join(row.broken[:5]) or "held"
    return (
        f"| {row.storage} | {row.kind} | {row.way} | {row.seconds:g} | {row.jobs} | "
        f"{row.again_s:.2f} | {said} |"
    )


def has_failed(row: Row) -> bool:
    return bool(row.broken) or row.again_s > AGAIN_S


def section(page: str, heading: str) -> tuple[str, str, str]:
    """Return the page before a heading, what stands under it, and the page from the next one on.

    Where there is no such heading, it is to be added at the end.
    """
    before, found, rest = page.partition(f"{heading}\n")
    if not found:
        return page, "", ""
    own, following, after = rest.partition("\n# ")
    return before, own, f"# {after}" if following else ""


def joined(before: str, heading: str, body: str, after: str) -> str:
    """Return the page with this under a heading."""
    return f"{before.rstrip()}\n\n{heading}\n\n{body.strip()}\n" + (f"\n{after}" if after else "")


def with_rounds(page: str, rows: Sequence[Row]) -> str:
    """Return the page with these rounds in its table."""
    before, part, after = section(page, HEADING)
    cells = _read(part)
    for row in rows:
        key = (row.storage, row.way, f"{row.seconds:g}")
        text = f"**{row.again_s:.2f}: {'; '.join(row.broken) or 'late'}**"
        cells.setdefault(key, {})[row.kind] = text if has_failed(row) else f"{row.again_s:.2f}"
    table = [*_HEAD, *(_table_row(key, cells[key]) for key in sorted(cells, key=_by_length))]
    return joined(before, HEADING, f"{_TEXT}\n" + "\n".join(table), after)


def _read(part: str) -> dict[Key, dict[str, str]]:
    found = {}
    for text in part.splitlines():
        fields = [field.strip() for field in text.strip("|").split("|")]
        if len(fields) == 3 + len(KINDS) and fields[2].replace(".", "").isdigit():
            told = zip(KINDS, fields[3:], strict=True)
            found[fields[0], fields[1], fields[2]] = {kind: said for kind, said in told if said}
    return found


def _table_row(key: Key, said: Mapping[str, str]) -> str:
    return "| " + " | ".join([*key, *(said.get(kind, "") for kind in KINDS)]) + " |"


def _by_length(key: Key) -> tuple[str, str, float]:
    return key[0], key[1], float(key[2])
