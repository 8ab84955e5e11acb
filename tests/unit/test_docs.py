"""Pages that run, and pages that are made from the code."""

from __future__ import annotations

import re
from pathlib import Path

from taskqd import events
from taskqd.options import TASK_OPTION_NAMES
from taskqd.signals import HOOKS, SIGNALS

DOCS = Path(__file__).parents[2] / "docs"


def test_every_block_of_the_guide_runs() -> None:
    page = (DOCS / "tasks.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 8
    code = compile("\n".join(blocks), "docs/tasks.md", "exec")
    exec(code, {"__name__": "docs.tasks"})


def test_guide_names_every_option_signal_and_hook() -> None:
    page = (DOCS / "tasks.md").read_text()
    missing = [name for name in (*TASK_OPTION_NAMES, *SIGNALS, *HOOKS) if name not in page]
    assert not missing


def test_table_of_events_is_that_of_the_catalogue() -> None:
    assert (DOCS / "events.md").read_text() == events.page(), "run: python -m taskqd.events"
