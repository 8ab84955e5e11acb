"""Letters of unknown tasks: given up in an order that a death in between does not break."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from taskqd.errors import StorageUnavailable
from taskqd.execution.protocols import JobView
from taskqd.jobs import parked
from taskqd.logs.setup import configure
from taskqd.storage.features import Letter, Parked
from taskqd.worker.scheduler.parked_jobs import ParkedJobs

DEAD = "dead job0 lost unknown"
SILENT = configure(role="test", level="critical")


class Letters:
    """A storage with letters of one unknown task."""

    def __init__(self, *waited_s: float, held: bool = True) -> None:
        self.letters = [Letter(f"job{n}", b"", age_s) for n, age_s in enumerate(waited_s)]
        self.label = parked.label_of("lost", held=held)
        self.calls: list[str] = []
        self.others_were_first = False

    def parked(self, _queues: list[str]) -> list[Parked]:
        oldest_s = max(letter.waited_s for letter in self.letters)
        return [Parked("q", self.label, len(self.letters), oldest_s)]

    def parked_letters(self, _queue: str, _label: str, _limit: int) -> list[Letter]:
        return self.letters

    def relabel(self, _queue: str, job_ids: list[str], label: str) -> list[str]:
        self.calls += [f"{label or 'leave'} {job_id}" for job_id in job_ids]
        self.label = label or self.label
        return [] if self.others_were_first else job_ids


class Followers(ParkedJobs):
    """Notes for which letters the followers are told; `fails` times it cannot."""

    def __init__(self, storage: Letters, fails: int = 0) -> None:
        app: Any = SimpleNamespace(registry={})
        super().__init__(app, 10.0, self._note)
        self._storage = storage
        self._fails = fails

    def _note(self, signal: str, job: JobView) -> None:
        self._storage.calls.append(f"{signal} {job.id} {job.task} {job.reason}")

    def _tell_followers(self, row: Parked, letter: Letter, storage: Any) -> None:
        if self._fails:
            self._fails -= 1
            raise StorageUnavailable("away")
        self._storage.calls.append(f"tell {letter.id}")


def look(jobs: ParkedJobs, storage: Any) -> None:
    jobs.look(storage, "n", ["q"], SILENT)


def test_a_letter_is_left_dead_only_after_its_followers_are_told() -> None:
    storage = Letters(11.0)
    jobs = Followers(storage, fails=1)
    with pytest.raises(StorageUnavailable):
        look(jobs, storage)
    assert storage.calls == []
    look(jobs, storage)
    assert storage.calls == ["tell job0", "leave job0", DEAD]


def test_a_letter_whose_patience_lasts_is_not_given_up() -> None:
    storage = Letters(11.0, 9.0)
    look(Followers(storage), storage)
    assert storage.calls == ["tell job0", "leave job0", DEAD]


def test_a_job_that_nobody_knows_is_told_dead_once() -> None:
    storage = Letters(1e6, held=False)
    jobs = Followers(storage)
    for _ in range(3):
        look(jobs, storage)
    assert storage.calls == ["!lost job0", DEAD], "it waits without end, and is told dead no more"


@pytest.mark.parametrize("held", [False, True])
def test_a_job_that_another_scheduler_has_told_dead_is_not_told_again(held: bool) -> None:
    storage = Letters(1e6, held=held)
    storage.others_were_first = True
    look(Followers(storage), storage)
    assert DEAD not in storage.calls
