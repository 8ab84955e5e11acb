"""The checks of the storage: its warnings, its clock, its file and its nodes' names.  Pure."""

from __future__ import annotations

import posixpath

from .facts import Facts, Finding, Found

SKEW_WARN_S, SKEW_FAIL_S = 1.0, 10.0
FREE_WARN_BYTES, FREE_FAIL_BYTES = 500_000_000, 50_000_000


def check_storage(facts: Facts) -> Found:
    store = facts.store
    if store is None:
        return None
    if store.error:
        return Finding("storage", "fail", store.error, "start it, or correct storage.url")
    if store.warnings:
        return Finding("storage", "warn", "; ".join(store.warnings), "see docs/redis.md, sqlite.md")
    return Finding("storage", "ok", f"{store.url} serves")


def check_clock(facts: Facts) -> Found:
    store = facts.store
    if store is None or store.error:
        return None
    skew_s = max(0.0, abs(store.skew_s) - store.doubt_s)
    text = f"the storage's clock is {abs(store.skew_s):.2f} s {'ahead' if store.skew_s > 0 else 'behind'}"
    remedy = (
        "let both hosts keep time (chrony, systemd-timesyncd): delays are counted by one of them"
    )
    if skew_s > SKEW_FAIL_S:
        return Finding("clock", "fail", text, remedy)
    if skew_s > SKEW_WARN_S:
        return Finding("clock", "warn", text, remedy)
    return Finding(
        "clock", "ok", f"this host and the storage agree to {skew_s + store.doubt_s:.2f} s"
    )


def check_file(facts: Facts) -> Found:
    file = facts.store.file if facts.store else None
    if file is None:
        return None
    folder = posixpath.dirname(file.path)
    if file.network:
        text = f"{file.path} is on {file.file_system}, where SQLite's locks lose jobs"
        return Finding("file", "fail", text, "put it on a local disk, or use redis://")
    if file.free_bytes < FREE_FAIL_BYTES:
        text = f"{folder}: {file.free_bytes / 1e6:.0f} MB left; writes will be refused"
        return Finding("file", "fail", text, "make room")
    if not file.wal:
        text = f"{file.path} is not in WAL mode: readers and writers block each other"
        return Finding(
            "file", "warn", text, "open it with taskqd once; let no tool change the mode"
        )
    if file.free_bytes < FREE_WARN_BYTES:
        return Finding(
            "file", "warn", f"{folder}: {file.free_bytes / 1e6:.0f} MB left", "make room"
        )
    if file.synchronous != "full":
        text = f"synchronous={file.synchronous}: a power cut may lose the last jobs enqueued"
        return Finding("file", "warn", text, 'leave it out, or set storage.durability = "local"')
    return Finding("file", "ok", f"WAL, synchronous=full, {file.free_bytes / 1e9:.1f} GB left")


def check_name(facts: Facts) -> Found:
    store = facts.store
    if store is None or store.error:
        return None
    if store.namesakes:
        text = f"several living nodes of one name: {', '.join(store.namesakes)}"
        remedy = "give each daemon on a host its own --name; a rolling restart passes by itself"
        return Finding("name", "warn", text, remedy)
    return Finding("name", "ok", "no two daemons share a name")
