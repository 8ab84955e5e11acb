"""A year of ticks in four time zones, against a table that is written down and not computed.

The policy, as docs/periodic.md states it: a job at a fixed time of day ticks once a day; where the
clock skips its time it ticks right after the gap, where its time comes twice it ticks the first
time.  A job whose minute or hour field begins with `*` ticks by the clock as it goes: not in a gap,
and in both passes of a fold.

The timetables of daemons are driven by a simulated clock, and are restarted again and again in the
middle of a minute.

    zone                 2026: gap                           fold
    America/New_York     8 March  02:00 -> 03:00 (07:00Z)    1 November 02:00 -> 01:00 (06:00Z)
    Europe/Rome          29 March 02:00 -> 03:00 (01:00Z)    25 October 03:00 -> 02:00 (01:00Z)
    Australia/Lord_Howe  4 October 02:00 -> 02:30            5 April 02:00 -> 01:30
                         (3 October 15:30Z)                  (4 April 15:00Z)
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest

from taskqd.app import App
from taskqd.jobs.job import State
from taskqd.periodic.cron import crontab, every
from taskqd.storage.memory import MemoryStorage
from taskqd.worker.scheduler import ticker as timetable
from taskqd.worker.scheduler.ticker import Ticker
from tests.support.rigs.timetable_rig import Told

NEW_YORK, ROME, LORD_HOWE = "America/New_York", "Europe/Rome", "Australia/Lord_Howe"
YEARS = {
    NEW_YORK: ("2026-01-01 05:00", "2027-01-01 05:00"),
    ROME: ("2025-12-31 23:00", "2026-12-31 23:00"),
    LORD_HOWE: ("2025-12-31 13:00", "2026-12-31 13:00"),
    "UTC": ("2026-01-01 00:00", "2027-01-01 00:00"),
}
"""Where the year 2026 begins and ends in each zone, in UTC."""

DAILY = {
    ("30 2 * * *", NEW_YORK): [
        ("2026-01-01", "2026-03-07", "07:30"),
        ("2026-03-08", "2026-03-08", "07:00"),  # 02:30 is skipped: at 03:00, right after the gap
        ("2026-03-09", "2026-10-31", "06:30"),
        ("2026-11-01", "2026-12-31", "07:30"),
    ],
    ("30 1 * * *", NEW_YORK): [
        ("2026-01-01", "2026-03-08", "06:30"),
        ("2026-03-09", "2026-11-01", "05:30"),  # 1 November: the first of two 01:30
        ("2026-11-02", "2026-12-31", "06:30"),
    ],
    ("@daily", NEW_YORK): [
        ("2026-01-01", "2026-03-08", "05:00"),
        ("2026-03-09", "2026-11-01", "04:00"),
        ("2026-11-02", "2026-12-31", "05:00"),
    ],
    ("30 2 * * *", ROME): [
        ("2026-01-01", "2026-03-28", "01:30"),
        ("2026-03-29", "2026-03-29", "01:00"),  # 02:30 is skipped: at 03:00, right after the gap
        ("2026-03-30", "2026-10-25", "00:30"),  # 25 October: the first of two 02:30
        ("2026-10-26", "2026-12-31", "01:30"),
    ],
    ("30 1 * * *", ROME): [
        ("2026-01-01", "2026-03-29", "00:30"),
        ("2026-03-29", "2026-10-24", "23:30"),
        ("2026-10-26", "2026-12-31", "00:30"),
    ],
    ("@daily", ROME): [
        ("2025-12-31", "2026-03-28", "23:00"),
        ("2026-03-29", "2026-10-24", "22:00"),
        ("2026-10-25", "2026-12-30", "23:00"),
    ],
    ("30 2 * * *", LORD_HOWE): [
        ("2025-12-31", "2026-04-03", "15:30"),
        ("2026-04-04", "2026-10-02", "16:00"),
        ("2026-10-03", "2026-12-30", "15:30"),  # 4 October there: 02:30 is the end of the gap
    ],
    ("30 1 * * *", LORD_HOWE): [
        ("2025-12-31", "2026-04-04", "14:30"),  # 5 April there: the first of two 01:30
        ("2026-04-05", "2026-10-03", "15:00"),
        ("2026-10-04", "2026-12-30", "14:30"),
    ],
    ("@daily", LORD_HOWE): [
        ("2025-12-31", "2026-04-04", "13:00"),
        ("2026-04-05", "2026-10-03", "13:30"),
        ("2026-10-04", "2026-12-30", "13:00"),
    ],
    ("30 2 * * *", "UTC"): [("2026-01-01", "2026-12-31", "02:30")],
    ("30 1 * * *", "UTC"): [("2026-01-01", "2026-12-31", "01:30")],
    ("@daily", "UTC"): [("2026-01-01", "2026-12-31", "00:00")],
}
"""(rule, zone) -> rows of first day, last day, time: all in UTC."""


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def shown(ticks: list[int]) -> list[str]:
    return [datetime.fromtimestamp(tick / 1000, UTC).isoformat(" ") for tick in ticks]


def days(first: str, last: str, time: str) -> Iterator[int]:
    day = ms(f"{first} {time}")
    while day <= ms(f"{last} {time}"):
        yield day
        day += 86_400_000


def expected(rule: str, zone: str) -> list[int]:
    if rule == "*/15 * * * *":
        # Each offset is a multiple of 15 minutes, and a fold ticks twice: each quarter of an hour
        # that really passes has one tick, whatever the clocks do.
        first, last = map(ms, YEARS[zone])
        return list(range(first, last, 900_000))
    return [tick for row in DAILY[rule, zone] for tick in days(*row)]


class Simulated:
    """The timetables of some daemons on one storage; time passes from tick to tick."""

    def __init__(self, apps: list[App], start_ms: int, seed: int = 1) -> None:
        self._apps = apps
        self._storage = MemoryStorage("shop", world=uuid.uuid4().hex)
        self._chance = random.Random(seed)
        self._now = start_ms
        self._skews = [0 for _ in apps]
        self._tables = [self._table(which) for which in range(len(apps))]
        for which in range(len(apps)):
            self._fire(which)

    def _table(self, which: int) -> Ticker:
        return Ticker(
            self._apps[which].periodic.read, "skip", clock=lambda: self._now + self._skews[which]
        )

    def run(self, until_ms: int, *, restarts: int, near: Sequence[int]) -> dict[str, list[int]]:
        """Let time pass; return the ticks that fired, by task.

        `near`: the restarts come within 40 s of some of these times.
        """
        planned = sorted(
            self._chance.choice(near) + self._chance.randrange(-40_000, 40_000)
            for _ in range(restarts)
        )
        while self._now < until_ms:
            sleeps_ms = min(self._fire(which) for which in range(len(self._apps)))
            if planned and planned[0] <= self._now + sleeps_ms:
                self._restart(planned.pop(0))
            else:
                self._now += sleeps_ms
        ids = [row.id.rpartition("@") for row in self._storage.jobs(State.QUEUED)]
        fired: dict[str, list[int]] = {}
        for name, _, tick in sorted(ids, key=lambda parts: int(parts[2])):
            if int(tick) < until_ms:  # a clock that is ahead is in the next year already
                fired.setdefault(name, []).append(int(tick))
        return fired

    def _fire(self, which: int) -> int:
        """Fire what is due; return after how many ms the daemon looks again."""
        left_s = 0.0
        while left_s == 0.0:
            left_s = self._tables[which].fire(self._storage, Told())  # type: ignore[arg-type]
        return max(1, round(left_s * 1000))

    def _restart(self, at_ms: int) -> None:
        """End a daemon, or all; the clock of the next one may be a little off."""
        self._now = max(self._now, at_ms)
        everyone = range(len(self._apps))
        for which in self._chance.choice([everyone, *([which] for which in everyone)]):
            self._skews[which] = self._chance.choice([-1500, 0, 900])
            self._tables[which] = self._table(which)
            self._fire(which)
            self._now += self._chance.randrange(20_000)


@pytest.fixture(autouse=True)
def one_look_for_each_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon looks every few seconds, whatever comes; here that would be all that is done."""
    monkeypatch.setattr(timetable, "LOOK_MAX_S", 1e9)


