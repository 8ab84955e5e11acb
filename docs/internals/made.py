"""Print a page of docs/internals that is made from the code: `python docs/internals/made.py PAGE`.

PAGE is `protocol` (messages and board) or `states` (jobs and children).
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from taskqd.ipc import board, messages
from taskqd.jobs.job import State
from taskqd.jobs.states import TRANSITIONS as OF_JOBS
from taskqd.jobs.states import JobEvent
from taskqd.supervisor.state.lifecycle import TRANSITIONS as OF_CHILDREN
from taskqd.supervisor.state.lifecycle import ChildEvent

SECTION = re.compile(r"^# -- (.+?) -+$")
PROTOCOL = """# The internal protocol

Made from `taskqd/ipc/messages.py` and `taskqd/ipc/board.py` by `python docs/internals/made.py protocol`.
What is here is kept by processes of two releases at once: after an upgrade in place an old master talks to
a new zygote. So a tag, a field or a word of the board changes its meaning never; a class may get another
name and keeps its tag.

## Messages
"""
BOARD = """## The board

{about}

| part | layout (`struct`) | what it holds |
|---|---|---|
"""


def protocol() -> Iterator[str]:
    source = inspect.getsource(messages)
    tree = ast.parse(source)
    yield PROTOCOL
    yield paragraphs(ast.get_docstring(tree) or "") + "\n"
    sections = {
        number: found[1]
        for number, line in enumerate(source.splitlines(), 1)
        if (found := SECTION.match(line))
    }
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name in {"Message", "ChildContext"}:
            continue
        for number in [n for n in sections if n < node.lineno]:
            yield f"\n### {sections.pop(number)}\n"
            yield "| message | tag | fields | meaning |\n|---|---|---|---|"
        yield row_of(node)
    yield ""
    yield BOARD.format(about=paragraphs(inspect.getdoc(board) or "")).rstrip()
    yield from board_rows(ast.parse(inspect.getsource(board)))


def row_of(node: ast.ClassDef) -> str:
    kind = getattr(messages, node.name)
    tag = kind.__struct_config__.tag
    fields = "<br>".join(fields_of(node)) or "none"
    told = f"`{tag}`" if tag else "(part of a message)"
    return f"| `{node.name}` | {told} | {fields} | {cell(ast.get_docstring(node) or '')} |"


def fields_of(node: ast.ClassDef) -> Iterator[str]:
    for field, about in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            text = constant(about)
            kind = ast.unparse(field.annotation).replace("|", "\\|")
            yield f"`{ast.unparse(field.target)}: {kind}`" + (f" {cell(text)}" if text else "")


def board_rows(tree: ast.Module) -> Iterator[str]:
    for node, about in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and constant(about):
            [target] = node.targets
            value = node.value
            layout = f"`{value.args[0].value}`" if is_struct(value) else ""  # type: ignore[attr-defined]
            yield f"| `{ast.unparse(target)}` | {layout} | {cell(constant(about))} |"


def is_struct(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Struct")


def constant(node: ast.stmt | None) -> str:
    """Return the text of a docstring that stands alone, "" for any other statement."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return inspect.cleandoc(str(node.value.value))
    return ""


def cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def paragraphs(text: str) -> str:
    """Return the paragraphs of a docstring, each on one line."""
    return "\n\n".join(cell(part) for part in text.split("\n\n"))


STATES = """# States

Made from `taskqd/jobs/states.py` and `supervisor/state/lifecycle.py` by `python docs/internals/made.py states`.

## A job

A column is a state, a row what happens, a cell the state that follows; where a cell is empty, that event
changes nothing. "Unknown" is a job that the storage has never had or has forgotten. Every cell, also each
empty one, is tried on every storage by `tests/contract/test_states.py`; the model that random histories
are compared with (`tests/property/model.py`) moves by this table alone.

A dead letter that is parked under its task's name is queued and leased in one step, by a worker that knows
the name: see `know` in the contract.
"""
CHILDREN = """
## A worker or scheduler, as the master knows it

Where a cell is empty, the event leaves the state as it is.
"""


def states() -> Iterator[str]:
    yield STATES
    rows: list[State | None] = [None, *State]
    yield "| what happens \\ state | " + " | ".join(str(row or "unknown") for row in rows) + " |"
    yield "|---" * (len(rows) + 1) + "|"
    for event in JobEvent:
        cells = [
            str(OF_JOBS[row, event] or "unknown") if (row, event) in OF_JOBS else "" for row in rows
        ]
        yield f"| {event} | " + " | ".join(cells) + " |"
    yield CHILDREN
    yield "| what happens \\ state | " + " | ".join(OF_CHILDREN) + " |"
    yield "|---" * (len(OF_CHILDREN) + 1) + "|"
    for change in ChildEvent:
        follows = [str(row.get(change, "")) for row in OF_CHILDREN.values()]
        yield f"| {change} | " + " | ".join(follows) + " |"


PAGES = {"protocol": protocol, "states": states}


def page(name: str) -> str:
    return "\n".join(PAGES[name]()).rstrip() + "\n"


if __name__ == "__main__":
    print(page(sys.argv[1]), end="")  # noqa: T201
