"""What somebody gets wrong on the first day is told in words that name the remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from taskqd import App, crontab
from taskqd.errors import BadArguments, ConfigError
from taskqd.immediate import run_queued
from taskqd.supervisor.ctl import output

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass
class Order:
    number: int
    when: datetime


@pytest.fixture
def app() -> App:
    return App("firstday", "memory://firstday")


def test_one_annotation_for_the_type_checker_turned_all_others_off(app: App) -> None:
    @app.task
    def bill(order: Order, price: Decimal | None = None) -> str:
        return f"{type(order).__name__} {order.when.year} {price}"

    result = bill(Order(7, datetime(2026, 1, 1, tzinfo=UTC)))
    run_queued(app)
    assert result.get(timeout=5) == "Order 2026 None"
    with pytest.raises(BadArguments):
        bill({"number": "x", "when": "2026-01-01T00:00:00Z"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda task: task("x"), "Expected `int`, got `str` - at `first`"),
        (lambda task: task(first="x"), "Expected `int`, got `str` - at `first`"),
        (lambda task: task(1, {"number": "x"}), "got `str` - at `order.number`"),
        (lambda task: task(1, order={"number": "x"}), "got `str` - at `order.number`"),
        (lambda task: task(1, None, 2, "x"), "got `str` - at `rest`"),
    ],
)
def test_a_wrong_argument_was_told_by_its_place_only(
    app: App, call: Callable[[Any], Any], told: str
) -> None:
    @app.task
    def some(first: int, order: Order | None = None, *rest: int) -> None: ...

    with pytest.raises(BadArguments) as caught:
        call(some)
    assert told in str(caught.value)
    assert app.counts() == {}


def test_a_delay_is_a_timedelta_too(app: App) -> None:
    @app.task
    def some() -> None: ...

    late, now = some.options(delay=timedelta(minutes=1))(), some.options(delay=timedelta(0))()
    assert (late.state, now.state) == ("scheduled", "queued")
    with pytest.raises(ConfigError, match="'soon': expected a datetime, a timedelta or a number"):
        some.options(delay="soon")()


@pytest.mark.parametrize("option", ["lock", "unique"])
@pytest.mark.parametrize("template", ["user:{user}", "user:{}", "user:{user_id"])
def test_a_template_that_no_call_can_fill_was_accepted(
    app: App, option: str, template: str
) -> None:
    with pytest.raises(ConfigError, match=f"{option} = '{template[:5]}"):
        app.task(**{option: template})(lambda user_id: user_id)  # type: ignore[call-overload]


def test_templates_may_look_into_arguments(app: App) -> None:
    @app.task(lock="order:{order.number}:{kept[a]}", unique="{order.number} until start")
    def some(order: Order, **kept: int) -> int:
        return kept["a"]

    result = some(Order(1, datetime(2026, 1, 1, tzinfo=UTC)), a=5)
    run_queued(app)
    assert result.get(timeout=5) == 5


def test_other_first_mistakes_are_told_with_what_was_expected(app: App) -> None:
    @app.task
    def some(number: int = 0) -> None: ...

    loose: Any = some
    either: Any = app
    with pytest.raises(ConfigError, match=r"args = 3: expected a tuple, like \(1, 2\)"):
        loose.schedule(3, delay=1)
    with pytest.raises(ConfigError, match=r"args = '12': expected a tuple"):
        loose.schedule("12", delay=1)
    with pytest.raises(ConfigError, match=r"to enqueue the task call it: .*some\(\.\.\.\)"):
        either.enqueue(some)
    with pytest.raises(ConfigError, match="expected a signature"):
        either.enqueue(5)
    with pytest.raises(ConfigError, match="options go by name"):
        either.task("shop.send")
    with pytest.raises(ConfigError, match=r"Bad minute; expected minute \(0-59\)"):
        crontab(minute="61")


def test_rows_are_written_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed standard output is None: `taskqctl queue ls >&-` ended with a traceback."""
    monkeypatch.setattr(sys, "stdout", None)
    output.show_rows(iter([{"queue": "default"}]), ["queue"], as_json=False)
