"""Values that are refused, alone and beside others, and how an error names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configs import errors, load, written


def test_an_error_in_a_value_that_is_overridden_is_still_an_error(tmp_path: Path) -> None:
    assert len(errors(written(tmp_path, "[workers]\ncount = 0\n"), workers__count="4")) == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[workerz]\ncount = 1", "1: workerz: unknown section; did you mean [workers]?"),
        ("[zzz]", "1: zzz: unknown section"),
        ("workers = 4", "1: workers: expected a table: [workers]"),
        ("nmae = 'x'", '1: nmae: unknown key; did you mean "name"?'),
        ('"workers.count" = 5', "1: workers.count: unknown key"),
        ("grace_s = 5", '1: grace_s: unknown key; did you mean "shutdown.grace_s"?'),
        (
            "[workers]\ngrace_s = 5",
            '2: workers.grace_s: unknown key; did you mean "shutdown.grace_s"?',
        ),
        ("workers.cuont = 1", '1: workers.cuont: unknown key; did you mean "count"?'),
        (
            "[workers]\ncount = '4'",
            '2: workers.count: "4": expected a whole number from 1 to 512, or "auto"',
        ),
        (
            "[workers]\ncount = 513",
            '2: workers.count: 513: expected a whole number from 1 to 512, or "auto"',
        ),
        (
            "[workers]\ncount = true",
            '2: workers.count: true: expected a whole number from 1 to 512, or "auto"',
        ),
        (
            "[workers]\ncount = 1.5",
            '2: workers.count: 1.5: expected a whole number from 1 to 512, or "auto"',
        ),
        (
            "[workers]\ntype = 'treads'",
            '2: workers.type: "treads": expected "process", "thread", "greenlet" or "asyncio"; did you mean "thread"?',
        ),
        (
            "[workers]\nmax_memory = 512",
            '2: workers.max_memory: 512: expected a size of at least 16MiB like "512MiB" or "1G", or "off"; did you mean "512MiB"?',
        ),
        ("[scheduler]\nenabled = 1", "2: scheduler.enabled: 1: expected true or false"),
        (
            "[health]\nbind = '127.0.0.1:70000'",
            '2: health.bind: "127.0.0.1:70000": expected a port from 1 to 65535',
        ),
        (
            "[health]\nbind = '127.0.0.1:0'",
            '2: health.bind: "127.0.0.1:0": expected a port from 1 to 65535',
        ),
        (
            "app = 'shop tasks'",
            '1: app: "shop tasks": expected "module:attribute", like "shop.tasks:app"',
        ),
        (
            "[scheduler]\ntimezone = 'Europe/Roma'",
            '2: scheduler.timezone: "Europe/Roma": expected a time zone, like "Europe/Rome"; did you mean "Europe/Rome"?',
        ),
        ("[queues]\nnames = ['a', 'a']", "2: queues.names: ['a', 'a']: queue \"a\" is given twice"),
        (
            "[queues]\nnames = ['a:0']",
            "2: queues.names: ['a:0']: weight 0 of queue 'a': expected a whole number from 1 to 1000",
        ),
        (
            "[queues]\nnames = ['a']\nweights = {b = 2}",
            '3: queues.weights: queue "b" is not among queues.names (prod.toml:2)',
        ),
        (
            "[storage]\nurl = 'memory://'",
            '2: storage.url: "memory://": memory:// lives inside one process, a daemon has several; use sqlite:// or redis://',
        ),
        (
            "burst = true\nreload = true",
            "2: reload: contradicts burst (prod.toml:1): it would never see a change",
        ),
        (
            "[workers]\nconcurrency = 4",
            '2: workers.concurrency: 4: a worker of type process (default) runs one job at a time; raise workers.count, or set workers.type = "thread"',
        ),
    ],
)
def test_bad_input_of_a_file_is_named(tmp_path: Path, text: str, error: str) -> None:
    assert errors(written(tmp_path, text)) == [f"prod.toml:{error}"]


def test_process_workers_with_one_slot_and_thread_workers_with_many_are_fine() -> None:
    assert load(workers__concurrency="1").settings.workers.concurrency == 1
    threads = load(workers__type="thread", workers__concurrency="8").settings.workers
    assert (threads.type, threads.concurrency) == ("thread", 8)


def test_no_error_shows_a_password(tmp_path: Path) -> None:
    file = written(tmp_path, "[storage]\nurl = 'redsi://user:hunter2@db/0?password=hunter2'")
    (error,) = errors(file)
    assert "hunter2" not in error
    assert "user:***@db" in error
