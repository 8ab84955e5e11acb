"""The file: what is refused, with which words, and that nothing foreign is ever touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from taskqd.clock import now_ms
from taskqd.errors import ConfigError, StorageCorrupt, StorageRefused
from taskqd.storage import namespaces, open_storage
from taskqd.storage.sqlite import SqliteStorage
from taskqd.storage.sqlite.file import disk
from tests.support.rigs.rig import Rig, entry


def _rig(path: Path, namespace: str = "app") -> Rig:
    return Rig(open_storage(f"sqlite:///{path}?synchronous=normal", namespace))


def test_a_missing_file_is_made_and_kept(tmp_path: Path) -> None:
    rig = _rig(tmp_path / "a.db")
    rig.put("a")
    rig.storage.close()
    again = _rig(tmp_path / "a.db")
    assert again.states() == {"a": "queued"}


def test_a_relative_path_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("sqlite:///jobs.db", "app")
    assert (tmp_path / "jobs.db").exists()
    monkeypatch.chdir("/")
    Rig(storage).put("a")
    assert _rig(tmp_path / "jobs.db").states() == {"a": "queued"}


def test_the_namespaces_of_a_relative_path_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for first by `taskqctl queue ls`, which failed on the default storage."""
    monkeypatch.chdir(tmp_path)
    Rig(open_storage("sqlite:///jobs.db", "shop")).put("a")
    assert namespaces("sqlite:///jobs.db") == ["shop"]


