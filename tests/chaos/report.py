"""The report of one run, as JSON and as Markdown."""

from __future__ import annotations

import platform
import sqlite3
import subprocess
from collections import Counter

import msgspec

import taskqd
from tests.chaos.checks.checker import Broken
from tests.chaos.checks.recovery import Times
from tests.chaos.plan import Step
from tests.chaos.world import World
from tests.support.rigs.daemon import ROOT

SHOWN_MAX = 20


class Report(msgspec.Struct):
    seed: int
    seconds: float
    took_s: float
    storage: str
    kind: str
    fsync: str
    workers: int
    nodes: int
    versions: dict[str, str]
    faults: dict[str, int]
    counts: dict[str, int]
    recovery: dict[str, Times]
    broken: list[Broken]
    plan: list[Step]


def versions(world: World) -> dict[str, str]:
    found = {
        "taskqd": taskqd.__version__,
        "commit": _said(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    if world.server:
        found[world.storage] = _said([world.server.binary, "--version"]).partition(" sha")[0]
    else:
        found["sqlite of the nemesis"] = sqlite3.sqlite_version
    return found


def _said(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def markdown(report: Report) -> str:
    fsync = f", appendfsync {report.fsync}" if report.fsync else ""
    lines = [
        (
            f"# Chaos: {report.storage}{fsync}, {report.nodes} x {report.workers} {report.kind} workers,"
            f" seed {report.seed}"
        ),
        "",
        ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        "",
        (
            f"{report.counts.get('jobs', 0)} jobs in {report.took_s:g} s, {sum(report.faults.values())}"
            f" faults; **lost {report.counts.get('lost', 0)}**, laws broken {len(report.broken)}."
        ),
        "",
        *_table("fault", "times", sorted(report.faults.items())),
        *_table("counted", "", sorted(report.counts.items())),
        "| recovery, ms | n | p50 | p99 | max |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, t in report.recovery.items():
        lines.append(f"| {name} | {t.count} | {t.p50:g} | {t.p99:g} | {t.max:g} |")
    return "\n".join([*lines, "", *_broken(report), ""])


def document(report: Report) -> str:
    """Return the report of a long run as a page of the documentation."""
    kills = report.faults
    daemons = kills.get("kill master", 0) + kills.get("kill tree", 0)
    head = f"""\
# A long run under kills

In one run of {report.took_s / 60:.0f} minutes {kills.get("kill worker", 0)} workers (busy ones first),
{daemons} daemons and {kills.get("kill storage", 0)} times the storage were killed with SIGKILL, while
two clients enqueued {report.counts.get("jobs", 0)} jobs of every kind. Each job writes its begin and its
end to a file outside of the storage; the checker compares these with what the clients were told and
with what the storage says when all is over. Lost: **{report.counts.get("lost", 0)}**; laws broken:
**{len(report.broken)}**.

`make chaos-long SEED={report.seed} STORAGE={report.storage}` repeats it, on any machine with two cores.
"Repeats" are jobs whose end their worker could not tell before it died: each ran again, as
at-least-once has it. Recovery is counted from the moment of the kill, or from when the next daemon was
started or the storage answered again; faults beside which something else was away are left out. Queues
are served in strict order: what stands in the second one waits while the first is busy, also after a
recovery, which is where the longest times come from.

"""
    body = markdown(report).partition("\n")
    return head + body[0].replace("# Chaos", "## The report") + "\n" + body[2]


def _table(first: str, second: str, rows: list[tuple[str, int]]) -> list[str]:
    head = [f"| {first} | {second} |", "| --- | ---: |"]
    return [*head, *(f"| {name} | {count} |" for name, count in rows), ""]


def _broken(report: Report) -> list[str]:
    if not report.broken:
        return ["No law was broken."]
    by_law = Counter(broken.law for broken in report.broken)
    lines = [f"- **{law}**: {count}" for law, count in by_law.most_common()]
    shown: Counter[str] = Counter()
    for broken in report.broken:
        shown[broken.law] += 1
        if shown[broken.law] <= SHOWN_MAX // len(by_law) + 1:
            lines.append(f"  - {broken.law}: {broken.id} {broken.what}")
    return lines
