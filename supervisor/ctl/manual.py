"""Makes the man pages of both commands from click's description of them.

`python -m taskqd.supervisor.ctl.manual taskqctl > docs/man/taskqctl.1`; a test holds them current.
Source for the macros: man 7 man.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import click

DATE = "2026-11-20"
"""Date of the last change in substance, which a man page has in its foot."""
WIDTH = 79


class ManualPage(NamedTuple):
    """The parts of a man page that click does not know."""

    name: str
    title: str
    synopsis: str
    text: tuple[str, ...]
    sections: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    also: tuple[str, ...]


EXIT_OF_TASKQD = (
    ("0", "Stopped as asked, also when jobs were requeued; with --check: all is well."),
    ("1", "Unexpected."),
    ("64", "The command line cannot be read."),
    ("69", "The storage cannot be reached within storage.connect_wait_s."),
    ("70", "No worker could be booted."),
    ("78", "Configuration: a value is wrong, or the app cannot be imported."),
)
EXIT_OF_TASKQCTL = (
    ("0", "Done."),
    ("1", "Refused, not found, not ready; doctor: a check failed."),
    ("64", "The command line cannot be read."),
    ("69", "No daemon answers, or no storage is there."),
    ("78", "Configuration: a value is wrong."),
)
SIGNALS = (
    ("TERM, INT", "Drain and stop; again: end the drain now; a third time: kill now."),
    ("QUIT", "Stop now with stack dumps; running jobs are requeued."),
    ("HUP", "Reload code and configuration, worker by worker."),
    ("TSTP, CONT", "Lease no more jobs but stay up; lease again."),
    ("TTIN, TTOU", "One worker more, one fewer."),
    ("USR1", "Open the log file again."),
    ("USR2", "Write the stacks of every worker into the log."),
)
ENVIRONMENT = (
    ("TASKQD_CONFIG", "The configuration file."),
    ("TASKQD_STORAGE", "The storage's URL."),
    ("TASKQD_SECTION__KEY", "Any key of the configuration; below flags, above the file."),
    ("RUNTIME_DIRECTORY, XDG_RUNTIME_DIR", "Where the admin socket is."),
)

PAGES = {
    "taskqd": ManualPage(
        "taskqd",
        "run the jobs of an app",
        "[APP] [options]",
        (
            "Runs the jobs of APP (module:attribute) in the foreground until it is told to stop.",
            "A job that was enqueued runs until it is done, dead or cancelled, whichever host dies.",
        ),
        (
            ("EXIT STATUS", EXIT_OF_TASKQD),
            ("SIGNALS", SIGNALS),
            ("ENVIRONMENT", ENVIRONMENT),
        ),
        ("taskqctl(1)", "systemd.service(5)"),
    ),
    "taskqctl": ManualPage(
        "taskqctl",
        "look into and steer taskqd",
        "[options] COMMAND [options]",
        (
            "Asks a running daemon over its admin socket, or the storage that keeps its jobs.",
            "The options below are shared by all commands and may stand before or after them.",
        ),
        (("EXIT STATUS", EXIT_OF_TASKQCTL), ("ENVIRONMENT", ENVIRONMENT)),
        ("taskqd(1)",),
    ),
}


def render(page: ManualPage, command: click.Command) -> str:
    """Return the man page of a command, written in roff's man macros."""
    context = click.Context(command, info_name=page.name)
    lines = [
        '.\\" Made by `python -m taskqd.supervisor.ctl.manual`.',
        f'.TH {page.name.upper()} 1 "{DATE}" "taskqd" "User Commands"',
        ".SH NAME",
        f"{page.name} \\- {escape(page.title)}",
        ".SH SYNOPSIS",
        f"\\fB{page.name}\\fR {escape(page.synopsis)}",
        ".SH DESCRIPTION",
        *_paragraphs(page.text),
        ".SH OPTIONS",
        *_options(command, context),
    ]
    if isinstance(command, click.Group):
        shared = {option for parameter in command.params for option in parameter.opts}
        lines += [".SH COMMANDS", *_commands(command, context, shared)]
    for title, rows in page.sections:
        lines += [f".SH {title}"]
        for term, text in rows:
            lines += [".TP", f"\\fB{escape(term)}\\fR", *_filled(text)]
    lines += [".SH SEE ALSO", escape(", ".join(page.also))]
    return "\n".join(lines) + "\n"


def _commands(
    group: click.Group, context: click.Context, shared: set[str], before: str = ""
) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner, shared, f"{before}{name} ")
            continue
        usage = " ".join(
            parameter.make_metavar(inner)
            for parameter in command.params
            if isinstance(parameter, click.Argument)
        )
        yield ".SS " + escape(f"{before}{name} {usage}".rstrip())
        # Python 3.13 keeps docstrings without their indent, those before it with it.
        yield from _paragraphs(inspect.cleandoc(command.help or "").split("\n\n"))
        yield from _options(command, inner, shared)


def _options(
    command: click.Command, context: click.Context, without: Iterable[str] = ()
) -> Iterator[str]:
    for parameter in command.get_params(context):
        if set(parameter.opts) & {*without, "--help"} or not isinstance(parameter, click.Option):
            continue
        record = parameter.get_help_record(context)
        if record is None:
            continue
        term, text = record
        yield from (".TP", f"\\fB{escape(term)}\\fR", *_filled(text))


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number:
            yield ".PP"
        yield from _filled(text)


def _filled(text: str) -> list[str]:
    """Return the text as lines short enough for roff, each of them escaped."""
    wide = textwrap.wrap(
        _plain(text),
        WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [_guard(line) for line in wide]


def escape(text: str) -> str:
    """Return the text escaped, so that roff shows it as it is: no macro at the start, hyphens that can
    be copied."""
    return _guard(_plain(text))


def _plain(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")


def _guard(line: str) -> str:
    return f"\\&{line}" if line[:1] in (".", "'") else line


def commands() -> dict[str, click.Command]:
    from taskqd.supervisor.cli.main import taskqd

    from .commands import taskqctl

    return {"taskqd": taskqd, "taskqctl": taskqctl}


if __name__ == "__main__":
    sys.stdout.write(render(PAGES[sys.argv[1]], commands()[sys.argv[1]]))
