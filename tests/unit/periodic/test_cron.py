from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from taskqd.errors import ConfigError
from taskqd.periodic.cron import crontab, every, zone_of


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def ticks(rule: Any, start: str, zone: str, count: int) -> list[str]:
    def generate() -> Any:
        at = ms(start)
        while (at := rule.next_after(at, zone_of(zone))) is not None:
            yield datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="minutes")[:16]

    return list(islice(generate(), count))


def test_every_ticks_at_multiples_of_its_period_since_the_epoch() -> None:
    rule = every(minutes=1.5)
    assert rule.next_after(0) == 90_000
    assert rule.next_after(89_999) == 90_000
    assert rule.next_after(90_000) == 180_000


@pytest.mark.parametrize("period", [{}, {"seconds": 0}, {"seconds": -1}, {"seconds": 0.0001}])
def test_every_without_a_period_is_refused(period: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected a period"):
        every(**period)


def test_crontab_by_fields_and_by_expression_agree() -> None:
    assert crontab(minute="*/5", hour=3).expression == crontab("*/5 3 * * *").expression
    assert crontab("@daily").expression == "0 0 * * *"
    assert crontab(second="*/10").expression == "*/10 * * * * *"


@pytest.mark.parametrize("bad", ["61 * * * *", "@fortnightly", "* * *", "0 0 31 2 *", "a b c d e"])
def test_crontab_that_can_never_tick_is_refused_where_it_is_written(bad: str) -> None:
    with pytest.raises(ConfigError):
        crontab(bad)


def test_job_of_the_skipped_hour_runs_once_right_after_the_gap() -> None:
    rule = crontab("30 2 * * *")
    assert ticks(rule, "2026-03-07T12:00+00:00", "America/New_York", 2) == [
        "2026-03-08T07:00",
        "2026-03-09T06:30",
    ]


def test_job_of_the_repeated_hour_runs_once() -> None:
    rule = crontab("30 1 * * *")
    assert ticks(rule, "2026-11-01T00:00+00:00", "America/New_York", 2) == [
        "2026-11-01T05:30",
        "2026-11-02T06:30",
    ]


def test_job_of_each_quarter_runs_through_the_repeated_hour() -> None:
    rule = crontab("*/30 * * * *")
    assert ticks(rule, "2026-11-01T04:59+00:00", "America/New_York", 5) == [
        "2026-11-01T05:00",
        "2026-11-01T05:30",
        "2026-11-01T06:00",
        "2026-11-01T06:30",
        "2026-11-01T07:00",
    ]


def test_seconds_of_a_fixed_time_follow_the_same_rules_where_clocks_change() -> None:
    def seconds(rule: crontab, start: str, count: int) -> list[str]:
        zone, at, found = zone_of("America/New_York"), ms(start), []
        for _ in range(count):
            at = rule.next_after(at, zone) or 0
            found.append(datetime.fromtimestamp(at / 1000, UTC).isoformat()[5:19])
        return found

    skipped = crontab("5,35 30 2 * * *")
    assert seconds(skipped, "2026-03-07T12:00+00:00", 3) == [
        "03-08T07:00:05", "03-08T07:00:35", "03-09T06:30:05",
    ]  # fmt: skip
    twice = crontab(minute=30, hour=1, second="5,35")
    assert seconds(twice, "2026-11-01T05:30:05+00:00", 3) == [
        "11-01T05:30:35", "11-02T06:30:05", "11-02T06:30:35",
    ]  # fmt: skip
    assert seconds(crontab("0 30 2 * * *"), "2026-03-07T12:00+00:00", 1) == ["03-08T07:00:00"]


def test_a_step_in_the_hour_or_minute_goes_by_the_clock_as_it_is() -> None:
    assert ticks(crontab("*/30 2 * * *"), "2026-03-08T00:00+00:00", "America/New_York", 1) == [
        "2026-03-09T06:00"
    ]
    assert ticks(crontab("30 */1 * * *"), "2026-11-01T05:00+00:00", "America/New_York", 3) == [
        "2026-11-01T05:30", "2026-11-01T06:30", "2026-11-01T07:30",
    ]  # fmt: skip


def test_asking_again_gives_the_same_tick_in_any_order_and_zone() -> None:
    rule, fresh = crontab("30 2 * * *"), lambda: crontab("30 2 * * *")
    for at in ("2026-03-08T06:59", "2026-03-07T08:00", "2026-03-08T06:59", "2026-03-08T07:00"):
        for name in ("America/New_York", "Europe/Rome", "America/New_York"):
            when, zone = ms(f"{at}+00:00"), zone_of(name)
            assert rule.next_after(when, zone) == fresh().next_after(when, zone)


def test_unknown_zone_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="Europe/Roma"):
        zone_of("Europe/Roma")
