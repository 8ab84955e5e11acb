"""Paints the screen of `taskqctl top`: with rich where it is installed, else with plain ANSI codes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from .view import Table, TopView, cut, fit, lines

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_BOLD, _RED, _DIM, _OFF = "\x1b[1m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
KEYS = "q quits"


def paint(view: TopView, width: int, height: int, *, note: str = "") -> list[str]:
    """Return the lines of a screen of this size, coloured."""
    try:
        body = _by_rich(view, width)
    except ImportError:
        body = _by_hand(view, width)
    # The head and the foot stay where there is no room for all.
    room = max(0, height - len(view.head) - 1)
    if len(body) > room:
        body = [*body[: max(0, room - 1)], f"{_DIM}… {len(body) - room + 1} more lines{_OFF}"]
    foot = note or KEYS
    return [
        *(f"{_BOLD}{cut(line, width)}{_OFF}" for line in view.head[:1]),
        *(cut(line, width) for line in view.head[1:]),
        *body,
        f"{_DIM}{cut(foot, width)}{_OFF}",
    ][:height]


def text(view: TopView, width: int) -> list[str]:
    """Return lines for a file or a pipe: no colours."""
    parts = [view.head, lines(view.workers, width)]
    if view.queues.rows:
        parts.append(lines(view.queues, width))
    return [line for part in parts for line in (*part, "")][:-1]


def _by_hand(view: TopView, width: int) -> list[str]:
    found = [""]
    for table in (view.workers, view.queues):
        if not table.rows:
            continue
        heading, *rows = lines(table, width)
        found.append(f"{_DIM}{heading}{_OFF}")
        found += [f"{_RED}{row}{_OFF}" if i in table.loud else row for i, row in enumerate(rows)]
        found.append("")
    return found


def _by_rich(view: TopView, width: int) -> list[str]:
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        color_system="standard",
        legacy_windows=False,
    )
    with console.capture() as shown:
        for table in (view.workers, view.queues):
            if table.rows:
                console.print(_rich_table(table, width), end="")
    return ["", *shown.get().splitlines()]


def _rich_table(table: Table, width: int) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    # Its frame takes two columns, and one more between two cells.
    table = fit(table, width - 2)
    made = RichTable(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in table.columns:
        made.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=True,
            header_style="dim",
        )
    for number, row in enumerate(table.rows):
        made.add_row(*map(Text, row), style="red" if number in table.loud else "")
    return made
