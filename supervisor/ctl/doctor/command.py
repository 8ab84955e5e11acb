"""The command `taskqctl doctor`: gathers facts, runs the checks and shows their findings."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import click

from taskqd.errors import ConfigError, StorageError
from taskqd.storage.base import NodeRow
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail
from taskqd.supervisor.cli.text import plain
from taskqd.supervisor.ctl.options import Options, Output, command
from taskqd.supervisor.ctl.target import ask_daemon, find_app, open_target, socket_of, storage_url
from taskqd.urls import mask_url, scheme_of

from . import look
from .checks import examine
from .facts import FORK_UNSAFE, Facts, File, Finding, Store, Tasks

if TYPE_CHECKING:
    from taskqd.app import App

_WAL = b"\x02\x02"
"""Source: https://www.sqlite.org/fileformat.html, bytes 18 and 19."""


def add_to(root: click.Group) -> None:
    command(root, "doctor")(doctor)


@click.option(
    "--pod-grace", type=float, metavar="S", help="The pod's terminationGracePeriodSeconds."
)
def doctor(options: Options, pod_grace: float | None) -> Output:
    """Check daemon, host and storage for what makes trouble later; exits with 1 if one fails."""
    facts = _gather(options, pod_grace)
    findings = list(examine(facts))
    failed = any(found.verdict == "fail" for found in findings)
    rows = [found._asdict() for found in findings]
    if options.json:
        return Output(rows=rows, code=common.FAILED if failed else common.OK)
    return Output(facts={}, text=_lines(findings), code=common.FAILED if failed else common.OK)


def _gather(options: Options, pod_grace_s: float | None) -> Facts:
    facts = Facts(grace_s=options.read_config(options).settings.shutdown.grace_s)
    pid = os.getpid()
    try:
        socket = socket_of(options)
        status = ask_daemon(options._replace(socket=socket), {"cmd": "status"})
        pid = status["pid"]
        facts = facts._replace(daemon=look.daemon(status, socket), group=look.group(pid))
    except (Fail, OSError) as failure:
        facts = facts._replace(daemon_error=str(failure))
    app = find_app(options)
    return facts._replace(
        manager=look.manager(pid, pod_grace_s),
        tasks=_tasks(app) if app else None,
        store=_store(options),
    )


def _tasks(app: App) -> Tasks:
    timed = [(task.settings.timeout or 0.0, name) for name, task in app.registry.items()]
    longest_s, longest = max(timed, default=(0.0, ""))
    return Tasks(longest, longest_s, tuple(name for name in FORK_UNSAFE if name in sys.modules))


def _store(options: Options) -> Store | None:
    """Return facts about the storage; None for memory://, which lives in another process."""
    url = storage_url(options)
    if scheme_of(url) == "memory":
        return None
    shown = mask_url(url)
    try:
        with open_target(options) as storage:
            before_s = time.time()
            theirs_s = storage.server_ms() / 1000
            took_s = time.time() - before_s
            store = Store(
                shown,
                warnings=storage.warnings(),
                skew_s=theirs_s - before_s - took_s / 2,
                doubt_s=took_s / 2,
                namesakes=namesakes(storage.nodes()),
            )
        # law: the storage is closed before its file is read: closing that would drop SQLite's locks
        # (test_the_doctor_reads_the_file_only_when_its_storage_is_closed).
        return store._replace(file=_file(options, url))
    except (Fail, ConfigError, StorageError) as error:
        return Store(shown, error=str(error), file=_file(options, url))


def namesakes(nodes: Iterable[NodeRow]) -> list[str]:
    """Return the names that more than one living node has, with their pids."""
    living = [row.node for row in nodes if row.expires_in_s > 0 and row.node.name]
    counts = Counter(node.name for node in living)
    return [
        f"{name} (pids {', '.join(str(node.pid) for node in living if node.name == name)})"
        for name, count in counts.items()
        if count > 1
    ]


def _file(options: Options, url: str) -> File | None:
    if scheme_of(url) != "sqlite":
        return None
    from taskqd.storage.sqlite.file import disk

    parts = urlsplit(url)
    path = os.path.abspath(unquote(parts.path[1:]))
    kind = disk.file_system(path)
    try:
        room = os.statvfs(os.path.dirname(path))
        with open(path, "rb") as file:
            wal = file.read(20)[18:20] == _WAL
    except OSError:
        # The storage has said so already.
        return None
    quick = options.read_config(options).settings.storage.durability == "memory"
    said = parse_qs(parts.query).get("synchronous", ["normal" if quick else "full"])[-1]
    return File(path, kind, kind in disk.NETWORK, wal, said, room.f_bavail * room.f_frsize)


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    for found in findings:
        yield plain(f"{found.verdict:<4}  {found.check:<13}  {found.text}")
        if found.remedy and found.verdict != "ok":
            yield plain(f"{'':<4}  {'':<13}  -> {found.remedy}")
