"""Groups on SQLite: a row for each, and one for each answer."""

from __future__ import annotations

import msgspec

from taskqd.clock import now_ms
from taskqd.jobs.job import Entry
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.entries import add
from taskqd.storage.sqlite.rows.transaction import Transaction

_OPEN = """
INSERT INTO party (space, id, total, callback, until_ms) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING"""
_LEFT = """
SELECT total - (SELECT count(*) FROM reply WHERE space=?1 AND party=?2), total, callback
FROM party WHERE space=?1 AND id=?2 AND until_ms>?3"""
_PUT = "INSERT INTO reply (space, party, number, answer) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_SHORTEN = "UPDATE party SET until_ms=? WHERE space=? AND id=? AND until_ms>?"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class GroupCalls(Base):
    """The contract's calls for the answers of a group's members, until its callback has them."""

    def group_open(
        self, group: str, queue: str, total: int, callback: Entry | None, ttl_s: int
    ) -> bool:
        data = None if callback is None else _encode(callback)

        def body(unit: Transaction) -> bool:
            args = (unit.space, group, total, data, now_ms() + ttl_s * 1000)
            is_new = unit.db.count(_OPEN, args) == 1
            if is_new and not total:
                _call_back(unit, data)
            return is_new

        return self._write(body, grows=True)

    def group_put(self, group: str, queue: str, index: int, answer: bytes) -> int:
        def body(unit: Transaction) -> int:
            left, _, callback = _read(unit, group)
            if left < 0 or not unit.db.count(_PUT, (unit.space, group, index, answer)):
                return left
            if left == 1:
                _call_back(unit, callback)
            return left - 1

        return self._write(body)

    def group_answers(self, group: str, queue: str) -> list[bytes | None]:
        unit = self._reader()
        _, total, _ = _read(unit, group)
        sql = "SELECT number, answer FROM reply WHERE space=? AND party=?"
        answers = dict(unit.db.rows(sql, (unit.space, group))) if total else {}
        return [answers.get(index) for index in range(total)]

    def group_left(self, group: str, queue: str) -> int:
        return _read(self._reader(), group)[0]

    def group_shorten(self, group: str, queue: str, ttl_s: int) -> None:
        until_ms = now_ms() + ttl_s * 1000
        self._write(lambda unit: unit.db.rows(_SHORTEN, (until_ms, unit.space, group, until_ms)))


def _read(unit: Transaction, group: str) -> tuple[int, int, bytes | None]:
    """Return (missing, total, callback) of a group; -1 missing where it is not known."""
    row = unit.db.row(_LEFT, (unit.space, group, now_ms()))
    return (-1, 0, None) if row is None else (row[0], row[1], row[2])


def _call_back(unit: Transaction, callback: bytes | None) -> None:
    if callback is not None:
        add(unit, [_decode(callback)])
