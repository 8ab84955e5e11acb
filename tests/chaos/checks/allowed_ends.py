"""What each kind of job may come to; see workload.py."""

from __future__ import annotations

DEATHS: dict[str, set[str]] = {
    "doomed": {"failed"}, "rude": {"failed"}, "killer": {"poisoned"}, "once": {"lost"},
    "fragile": {"poisoned"},
    "overdue": {"poisoned", "timeout"},
}  # fmt: skip
"""Kind of job -> the reasons for which it may be dead; other kinds never are."""
FATAL = {"doomed", "rude", "killer"}
"""Kinds that can only end dead."""
DOOMED_FAILURES = 3
MAX_CRASHES = 3
