"""What the annotations of a function say, also where some of them cannot be looked up."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

from taskqd.jobs.annotations import hints_of

if TYPE_CHECKING:
    from datetime import datetime


def thumbnail(path: str, width: Annotated[int, "pixels"], at: datetime | None = None) -> bytes:
    return b""


def test_a_name_that_only_the_type_checker_knows_costs_no_other_annotation() -> None:
    assert hints_of(thumbnail) == {
        "path": str,
        "width": Annotated[int, "pixels"],
        "return": bytes,
    }


def test_annotations_of_a_wrapped_function_are_found_where_it_was_defined() -> None:
    @wraps(thumbnail)
    def wrapped(*args: Any, **kwargs: Any) -> bytes:
        return thumbnail(*args, **kwargs)

    assert hints_of(wrapped) == hints_of(thumbnail)


def test_what_has_no_annotations_has_no_hints() -> None:
    assert hints_of(lambda path: path) == {}
    assert hints_of(print) == {}
