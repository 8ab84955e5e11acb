"""Values as they are written into a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.supervisor.cli.text import cell, plain


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "yes"), (1.50, "1.5"), ([1], "[1]"), ({"a": "b"}, '{"a":"b"}')],
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))))
def test_no_text_reaches_a_terminal_that_it_would_obey(text: str) -> None:
    assert plain(text).isprintable()
