"""Pages that run, pages that are made from the code, and tests that pages name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from taskqd.jobs.options import TASK_OPTION_NAMES
from taskqd.listeners import HOOKS, SIGNALS
from taskqd.logs import events

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
_NAMED = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def _blocks(page: Path) -> list[str]:
    return _BLOCK.findall(page.read_text())


@pytest.mark.parametrize(
    "page", [p for p in PAGES if _blocks(p) and p.parent != ROOT], ids=lambda p: p.stem
)
def test_every_block_of_a_page_runs(page: Path) -> None:
    code = compile("\n".join(_blocks(page)), str(page), "exec")
    exec(code, {"__name__": f"docs.{page.stem.replace('-', '_')}"})


@cache
def _functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_test_that_a_page_names_exists() -> None:
    named = {
        (str(page.relative_to(ROOT)), path, name)
        for page in PAGES
        for path, name in _NAMED.findall(page.read_text())
    }
    assert len(named) > 40
    missing = [
        f"{page}: {path}::{name}"
        for page, path, name in sorted(named)
        if not (ROOT / path).exists() or name not in _functions(path)
    ]
    assert not missing, "\n".join(missing)


def test_every_link_to_a_file_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken, "\n".join(broken)


def test_guide_names_every_option_signal_and_hook() -> None:
    page = (DOCS / "tasks.md").read_text()
    missing = [name for name in (*TASK_OPTION_NAMES, *SIGNALS, *HOOKS) if name not in page]
    assert not missing


def test_table_of_events_is_that_of_the_catalogue() -> None:
    assert (DOCS / "events.md").read_text() == events.page(), "run: python -m taskqd.logs.events"


def test_reference_is_that_of_the_code() -> None:
    made = subprocess.run(
        [sys.executable, "docs/reference.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (DOCS / "reference.md").read_text()
    assert page == made.stdout, "run: python docs/reference.py > docs/reference.md"
