"""Files that change."""

from __future__ import annotations

from taskqd.supervisor.host.file_watcher import GONE_S, SETTLE_S, FileWatcher, Mark

OLD, NEW = Mark(1, 10, 100), Mark(2, 10, 100)


OLD, NEW = Mark(1, 10, 100), Mark(2, 10, 100)


def watched(**marks: Mark | None) -> tuple[FileWatcher, dict[str, Mark | None]]:
    files = dict(marks)
    sources = FileWatcher(files.get)
    sources.add(files)
    return sources, files


def told(
    sources: FileWatcher, until_s: float, from_s: float = 0.0
) -> list[tuple[float, list[str]]]:
    """Look ten times a second; return what was told, and when."""
    times = [from_s + tick / 10 for tick in range(round((until_s - from_s) * 10))]
    answers = [(time, sources.changed(time)) for time in times]
    return [answer for answer in answers if answer[1]]


def test_nothing_is_told_of_files_that_stay_as_they_are() -> None:
    sources, _files = watched(a=OLD, b=None)
    assert told(sources, 10) == []


def test_a_file_with_another_inode_has_changed_although_size_and_time_are_the_same() -> None:
    sources, files = watched(a=OLD, b=OLD)
    files["a"] = NEW
    assert [names for _when, names in told(sources, 5)] == [["a"]]


def test_a_burst_of_changes_is_told_once_when_it_is_over() -> None:
    sources, files = watched(a=OLD, b=OLD)
    found = []
    for number in range(20):
        files["a"] = Mark(1, number, 0)
        found += told(sources, (number + 1) * 0.2, number * 0.2)
    files["b"] = NEW
    ((when, names),) = [*found, *told(sources, 9, 4)]
    assert (sorted(names), when >= 4 + SETTLE_S) == (["a", "b"], True)


def test_a_file_that_is_away_while_an_editor_replaces_it_is_one_change() -> None:
    sources, files = watched(a=OLD)
    files["a"] = None
    assert told(sources, GONE_S - 0.5) == []
    files["a"] = NEW
    assert len(told(sources, 9, GONE_S - 0.5)) == 1


def test_a_file_that_stays_away_is_a_change_and_so_is_its_return() -> None:
    sources, files = watched(a=OLD)
    files["a"] = None
    assert len(told(sources, 9)) == 1
    files["a"] = OLD
    assert len(told(sources, 18, 9)) == 1
