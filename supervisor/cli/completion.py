"""Completion of command lines in shells, by click.

A shell calls the command itself with `_TASKQCTL_COMPLETE` (or `_TASKQD_COMPLETE`) in its environment.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping

import click

SHELLS = ("bash", "zsh", "fish")
PROGRAMS = ("taskqd", "taskqctl")


def variable_of(program: str) -> str:
    return f"_{program.upper()}_COMPLETE"


def is_asked(program: str, env: Mapping[str, str]) -> bool:
    return bool(env.get(variable_of(program)))


def answer(command: click.Command, program: str, env: Mapping[str, str], obj: object = None) -> int:
    """Answer a shell that asks for completions; returns the exit code."""
    from click.shell_completion import shell_complete

    instruction = env[variable_of(program)]
    # A warning would land in the line that is being typed.
    with contextlib.redirect_stderr(io.StringIO()):
        return shell_complete(command, {"obj": obj}, program, variable_of(program), instruction)


def scripts(shell: str) -> Iterator[str]:
    """Yield what the shell has to read, for each command."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"{shell!r}: expected one of {', '.join(SHELLS)}")
    for program in PROGRAMS:
        template = kind(click.Command(program), {}, program, variable_of(program))
        yield template.source_template % template.source_vars()
