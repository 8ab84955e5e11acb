"""The screen of taskqctl top, painted with rich and without it."""

from __future__ import annotations

import sys

import pytest

from taskqd.supervisor.ctl.top.paint import paint, text
from taskqd.supervisor.ctl.top.view import Sample, view
from tests.support.rigs.top_facts import depth, facts, worker


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
