"""Plots as SVG text: bars and lines, nothing else is needed here.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

OWN, OTHERS, INK, GRID = "#1f7a4d", "#9aa7b4", "#28323c", "#d9dfe5"
PALETTE = ("#1f7a4d", "#2f6fb0", "#c0652b", "#7d4fa3", "#8a8d2b", "#b03a5b")
WIDTH, LABEL, ROW, HEAD = 760, 170, 22, 34


class Bar(NamedTuple):
    label: str
    value: float
    own: bool


class Line(NamedTuple):
    label: str
    points: Sequence[tuple[float, float]]


def bars(charts: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Return charts of horizontal bars, one below the other, each with a scale of its own."""
    parts: list[str] = []
    top = 10.0
    for title, rows in charts:
        parts.append(_text(10, top + 16, title, weight="bold"))
        top += HEAD
        longest = max((row.value for row in rows), default=1.0) or 1.0
        for row in rows:
            width = row.value / longest * (WIDTH - LABEL - 110)
            fill = OWN if row.own else OTHERS
            parts.append(_text(LABEL - 8, top + 13, row.label, anchor="end"))
            parts.append(
                f'<rect x="{LABEL}" y="{top}" width="{max(1.0, width):.1f}" height="{ROW - 6}" fill="{fill}"/>'
            )
            parts.append(_text(LABEL + width + 6, top + 13, number(row.value)))
            top += ROW
        top += 14
    return _svg(top, parts)


def lines(title: str, x_name: str, y_name: str, series: Sequence[Line]) -> str:
    """Return one chart of lines; x is logarithmic, y begins at 0."""
    left, right, top, bottom = 70.0, WIDTH - 180.0, 50.0, 320.0
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    low, high, tall = math.log10(min(xs)), math.log10(max(xs)), max(ys) * 1.1 or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log10(x) - low) / ((high - low) or 1.0)
        return left + along * (right - left), bottom - y / tall * (bottom - top)

    parts = [_text(10, 24, title, weight="bold"), _text(left, 44, y_name)]
    parts.append(_text((left + right) / 2, bottom + 38, x_name, anchor="middle"))
    for step in range(5):
        y = tall * step / 4
        _, at = place(min(xs), y)
        parts.append(
            f'<line x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="{GRID}"/>'
        )
        parts.append(_text(left - 6, at + 4, number(y), anchor="end"))
    for x in sorted(set(xs)):
        at, _ = place(x, 0)
        parts.append(_text(at, bottom + 18, number(x), anchor="middle"))
    for index, line in enumerate(series):
        parts += _line(line, PALETTE[index % len(PALETTE)], place, right + 8, top + 18 * index)
    return _svg(bottom + 50, parts)


def _line(line: Line, colour: str, place: object, x: float, y: float) -> Iterable[str]:
    spots = [place(*point) for point in sorted(line.points)]  # type: ignore[operator]
    path = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y in spots)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for at_x, at_y in spots:
        yield f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="3" fill="{colour}"/>'
    yield _text(x, y + 4, line.label, fill=colour)


def number(value: float) -> str:
    """Return a number as one reads it: three digits that count."""
    if value >= 1_000_000:
        return f"{value / 1e6:g}M" if value % 1_000_000 == 0 else f"{value / 1e6:.2f}M"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", fill: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="{fill}">{escape(text)}</text>'
    )


def _svg(height: float, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}"'
        f' font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )
