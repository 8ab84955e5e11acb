from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskqd.errors import BadArguments, DecodeError, EncodeError
from taskqd.jobs.codec import CallCodec


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    at: dt.datetime


class Box(msgspec.Struct):
    points: list[Point]


def typed(
    box: Box, path: Path, key: uuid.UUID, price: Decimal, color: Color, raw: bytes, day: dt.date
) -> Box:
    return box


def plain(a, b=2, *rest, c=None, **more):  # type: ignore[no-untyped-def]
    return a


def keyword_only(a: int, *, b: int) -> int:
    return a + b


def round_trip(codec: CallCodec, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    positional, keyword = codec.encode_call(args, kwargs)
    return codec.decode_call(positional, keyword)


def test_annotated_arguments_come_back_as_their_types() -> None:
    codec = CallCodec(typed, "typed")
    when = dt.datetime(2026, 3, 29, 2, 30, tzinfo=dt.UTC)
    given = (
        Box([Point(1, when)]),
        Path("/tmp/a"),
        uuid.uuid4(),
        Decimal("1.10"),
        Color.RED,
        b"\x00\xff",
        dt.date(2026, 1, 2),
    )
    args, kwargs = round_trip(codec, *given)
    assert tuple(args) == given
    assert kwargs == {}


def test_keyword_arguments_come_back_as_their_types() -> None:
    codec = CallCodec(typed, "typed")
    key = uuid.uuid4()
    _, kwargs = round_trip(
        codec,
        Box([]),
        path=Path("x"),
        key=key,
        price=Decimal(1),
        color=Color.RED,
        raw=b"r",
        day=dt.date(2026, 1, 2),
    )
    assert kwargs["path"] == Path("x")
    assert kwargs["key"] == key
    assert kwargs["raw"] == b"r"


def test_unannotated_arguments_come_back_as_json() -> None:
    codec = CallCodec(plain, "plain")
    args, kwargs = round_trip(codec, (1, 2), 3, "rest", c={"x": None}, other=1.5)
    assert list(args) == [[1, 2], 3, "rest"]
    assert kwargs == {"c": {"x": None}, "other": 1.5}


def test_result_is_decoded_by_the_return_annotation() -> None:
    codec = CallCodec(typed, "typed")
    assert codec.decode_result(b'{"points":[]}') == Box([])
    with pytest.raises(DecodeError, match="typed: result"):
        codec.decode_result(b"7")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2), {"b": 3}), ((1,), {}), ((1,), {"c": 1}), ((1,), {"b": 1, "a": 2})],
)
def test_call_that_does_not_fit_the_signature_is_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    codec = CallCodec(keyword_only, "shop.keyword_only")
    with pytest.raises(BadArguments, match=r"shop\.keyword_only\(a: 'int', \*, b: 'int'\)"):
        codec.encode_call(args, kwargs)


def test_value_that_does_not_fit_the_annotation_is_refused_where_it_is_given() -> None:
    codec = CallCodec(keyword_only, "shop.keyword_only")
    with pytest.raises(BadArguments, match="Expected `int`, got `str`"):
        codec.encode_call(("1",), {"b": 2})
    with pytest.raises(BadArguments, match="Expected `int`, got `str`"):
        codec.encode_call((1,), {"b": "2"})


@pytest.mark.parametrize("value", [object(), lambda: 0, {object(): 1}, 1j])
def test_value_without_a_json_form_is_refused_with_its_type(value: Any) -> None:
    with pytest.raises(EncodeError, match="plain: arguments"):
        CallCodec(plain, "plain").encode_call((value,), {})


def test_recursive_value_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError):
        CallCodec(plain, "plain").encode_call((loop,), {})


def test_arguments_of_a_changed_function_are_named_as_not_fitting() -> None:
    codec = CallCodec(keyword_only, "keyword_only")
    assert codec.fits((1,), {"b": 2}) is None
    problem = codec.fits((1,), {"renamed": 2})
    assert problem is not None
    assert "renamed" in problem or "'b'" in problem


def test_unknown_keyword_survives_decoding_so_that_it_can_be_named() -> None:
    codec = CallCodec(keyword_only, "keyword_only")
    _, kwargs = codec.decode_call(b"[1]", b'{"b":2,"gone":3}')
    assert kwargs == {"b": 2, "gone": 3}


@pytest.mark.parametrize("positional", [b"", b"nul", b"[1", b'{"a":1}', b"[" * 5000, b"\xff\xfe"])
def test_damaged_arguments_are_a_decode_error(positional: bytes) -> None:
    codec = CallCodec(keyword_only, "keyword_only")
    if positional:
        with pytest.raises(DecodeError):
            codec.decode_call(positional, None)


def test_context_parameter_is_not_part_of_the_call() -> None:
    def with_context(a: int, job: Any = None) -> int:
        return a

    codec = CallCodec(with_context, "with_context", context=True)
    assert codec.injected == "job"
    with pytest.raises(BadArguments):
        codec.encode_call((1, "job"), {})


def test_annotation_that_cannot_be_resolved_passes_values_as_json() -> None:
    def forward(a: OnlyForTheChecker) -> int:  # type: ignore[name-defined]  # noqa: F821
        return 1

    args, _ = round_trip(CallCodec(forward, "forward"), {"x": 1})
    assert list(args) == [{"x": 1}]
