"""What the documents at the root point to exists: links, files and tests by name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
TEST = re.compile(r"`(tests/[\w/]+(?:\.py)?)(?:::(\w+))?/?`")
CODE = re.compile(
    r"(?<![\w/.])((?:supervisor|worker|taskqd|config)/[\w/.]+\.(?:py|lua|sql|toml))\b"
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def _id(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_links_lead_somewhere(document: Path) -> None:
    targets = LINK.findall(document.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (document.parent / target).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_tests_that_are_named_exist(document: Path) -> None:
    for path, name in TEST.findall(document.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path
        assert f"def {name}(" in (ROOT / path).read_text() if name else True, f"{path}::{name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_files_that_are_named_exist(document: Path) -> None:
    if document.name != "CHANGELOG.md":  # it tells of the past
        named = set(CODE.findall(document.read_text(encoding="utf-8")))
        assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", ["protocol", "states"])
def test_pages_of_the_internals_are_those_of_the_code(page: str) -> None:
    made = ["docs/internals/made.py", page]
    done = subprocess.run([sys.executable, *made], cwd=ROOT, capture_output=True, check=True)
    kept = (ROOT / f"docs/internals/{page}.md").read_bytes()
    assert done.stdout == kept, f"python {' '.join(made)} > docs/internals/{page}.md"


def test_what_happens_when_a_worker_dies_is_told_in_ten_files_at_most() -> None:
    page = (ROOT / "docs/internals/recovery.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\| \d+ \| .* \| (.*) \|$", page, re.MULTILINE)
    assert 8 <= len(steps) <= 10
    for step in steps:
        assert CODE.search(step), step


def test_every_promise_but_those_not_built_names_its_tests() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (P\d+) \|.*\| (.*) \|$", readme, re.MULTILINE)
    assert [name for name, _ in rows] == [f"P{number}" for number in range(1, 11)]
    for name, where in rows:
        assert "tests/" in where or "benchmarks" in where or where == "not built yet", name


def test_each_of_the_28_features_of_the_supervisor_names_a_test_of_its_own_processes() -> None:
    page = (ROOT / "docs/features.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 29))
    for number, feature, ours, proof in rows:
        assert feature, number
        assert ours, number
        named = TEST.findall(proof)
        assert all(name for _, name in named), number
        assert any(not path.startswith("tests/unit/") for path, _ in named), number