def app_of(zone: str, *rules: str) -> App:
    app = App("shop", "memory://", timezone=zone)
    for number, rule in enumerate(rules):
        app.periodic_task(crontab(rule), name=f"rule{number}")(lambda: None)
    return app


def test_the_table_has_a_row_for_each_day_of_the_year() -> None:
    for (rule, zone), rows in DAILY.items():
        ticks = expected(rule, zone)
        assert len(ticks) == len(set(ticks)) == 365, (rule, zone, rows)
        assert ms(YEARS[zone][0]) <= ticks[0] < ticks[-1] < ms(YEARS[zone][1])


@pytest.mark.parametrize("zone", list(YEARS))
def test_a_year_of_daily_tasks_fires_exactly_the_ticks_of_the_table(zone: str) -> None:
    rules = ["30 2 * * *", "30 1 * * *", "@daily"]
    first, last = map(ms, YEARS[zone])
    simulated = Simulated([app_of(zone, *rules), app_of(zone, *rules)], first - 1)
    near = [tick for rule in rules for tick in expected(rule, zone)]
    fired = simulated.run(last, restarts=150, near=near)
    for number, rule in enumerate(rules):
        assert shown(fired[f"rule{number}"]) == shown(expected(rule, zone)), rule


@pytest.mark.parametrize("zone", list(YEARS))
def test_a_year_of_quarters_fires_each_that_really_passes(zone: str) -> None:
    first, last = map(ms, YEARS[zone])
    ticks = expected("*/15 * * * *", zone)
    assert len(ticks) == 35_040
    simulated = Simulated([app_of(zone, "*/15 * * * *")], first - 1)
    fired = simulated.run(last, restarts=50, near=ticks)
    assert shown(fired["rule0"]) == shown(ticks)


TRANSITIONS = {
    NEW_YORK: ("2026-03-08 07:00", "2026-11-01 06:00"),
    ROME: ("2026-03-29 01:00", "2026-10-25 01:00"),
    LORD_HOWE: ("2026-10-03 15:30", "2026-04-04 15:00"),
}


@pytest.mark.parametrize("zone", list(TRANSITIONS))
@pytest.mark.parametrize("which", ["gap", "fold"])
def test_every_few_seconds_ticks_through_gap_and_fold_as_time_passes(zone: str, which: str) -> None:
    at = ms(TRANSITIONS[zone][which == "fold"])
    app = App("shop", "memory://", timezone=zone)
    app.periodic_task(every(seconds=7), name="beat")(lambda: None)
    app.periodic_task(crontab(second="*/20"), name="third")(lambda: None)
    near = range(at - 540_000, at + 540_000)
    fired = Simulated([app], at - 600_000).run(at + 600_000, restarts=20, near=near)
    span = range(at - 600_000 + 1, at + 600_000)
    assert fired["beat"] == [tick for tick in span if tick % 7000 == 0]
    assert fired["third"] == [tick for tick in span if tick % 20_000 == 0]
