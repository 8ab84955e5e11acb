"""The man pages are those of the commands as they are, and roff has nothing to complain of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from taskqd.supervisor.ctl.manual import PAGES, commands, escape, render

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_pages_in_the_repository_are_current(name: str) -> None:
    made = render(PAGES[name], commands()[name])
    assert (ROOT / f"docs/man/{name}.1").read_text() == made, (
        f"python -m taskqd.supervisor.ctl.manual {name} > docs/man/{name}.1"
    )


def test_every_command_and_its_options_are_in_the_page() -> None:
    page = render(PAGES["taskqctl"], commands()["taskqctl"])
    for heading in ("status", "queue pause NAME", "dead show ID", "doctor", "top"):
        assert f"\n.SS {escape(heading)}\n" in page
    assert f"\\fB{escape('--pod-grace S')}\\fR" in page
    assert page.count(f"\\fB{escape('--namespace NAME')}\\fR") == 1


def test_what_roff_would_obey_is_escaped() -> None:
    assert escape(".TH\\n -x") == "\\&.TH\\en \\-x"


@pytest.mark.parametrize("name", sorted(PAGES))
@pytest.mark.parametrize("checker", [["groff", "-man", "-ww", "-z"], ["mandoc", "-T", "lint"]])
def test_roff_has_nothing_to_complain_of(checker: list[str], name: str) -> None:
    if shutil.which(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed")
    done = subprocess.run(
        [*checker, ROOT / f"docs/man/{name}.1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
