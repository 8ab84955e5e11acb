"""The zygote with the test as its master: what it says, what it forks, and how its children live."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqd.ipc.messages import (
    Booted,
    BootFailed,
    Drain,
    Drained,
    Exit,
    Forked,
    Loaded,
    LoadFailed,
    Quiet,
    Ready,
    Role,
    StorageLost,
    Unsafe,
    encode,
)
from taskqd.settings import Settings, StorageSettings
from tests.support.descriptors import links_of
from tests.support.rigs.zygote_rig import Child, Gone, ZygoteRig
from tests.support.servers.storages import Backend, open_backend
from tests.support.waiting import HANG_S, wait_until

APP = """
    from taskqd import App
    app = App("shop")

    @app.task(name="add", queue="sums")
    def add(a: int, b: int) -> int:
        return a + b
"""


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with open_backend("redis", tmp_path_factory.mktemp("redis")) as opened:
        yield opened


def write(folder: Path, source: str = APP) -> None:
    (folder / "shop.py").write_text(textwrap.dedent(source))


def settings(url: str = "memory://", app: str = "shop:app", **fields: object) -> Settings:
    return Settings(app=app, storage=StorageSettings(url=url), **fields)  # type: ignore[arg-type]


def load(folder: Path, app: str = "shop:app") -> LoadFailed:
    with ZygoteRig(settings(app=app), folder) as rig:
        failed = rig.hear(LoadFailed)
        assert rig.process.wait(HANG_S) == 78
        return failed


def booted(rig: ZygoteRig, **spawn: int) -> Child:
    child = rig.spawn(**spawn)
    child.pid = rig.hear(Forked).pid
    child.hear(Booted)
    return child


# -- loading ------------------------------------------------------------------------------------


def test_the_zygote_tells_what_it_has_loaded(tmp_path: Path) -> None:
    write(tmp_path)
    with ZygoteRig(settings("redis://:secret@127.0.0.1:1/0"), tmp_path) as rig:
        loaded = rig.hear(Loaded)
    assert loaded.app_name == "shop"
    assert loaded.tasks == 1
    assert loaded.queues == ("sums",)
    assert "secret" not in loaded.storage_url


def test_a_module_that_is_not_there_is_one_line_with_the_path_tried(tmp_path: Path) -> None:
    failed = load(tmp_path, "nowhere:app")
    assert failed.step == "import"
    assert "nowhere" in failed.error
    assert "\n" not in failed.error
    assert failed.traceback == ""


def test_an_error_of_the_users_module_comes_with_its_place(tmp_path: Path) -> None:
    write(tmp_path, "import json\n\nvalue = json.loads('nonsense')\n")
    failed = load(tmp_path)
    assert failed.error.startswith("JSONDecodeError:")
    assert 'shop.py", line 3' in failed.traceback


def test_a_module_that_calls_exit_is_an_error_too(tmp_path: Path) -> None:
    write(tmp_path, "raise SystemExit('no configuration')\n")
    assert load(tmp_path).error == "SystemExit: no configuration"


def test_what_a_fork_would_break_is_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        APP
        + """
    import socket, threading
    threading.Thread(target=threading.Event().wait, name="metrics-pusher", daemon=True).start()
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    """,
    )
    with ZygoteRig(settings(), tmp_path) as rig:
        rig.hear(Loaded)
        unsafe = rig.hear(Unsafe)
    assert not unsafe.forks
    assert "thread metrics-pusher" in unsafe.offenders
    assert any("connected to ('127.0.0.1'" in name for name in unsafe.offenders)


def test_the_context_is_hidden_from_user_code(tmp_path: Path) -> None:
    write(tmp_path, APP + "\n    import os\n    assert 'TASKQD_CHILD_CONTEXT' not in os.environ\n")
    with ZygoteRig(settings(), tmp_path) as rig:
        rig.hear(Loaded)


# -- forking ------------------------------------------------------------------------------------


def test_children_become_the_masters_own_in_sessions_of_their_own(tmp_path: Path) -> None:
    write(tmp_path)
    with ZygoteRig(settings(), tmp_path) as rig:
        rig.hear(Loaded)
        child = booted(rig)
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[1]) == os.getpid()
        assert os.getsid(child.pid) == child.pid
        assert os.getsid(rig.process.pid) == rig.process.pid


def test_a_child_keeps_no_channel_of_the_zygote_or_of_its_siblings(tmp_path: Path) -> None:
    write(tmp_path)
    with ZygoteRig(settings(), tmp_path) as rig:
        rig.hear(Loaded)
        first, second = booted(rig, number=0), booted(rig, number=1)
        pids = (first.pid, second.pid, rig.process.pid)
        # Each closes what it does not need as it starts.
        wait_until(lambda: [len(_sockets(pid)) for pid in pids] == [1, 1, 1], "a socket each")
        assert len(set.union(*map(_sockets, pids))) == 3


def _sockets(pid: int) -> set[str]:
    return {link for link in links_of(pid).values() if link.startswith("socket:")}


def test_children_live_on_when_the_zygote_is_killed(tmp_path: Path, backend: Backend) -> None:
    write(tmp_path)
    with ZygoteRig(settings(backend.url), tmp_path) as rig:
        rig.hear(Loaded)
        scheduler, worker = _serving(rig)
        rig.process.kill()
        rig.process.wait()
        worker.tell(Drain(5))
        worker.hear(Drained)
        assert worker.wait() == 0
        scheduler.kill()
        assert scheduler.wait() == -signal.SIGKILL


def _serving(rig: ZygoteRig) -> tuple[Child, Child]:
    scheduler = rig.spawn("scheduler")
    scheduler.pid = rig.hear(Forked).pid
    scheduler.hear(Ready)
    worker = booted(rig)
    worker.hear(Ready)
    return scheduler, worker


@pytest.mark.parametrize("how", ["exit", "end of file"])
def test_the_zygote_leaves_when_told_or_when_its_master_is_gone(tmp_path: Path, how: str) -> None:
    write(tmp_path)
    with ZygoteRig(settings(), tmp_path) as rig:
        rig.hear(Loaded)
        if how == "exit":
            rig.socket.send(encode(Exit()))
        else:
            rig.socket.shutdown(2)
        assert rig.process.wait(HANG_S) == 0


def test_signals_of_the_terminal_reach_neither_zygote_nor_child(tmp_path: Path) -> None:
    write(tmp_path, "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + APP.strip())
    (tmp_path / "shop.py").write_text(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + textwrap.dedent(APP)
    )
    with ZygoteRig(settings(), tmp_path) as rig:
        rig.hear(Loaded)
        child = booted(rig)
        os.kill(rig.process.pid, signal.SIGINT)
        child.kill(signal.SIGINT)
        again = booted(rig, number=1)
        # TERM drains, although the user's module had it ignored.
        for one in (child, again):
            one.kill(signal.SIGTERM)
            one.hear(Drained)
            assert one.wait() == 0


def test_stacks_are_written_on_request(tmp_path: Path) -> None:
    write(tmp_path)
    with ZygoteRig(settings(), tmp_path) as rig:
        rig.hear(Loaded)
        child = booted(rig)
        child.kill(signal.SIGUSR1)
        wait_until(lambda: "worker/main.py" in child.stacks(), "stacks")


@pytest.mark.parametrize("role", ["worker", "scheduler"])
@pytest.mark.parametrize("how", ["message", "signal"])
def test_a_child_that_waits_for_its_storage_ends_when_told(
    tmp_path: Path, role: Role, how: str
) -> None:
    write(tmp_path)
    with ZygoteRig(settings(f"unix://{tmp_path}/nobody"), tmp_path) as rig:
        rig.hear(Loaded)
        child = rig.spawn(role)
        child.pid = rig.hear(Forked).pid
        child.hear(StorageLost)
        if how == "message":
            child.tell(Quiet())
            child.tell(Drain(5))
        else:
            child.kill(signal.SIGTERM)
        child.hear(Drained)
        assert child.wait() == 0


def test_a_storage_that_refuses_is_told_before_the_child_leaves(tmp_path: Path) -> None:
    write(tmp_path)
    with ZygoteRig(settings("sqlite:////proc/version"), tmp_path) as rig:
        rig.hear(Loaded)
        child = booted(rig)
        failed = child.hear(BootFailed)
        assert failed.step == "storage"
        assert "/proc/version" in failed.error
        assert child.wait() == 70
        with pytest.raises(Gone):
            child.hear(Ready)


@pytest.mark.parametrize("hook", ["on_startup", "after_fork"])
def test_a_worker_whose_hook_raises_does_not_boot_and_names_the_step(
    tmp_path: Path, hook: str
) -> None:
    write(
        tmp_path,
        textwrap.dedent(APP)
        + f"@app.{hook}()\ndef warm() -> None:\n    raise ValueError('no model')\n",
    )
    with ZygoteRig(settings("memory://"), tmp_path) as rig:
        rig.hear(Loaded)
        child = booted(rig)
        failed = child.hear(BootFailed)
        assert (failed.step, failed.error) == (hook, "warm raised ValueError: no model")
        assert child.wait() == 70


def test_a_hook_before_the_fork_that_raises_is_told_with_its_place(tmp_path: Path) -> None:
    write(
        tmp_path,
        textwrap.dedent(APP)
        + "@app.before_fork()\ndef shut() -> None:\n    raise OSError('still open')\n",
    )
    with ZygoteRig(settings("memory://"), tmp_path) as rig:
        failed = rig.hear(LoadFailed)
        assert (failed.step, failed.error) == ("before_fork", "shut raised OSError: still open")
        assert "in shut" in failed.traceback
