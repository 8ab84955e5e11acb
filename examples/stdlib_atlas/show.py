"""What the demonstration shows: a plain progress bar on standard error, the report on standard output."""

from __future__ import annotations

import sys

from .ledger import Account
from .measure import Atlas

WIDTH = 40


class Bar:
    """Redraws itself on a terminal; elsewhere it prints a line at each tenth."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = -1
        self._terminal = sys.stderr.isatty()

    def show(self, done: int) -> None:
        step = 200 if self._terminal else 10
        at = done * step // self._total
        if at == self._shown:
            return
        self._shown = at
        full = done * WIDTH // self._total
        bar = f"[{'#' * full}{'.' * (WIDTH - full)}] {done}/{self._total}"
        print(
            f"\r{bar}" if self._terminal else bar, end=self._end(done), file=sys.stderr, flush=True
        )

    def _end(self, done: int) -> str:
        return "" if self._terminal and done < self._total else "\n"

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        print(f"\r{text:<{WIDTH + 20}}" if self._terminal else text, file=sys.stderr, flush=True)
        self._shown = -1


def report(atlas: Atlas, library: str) -> str:
    def short(path: str) -> str:
        return path.removeprefix(f"{library}/")

    lines = [
        f"The standard library in {library}",
        f"  {atlas.files} files, {atlas.lines} lines",
        f"  {atlas.classes} classes, {atlas.functions} functions",
        "longest functions",
        *(f"  {f.lines:6} lines  {f.name} in {short(f.path)}" for f in atlas.longest),
        "biggest files",
        *(f"  {count:6} lines  {short(path)}" for count, path in atlas.biggest),
        "most imported",
        *(f"  {count:6} files  {module}" for count, module in atlas.imported),
        f"files that do not parse, on purpose: {len(atlas.broken)}",
        *(f"  {short(path)}: {problem}" for path, problem in atlas.broken),
    ]
    return "\n".join(lines)


def closing_line(account: Account) -> str:
    return (
        f"jobs {account.jobs}, lost {account.lost}, ran twice {account.ran_twice}, "
        f"interrupted {account.interrupted}, crashed {account.crashed}"
    )
