"""Durations and sizes, as people write them and as they are shown."""

from __future__ import annotations

import pytest

from taskqd.config.values import duration_s, duration_text, size_bytes, size_text


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (25, 25),
        (0.5, 0.5),
        ("25s", 25),
        ("5m", 300),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("7d", 604800),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert duration_s(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "s", "5 minutes", "5x", "-5s", True, None, float("nan"), float("inf")]
)
def test_what_is_no_duration(written: object) -> None:
    assert duration_s(written) is None


@pytest.mark.parametrize(
    ("written", "count"),
    [
        (1, 1),
        ("512MiB", 512 << 20),
        ("1G", 1 << 30),
        ("1k", 1024),
        ("1kB", 1000),
        ("1.5M", 3 << 19),
        ("64 KiB", 65536),
        ("10b", 10),
    ],
)
def test_sizes(written: object, count: int) -> None:
    assert size_bytes(written) == count


@pytest.mark.parametrize("written", ["", "MiB", "1X", "-1M", True, 1.5, None])
def test_what_is_no_size(written: object) -> None:
    assert size_bytes(written) is None


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (512, "512"), (1024, "1KiB"), (1 << 20, "1MiB"), (1536, "1536")]
)
def test_sizes_are_shown_as_people_write_them(count: int, text: str) -> None:
    assert size_text(count) == text
    assert size_bytes(text if count else 0) == count


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "0.5s"), (90, "90s"), (86400, "1d"), (604800, "1w"), (1.23456, "1.23456s")],
)
def test_durations_are_shown_as_people_write_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
    assert duration_s(text) == seconds