def test_an_empty_file_becomes_a_storage(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    assert _rig(tmp_path / "a.db").put("a") == [True]


def test_new_files_are_private_to_owner_and_group(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        _rig(tmp_path / "a.db").put("a")
    finally:
        os.umask(old)
    for name in ("a.db", "a.db-wal", "a.db-shm", "a.db-reserve"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640, name


def test_one_file_holds_many_namespaces(tmp_path: Path) -> None:
    one, two = _rig(tmp_path / "a.db", "one"), _rig(tmp_path / "a.db", "two")
    one.put("a")
    two.put("a")
    two.put("b", queue="only-two")
    assert (one.states(), len(two.states())) == ({"a": "queued"}, 2)
    assert one.storage.purge_queue("q") == 1
    assert two.storage.recover_node("n", ["q"]) == []
    assert one.storage.heartbeat("n", ["q"], 10) is True
    assert two.storage.heartbeat("n", ["q"], 10) is False


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match="is a folder"):
        _rig(tmp_path)


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match=r"the folder .*/nowhere does not exist"):
        _rig(tmp_path / "nowhere" / "a.db")


def test_what_is_no_database_is_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 500)
    before = path.read_bytes()
    with pytest.raises(StorageCorrupt, match="not a database"):
        _rig(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE customer (name); INSERT INTO customer VALUES ('Ada')")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StorageCorrupt, match="something else"):
        _rig(path)
    assert path.read_bytes() == before


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    _rig(path).storage.close()
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version=999")
    db.close()
    with pytest.raises(StorageRefused, match="layout 999"):
        _rig(path)


def test_a_truncated_file_is_corrupt_and_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    rig = _rig(path)
    rig.put(*(f"j{number}" for number in range(2000)))
    rig.storage.close()
    os.truncate(path, 8192)
    with pytest.raises(StorageCorrupt, match="damaged"):
        _rig(path)
    assert path.stat().st_size == 8192


def test_damaged_pages_are_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    rig = _rig(path)
    rig.put(*(f"j{number}" for number in range(2000)))
    rig.storage.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with pytest.raises(StorageCorrupt, match="damaged"):
        _rig(path).lease(10)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="tq-files-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_cannot_be_written_is_refused(open_folder: Path, what: str) -> None:
    folder = open_folder / "f"
    folder.mkdir()
    path = folder / "a.db"
    if what == "file":
        _rig(path).storage.close()
        path.chmod(0o444)
    folder.chmod(0o555)
    message = _refusal_for_nobody(path)
    assert "StorageRefused" in message
    assert "give this user the right" in message


def _refusal_for_nobody(path: Path) -> str:
    """Open in a child of another user, because root may write everything."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            open_storage(f"sqlite:///{path}", "app")
        except Exception as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as file:
        return file.read()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_mounts", lambda: [("/", "ext4"), (str(tmp_path), "nfs4")])
    with pytest.raises(StorageRefused, match=r"network file system \(nfs4\)"):
        _rig(tmp_path / "a.db")
    assert not (tmp_path / "a.db").exists()


def test_a_doubtful_file_system_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_mounts", lambda: [("/", "ext4"), (str(tmp_path), "fuse.mergerfs")])
    assert any("fuse.mergerfs" in text for text in _rig(tmp_path / "a.db").storage.warnings())


def test_the_file_system_of_this_machine_is_known(tmp_path: Path) -> None:
    assert disk.file_system("/proc/self/status") == "proc"
    assert disk.file_system(str(tmp_path / "a.db")) not in {"", "proc"}


def test_durability_chooses_synchronous(tmp_path: Path) -> None:
    def level(url: str, durability: object = None) -> int:
        storage = open_storage(url, "app", durability=durability)  # type: ignore[arg-type]
        assert isinstance(storage, SqliteStorage)
        row = storage._db.row("PRAGMA synchronous")
        storage.close()
        assert row is not None
        return int(row[0])

    url = f"sqlite:///{tmp_path}/a.db"
    full, normal = 2, 1
    assert level(url) == full
    assert level(url, "local") == full
    assert level(url, "memory") == normal
    assert level(f"{url}?synchronous=normal") == normal
    assert level(f"{url}?synchronous=full", "memory") == full


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://jobs.db", "expected sqlite:///relative.db"),
        ("sqlite:///", "expected sqlite:///relative.db"),
        ("sqlite:///a.db?synchronous=off", "expected full or normal"),
        ("sqlite:///a.db?syncronous=full", "unknown option 'syncronous'"),
        ("sqlite:///a.db?max_mb=many", "expected a number above 0"),
        ("mongodb://x", "known are memory://, sqlite:///relative.db"),
        ("jobs.db", "unknown kind"),
    ],
)
def test_a_wrong_url_says_what_is_right(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        open_storage(url, "app")


def test_a_connection_does_not_cross_a_fork(tmp_path: Path) -> None:
    rig = _rig(tmp_path / "a.db")
    rig.put("a")
    child = os.fork()
    if child == 0:
        try:
            ok = rig.put("b") == [True] and rig.storage.job("a") is not None
            rig.storage.close()
            os._exit(0 if ok else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    rig.put("c")
    assert rig.order() == ["a", "b", "c"]


def test_reopening_by_many_processes_at_once_makes_one_storage(tmp_path: Path) -> None:
    code = (
        "import sys; from taskqd.storage import open_storage\n"
        f"print(open_storage('sqlite:///{tmp_path}/a.db', 'app' + sys.argv[1]).epoch())\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(4)
    ]
    results = [child.communicate(timeout=100) for child in children]
    assert [error for _, error in results if error] == []
    assert len({epoch for epoch, _ in results}) == 1


def test_a_file_that_disappears_is_not_mistaken_for_an_empty_one(tmp_path: Path) -> None:
    rig = _rig(tmp_path / "a.db")
    rig.storage.enqueue([entry("a")])
    epoch = rig.storage.epoch()
    for name in ("a.db", "a.db-wal", "a.db-shm"):
        (tmp_path / name).unlink()
    assert _rig(tmp_path / "a.db").storage.epoch() != epoch


def test_a_file_of_an_earlier_build_is_completed_and_serves_both(tmp_path: Path) -> None:
    """Places of locks did not know their length: the column is added, and may be left empty."""
    path = tmp_path / "a.db"
    SqliteStorage(str(path), "app").close()
    with closing(apsw.Connection(str(path))) as earlier:
        earlier.execute("ALTER TABLE place DROP COLUMN ttl_ms")
        with closing(SqliteStorage(str(path), "app")) as storage:
            assert storage.lock("new", "client:1", ttl_s=60) is not None
            earlier.execute(
                "INSERT INTO place (space, name, owner, worker, token, until_ms) "
                "SELECT id, 'old', 'client:2', '', 7, ? FROM space",
                (now_ms() + 60_000,),
            )
            assert storage.lock("old", "client:1", ttl_s=60) is None
            left = {row.name: row.expires_in_s or 0 for row in storage.locks()}
            assert sorted(left) == ["new", "old"]
            assert all(30 < left_s <= 60 for left_s in left.values())
            assert storage.renew_lock("old", "client:2", 120)
