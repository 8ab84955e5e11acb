"""A part of what `make fuzz` does at length."""

from __future__ import annotations

import pytest

from taskqd import App, ConfigError, DecodeError, JobDead, crontab, every
from taskqd.execution import follow_ups
from taskqd.execution.runner import Runner
from taskqd.immediate import CallersSlot
from taskqd.jobs.end import follow_ups_of
from taskqd.jobs.job import Lease
from taskqd.logs.setup import configure
from taskqd.periodic.cron import zone_of
from taskqd.settings import LimitSettings
from tests.security import payloads, texts


def test_no_spoilt_payload_runs_code_or_escapes() -> None:
    found = payloads.run(20_000, seed=1)
    assert {"ack", "bury undecodable", "bury unsigned", "bury rejected", "bury unknown"} <= set(
        found
    )


def test_no_spoilt_result_runs_code_or_escapes() -> None:
    found = payloads.run_answers(10_000, seed=1)
    assert {"read", "DecodeError", "TaskFailed"} <= set(found)


def test_no_spoilt_text_raises_anything_but_a_clear_error() -> None:
    found = texts.run(5_000, seed=1)
    assert {"crontab refused", "zone refused", "configuration refused"} <= set(found)


def test_a_canary_sings_when_its_pickle_is_loaded() -> None:
    """Without this the fuzzing could not fail."""
    import pickle

    pickle.loads(pickle.dumps(payloads.Bomb()))
    assert payloads.RAN.pop() == "a pickle was loaded"
    assert not payloads.RAN


def test_an_argument_annotated_as_object_takes_anything() -> None:
    app = App("objects", "memory://")

    @app.task
    def loose(first: object, *rest: object, **named: object) -> None: ...

    entry = app.entry(loose.s(1, None, {"a": [1]}, name={"b": 2}))
    assert b'{"b":2}' in entry.payload


def test_thousands_of_arguments_are_decoded_by_their_annotation() -> None:
    app = App("many", "memory://")

    @app.task
    def add(first: int, *rest: str) -> None: ...

    rest = tuple(str(n) for n in range(5000))
    entry = app.entry(add.s(1, *rest))
    args, _ = add.codec.decode_call(
        b"[1," + b",".join(b'"%d"' % n for n in range(5000)) + b"]", None
    )
    assert list(args) == [1, *rest]
    assert entry.payload


# -- what the fuzzing has found --------------------------------------------------------------------


def _opened(record: bytes) -> str:
    app = payloads.make_app(signed=False)
    runner = Runner(app, LimitSettings(), configure(role="test", level="critical"))
    place = CallersSlot()
    try:
        return str(runner.run(Lease("job-1", "default", 1, record), place).reason)
    finally:
        place.close()


@pytest.mark.parametrize(
    "record",
    [
        b'{"t":"loose","n":[["s2","default",0,7]]}',
        b'{"t":"loose","n":[["s2","default",0,{"t":"loose","a":7}]]}',
        b'{"t":"loose","n":[["s2","no such queue",0,{"t":"loose"}]]}',
        b'{"t":"loose","g":["group","default",-1]}',
        b'{"t":"loose","o":{"max_crashes":"three"}}',
        b'{"t":"loose","o":{"retry_delay":1e300}}',
    ],
)
def test_what_would_go_wrong_only_at_the_end_of_a_job_is_found_before_it_runs(
    record: bytes,
) -> None:
    """It was raised out of the runner when the job had run, and cost the worker."""
    assert _opened(record) == "undecodable"


def test_options_that_a_call_may_not_change_are_not_taken_from_a_payload() -> None:
    assert _opened(b'{"t":"loose","o":{"retry_on":"x","lock":"y","queue":"z"}}') == ""


def test_a_value_too_large_for_the_next_stage_costs_that_stage_only() -> None:
    app = payloads.make_app(signed=False)
    app.limits = LimitSettings(payload_bytes_max=2_000)

    @app.task
    def much() -> str:
        return "x" * 5_000

    runner = Runner(app, LimitSettings(), configure(role="test", level="critical"))
    results = app.enqueue(much.s().then(app.registry["loose"]))
    row = app.storage.job(results[0].id)
    assert row is not None
    outcome = runner.run(Lease(row.id, "default", 1, row.record), CallersSlot())
    assert outcome.kind == "ack"
    follow_ups.write(app.storage, follow_ups_of(outcome))
    with pytest.raises(JobDead, match="oversized"):
        results[1].get(timeout=5)


@pytest.mark.parametrize("data", [b"\xe3\x28", b"[" * 5_000, b'["done",1,2', b""])
def test_a_damaged_result_is_a_decode_error(data: bytes) -> None:
    """Some damage came out as UnicodeDecodeError or RecursionError."""
    with pytest.raises(DecodeError):
        payloads.make_app(signed=False).result("job-1")._keep(data)


def test_a_zone_of_many_dots_did_not_become_an_import() -> None:
    with pytest.raises(ConfigError, match="unknown time zone"):
        zone_of("a." * 5_000)


def test_a_crontab_of_many_digits_and_a_period_without_end_are_refused() -> None:
    with pytest.raises(ConfigError, match="crontab"):
        crontab("9" * 5_000 + " * * * *")
    with pytest.raises(ConfigError, match="period"):
        every(seconds=float("inf"))
