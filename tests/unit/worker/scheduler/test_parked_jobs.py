"""Letters of unknown tasks: given up in an order that a death in between does not break."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from taskqd.errors import StorageUnavailable
from taskqd.jobs import parked
from taskqd.logs.setup import configure
from taskqd.storage.features import Letter, Parked
from taskqd.worker.scheduler.parked_jobs import ParkedJobs

SILENT = configure(role="test", level="critical")


class Letters:
    """A storage with letters of one unknown task."""

    def __init__(self, *waited_s: float, held: bool = True) -> None:
        self.letters = [Letter(f"job{n}", b"", age_s) for n, age_s in enumerate(waited_s)]
        self.label = parked.label_of("lost", held=held)
        self.calls: list[str] = []

    def parked(self, _queues: list[str]) -> list[Parked]:
        oldest_s = max(letter.waited_s for letter in self.letters)
        return [Parked("q", self.label, len(self.letters), oldest_s)]

    def parked_letters(self, _queue: str, _label: str, _limit: int) -> list[Letter]:
        return self.letters

    def leave_dead(self, _queue: str, job_ids: list[str]) -> int:
        self.calls += [f"leave {job_id}" for job_id in job_ids]
        return len(job_ids)


class Followers(ParkedJobs):
    """Notes for which letters the followers are told; `fails` times it cannot."""

    def __init__(self, storage: Letters, fails: int = 0) -> None:
        app: Any = SimpleNamespace(registry={})
        super().__init__(app, 10.0, lambda _signal, _job: None)
        self._storage = storage
        self._fails = fails

    def _tell_followers(self, row: Parked, letter: Letter) -> None:
        if self._fails:
            self._fails -= 1
            raise StorageUnavailable("away")
        self._storage.calls.append(f"tell {letter.id}")


def look(jobs: ParkedJobs, storage: Any) -> None:
    jobs.look(storage, ["q"], SILENT)


def test_a_letter_is_left_dead_only_after_its_followers_are_told() -> None:
    storage = Letters(11.0)
    jobs = Followers(storage, fails=1)
    with pytest.raises(StorageUnavailable):
        look(jobs, storage)
    assert storage.calls == []
    look(jobs, storage)
    assert storage.calls == ["tell job0", "leave job0"]


def test_a_letter_whose_patience_lasts_is_not_given_up() -> None:
    storage = Letters(11.0, 9.0)
    look(Followers(storage), storage)
    assert storage.calls == ["tell job0", "leave job0"]


def test_a_letter_that_nothing_follows_waits_without_end() -> None:
    storage = Letters(1e6, held=False)
    look(Followers(storage), storage)
    assert storage.calls == []
