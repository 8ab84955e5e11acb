"""What both commands share: exit codes, one-line errors, and flags read by click.

Exit codes: 64 the command line cannot be read, 69 a storage or daemon cannot be reached, 78 a value
in the configuration is wrong, wherever it was given.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import click

from taskqd.errors import StorageError
from taskqd.urls import mask_url

OK = 0
FAILED = 1
USAGE = 64
UNAVAILABLE = 69
CONFIG = 78


class Fail(Exception):
    """Ends a command: each line of the message goes to standard error, then `code` is returned."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.code = code


def read_flags(
    command: click.Command,
    program: str,
    argv: Sequence[str],
    obj: object = None,
) -> Any:
    """Run a click command with `obj` as its context's object.

    Raises Fail for usage errors, SystemExit after --help and --version.
    """
    try:
        with command.make_context(program, list(argv), obj=obj) as context:
            return command.invoke(context)
    except click.exceptions.NoArgsIsHelpError as error:
        raise Fail(USAGE, error.format_message()) from None
    except click.UsageError as error:
        raise Fail(USAGE, f"{program}: {_one_line(error)} (see {program} --help)") from None
    except click.exceptions.Exit as stop:
        raise SystemExit(stop.exit_code) from None
    except BrokenPipeError:
        # The reader of a help text has gone.
        _abandon(sys.stdout)
        raise SystemExit(OK) from None
    except click.Abort:
        raise Fail(130, f"{program}: interrupted") from None


def storage_failure(url: str, error: StorageError) -> Fail:
    """Return what ends a command whose storage fails; most errors name it themselves."""
    text, shown = str(error), mask_url(url)
    return Fail(UNAVAILABLE, f"storage {text if text.startswith(shown) else f'{shown}: {text}'}")


def log_failure(file: str, why: str) -> Fail:
    remedy = "name one in a folder that is there and that this user may write to"
    return Fail(CONFIG, f'log.file: "{file}": cannot be written: {why}; {remedy}')


def complain(lines: Iterable[str]) -> None:
    """Write lines to standard error; stop without an error once its reader has gone."""
    _write(sys.stderr, lines)


def show(lines: Iterable[str]) -> None:
    """Write lines to standard output; stop without an error once its reader has gone."""
    _write(sys.stdout, lines)


def _write(stream: TextIO | None, lines: Iterable[str]) -> None:
    """Write each line as it is made; an error raised while making one passes through."""
    for line in lines:
        if not _put(stream, line):
            return


def _put(stream: TextIO | None, line: str) -> bool:
    """Write one line.  False: the stream is closed or its reader has gone (`| head`)."""
    if stream is None:
        return False
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):
        # Nobody listens; the exit code still tells.
        _abandon(stream)
        return False
    return True


def _abandon(stream: TextIO) -> None:
    """Keep the interpreter from complaining at exit about what it cannot flush."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _one_line(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        near = f'; did you mean "{error.possibilities[0]}"?' if error.possibilities else ""
        return f"{error.option_name}: unknown flag{near}"
    return " ".join(error.format_message().split()).rstrip(".")
