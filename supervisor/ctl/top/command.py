"""The command `taskqctl top`: shows the daemon's workers live, or once for scripts."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

import click

from taskqd.supervisor.cli.common import Fail
from taskqd.supervisor.ctl.options import Options, Output, command
from taskqd.supervisor.ctl.target import ask_daemon, socket_of

from . import machine
from .paint import paint, text
from .screen import Screen
from .view import Sample, TopView, rates, view

PIPE_COLUMNS = 200
"""Width where the output is no terminal."""


def add_to(root: click.Group) -> None:
    command(root, "top")(top)


@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=1.0,
    metavar="S",
    help="Between two looks (1).",
)
@click.option("--once", is_flag=True, help="Look twice, an interval apart, print and end.")
def top(options: Options, interval: float, once: bool) -> Output:
    """Watch workers, queues and rates, live; `q` quits.

    Prints once where it is not at a terminal, and with --json.
    """
    options = options._replace(socket=socket_of(options))
    if once or options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _once(options, interval)
    with Screen() as screen:
        _watch(options, screen, interval)
    return Output(facts={}, text=())


def _once(options: Options, interval_s: float) -> Output:
    before = _look(options)
    time.sleep(interval_s)
    now = _look(options)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS
    facts: dict[str, Any] = {**now.facts, "rates": rates(before, now)}
    return Output(facts=facts, text=text(view(before, now), width))


def _watch(options: Options, screen: Screen, interval_s: float) -> None:
    before, now = None, _look(options)
    note = ""
    while True:
        screen.draw(paint(_shown(before, now), *screen.size(), note=note))
        due_s = (time.monotonic() if note else now.at_s) + interval_s
        while (what := screen.wait(due_s - time.monotonic())) != "":
            if what == "quit":
                return
            screen.draw(paint(_shown(before, now), *screen.size(), note=note))
        try:
            fresh = _look(options)
        except Fail as failure:
            # It may be started again: the last that was seen stays, and says so.
            note = f"{failure} (q quits)"
        else:
            before, now, note = (now, fresh, "")


def _shown(before: Sample | None, now: Sample) -> TopView:
    same = before is not None and before.facts["pid"] == now.facts["pid"]
    return view(before if same else None, now)


def _look(options: Options) -> Sample:
    facts = {**ask_daemon(options, {"cmd": "top"}), "machine": machine.look()}
    return Sample(time.monotonic(), facts)
