"""The documentation shows the catalogue of keys as it is."""

from __future__ import annotations

from pathlib import Path

from taskqd.config.table import markdown

ROOT = Path(__file__).parents[3]


def test_the_documentation_shows_the_catalogue() -> None:
    shown = (ROOT / "docs" / "configuration.md").read_text()
    assert markdown() in shown, "put taskqd.config.table.markdown() into docs/configuration.md"
