"""The screen of taskqctl top, painted with rich and without it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from taskqd.supervisor.ctl.top.paint import paint, text
from taskqd.supervisor.ctl.top.view import Sample, view


def worker(number: int, **facts: Any) -> dict[str, Any]:
    return {
        "worker": number,
        "id": f"n.{number}",
        "pid": 100 + number,
        "state": "ready",
        "generation": 1,
        "storage_error": "",
        "jobs": {"done": 0},
        "running": [],
        "cpu_s": 1.0,
        "pss_bytes": 10_000_000,
        **facts,
    }


def facts(*workers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "pid": 1,
        "instance": "shop",
        "state": "ready",
        "uptime_s": 70.0,
        "generation": 1,
        "storage": {"url": "memory://", "error": ""},
        "seconds_left": None,
        "wanted": len(workers),
        "ready": len(workers),
        "busy": 0,
        "jobs": {"done": 0, "failed": 0, "retried": 0},
        "scheduler": {**worker(99), "id": "n.s"},
        "workers": list(workers),
        "depths": [],
        **changes,
    }


def depth(queue: str, **counts: Any) -> dict[str, Any]:
    empty = {"queued": 0, "scheduled": 0, "running": 0, "dead": 0, "paused": False}
    return {"queue": queue, **empty, **counts}


@pytest.fixture(params=["rich", "plain"])
def painter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        for name in ("rich", "rich.console", "rich.table"):
            monkeypatch.setitem(sys.modules, name, None)
    else:
        pytest.importorskip("rich")
    return str(request.param)


def test_both_painters_show_the_same_and_keep_to_the_screen(painter: str) -> None:
    now = Sample(0.0, facts(*map(worker, range(30)), depths=[depth("default", queued=12)]))
    screen = paint(view(None, now), 80, 60)
    assert "shop: ready, up 1 min 10 s" in screen[0]
    assert sum("ready" in line for line in screen[3:]) == 31
    assert any("default" in line and "12" in line for line in screen)
    small = paint(view(None, now), 80, 10)
    assert len(small) == 10
    assert "more lines" in small[-2]
    assert "q quits" in small[-1]


def test_for_a_pipe_there_are_no_colours() -> None:
    now = Sample(0.0, facts(worker(0), depths=[depth("default")]))
    assert "\x1b" not in "".join(text(view(None, now), 200))
