"""The heavy app behind WSGI: `gunicorn benchmarks.sides.heavy_wsgi:app`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks.sides import heavy


def app(_environ: object, start: Callable[..., object]) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(heavy.touch()).encode()]
