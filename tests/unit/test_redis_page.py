"""docs/internals/redis.md is what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = runpy.run_path(str(ROOT / "docs/internals/redis_page.py"))


def test_the_page_of_keys_and_scripts_is_made_from_the_code() -> None:
    page = (ROOT / "docs/internals/redis.md").read_text("utf-8")
    assert page == MADE["page"](), "python docs/internals/redis_page.py > docs/internals/redis.md"


def test_every_script_is_on_the_page() -> None:
    folders = {folder.name for folder in MADE["LUA"].iterdir() if folder.is_dir()}
    assert folders == {*MADE["SECTIONS"], "parts"}


def test_every_script_tells_what_it_does_and_takes() -> None:
    for file in MADE["LUA"].glob("*/*.lua"):
        if file.parent.name != "parts":
            head = file.read_text("utf-8").splitlines()[:40]
            assert head[0].startswith("-- uses: "), file.name
            assert head[1].startswith("-- "), file.name
            assert any(line.startswith("-- KEYS[1]") for line in head), file.name
