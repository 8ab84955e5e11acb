"""Print docs/reference.md from the code: `python docs/reference.py > docs/reference.md`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import taskqd
from taskqd.client.enqueue import Enqueueing
from taskqd.control import Controlling
from taskqd.jobs.options import TASK_OPTION_NAMES
from taskqd.listeners import HOOKS, SIGNALS, Listening

_DEFAULT = re.compile(r" = <State\.\w+: '(\w+)'>")
HEAD = """# Reference

Every public name of `taskqd`, made from the code by `python docs/reference.py`. How they work
together is in [tasks.md](tasks.md).
"""
SECTIONS = {
    "Declaring and calling": ["App", "Task", "Signature", "crontab", "every"],
    "Results": ["Result", "ResultGroup", "State"],
    "Periodic tasks, `app.periodic`": ["Agenda", "PeriodicRow"],
    "Inside a task": ["current_job", "CurrentJob"],
}
INNER = {
    *("adopt", "entry", "packer", "run_immediately", "enqueue_signatures", "aenqueue_signatures"),
    *("features", "open_storage", "storage", "goes_on", "s_late"),
}
"""Public between our own modules only."""
PARTS: dict[str, tuple[type, ...]] = {"App": (Enqueueing, Controlling, Listening)}
"""Classes whose methods belong to another one's."""


def page() -> str:
    lines = [HEAD]
    for title, names in SECTIONS.items():
        lines.append(f"## {title}\n")
        for name in names:
            lines += _describe(name, getattr(taskqd, name))
    lines += _errors()
    lines.append("## Names\n")
    lines.append(f"Options of a task: {_codes(TASK_OPTION_NAMES)}.\n")
    lines.append(f"Signals: {_codes(SIGNALS)}.\n")
    lines.append(f"Hooks: {_codes(HOOKS)}.")
    return "\n".join(lines) + "\n"


def _codes(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _describe(name: str, thing: Any) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield f"### `{name}{_signature(thing)}`\n"
        yield _text(thing) + "\n"
        return
    yield f"### `{name}`\n"
    yield _text(thing) + "\n"
    for part in (thing, *PARTS.get(name, ())):
        for member, value in part.__dict__.items():
            yield from _member(name, member, value)


def _member(owner: str, name: str, value: Any) -> Iterator[str]:
    if name == "__init__" and owner == "App":
        yield f"- `{owner}{_signature(value)}`{_below(value)}\n"
    elif name == "__call__":
        called = "app.periodic" if owner == "Agenda" else "task"
        yield f"- `{called}{_signature(value)}`{_below(value)}\n"
    elif name.startswith("_") or name in INNER:
        return
    elif isinstance(value, property):
        yield f"- `.{name}`{_colon(value)}\n"
    elif isinstance(value, FunctionType):
        prefix = "await " if inspect.iscoroutinefunction(value) else ""
        yield f"- `{prefix}.{name}{_signature(value)}`{_below(value)}\n"
    elif not callable(value) and name.isupper():
        yield f"- `{name}`: `{value!s}`\n"


def _colon(value: property) -> str:
    text = _indented(value)
    return f": {text}" if text else ""


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.name != "self"]
    text = str(signature.replace(parameters=kept))
    # Annotations are strings, so they come in quotes; defaults keep theirs.
    return _DEFAULT.sub(r" = '\1'", re.sub(r"(: |-> )'([^']*)'", r"\1\2", text))


def _text(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _indented(thing: Any) -> str:
    return "\n".join(f"  {line}".rstrip() for line in _text(thing).splitlines()).strip()


def _below(thing: Any) -> str:
    text = _indented(thing)
    return f"  \n  {text}" if text else ""


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    yield "| error | is a | what happened |\n|---|---|---|"
    for name in taskqd.__all__:
        thing = getattr(taskqd, name)
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            bases = ", ".join(f"`{base.__name__}`" for base in thing.__bases__)
            yield f"| `{name}` | {bases} | {_text(thing).split(chr(10) * 2)[0].replace(chr(10), ' ')} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
