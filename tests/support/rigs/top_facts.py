"""Facts of a daemon as `taskqctl top` gets them."""

from __future__ import annotations

from typing import Any


def worker(number: int, **facts: Any) -> dict[str, Any]:
    return {
        "worker": number,
        "id": f"n.{number}",
        "pid": 100 + number,
        "state": "ready",
        "generation": 1,
        "storage_error": "",
        "jobs": {"done": 0},
        "running": [],
        "cpu_s": 1.0,
        "pss_bytes": 10_000_000,
        **facts,
    }


def facts(*workers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "pid": 1,
        "instance": "shop",
        "state": "ready",
        "uptime_s": 70.0,
        "generation": 1,
        "storage": {"url": "memory://", "error": ""},
        "seconds_left": None,
        "wanted": len(workers),
        "ready": len(workers),
        "busy": 0,
        "jobs": {"done": 0, "failed": 0, "retried": 0},
        "scheduler": {**worker(99), "id": "n.s"},
        "workers": list(workers),
        "depths": [],
        **changes,
    }


def depth(queue: str, **counts: Any) -> dict[str, Any]:
    empty = {"queued": 0, "scheduled": 0, "running": 0, "dead": 0, "paused": False}
    return {"queue": queue, **empty, **counts}
