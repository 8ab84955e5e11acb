"""The whole daemon over `tests/support/apps/shop.py`, and the caller's side of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskqd.client.result import Result
from tests.support.apps import shop
from tests.support.rigs.daemon import Daemon, settings_json
from tests.support.waiting import wait_until

RUN = (
    "import sys; from taskqd.supervisor.host import signals; signals.install();{changes};"
    "from taskqd import settings; from taskqd.logs import setup as log; from taskqd.supervisor.master import Master;"
    "chosen = settings.decode(sys.argv[1]);"
    "out = log.configure(role='master', level='debug', format='json', file=chosen.log.file);"
    "argv = [sys.executable, '-m', 'taskqd.worker.zygote'];"
    "sys.exit(Master(chosen, log=out, zygote_argv=argv).run())"
)


class Shop:
    """A folder, a storage, and the daemons that serve it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.ledger = folder / "ledger"
        self.app = shop.app
        self._count = 0

    def daemon(self, *constants: str, env: dict[str, str] | None = None, **changes: Any) -> Daemon:
        """Return a daemon that is not started yet; each has a folder of its own.

        `constants` as `changing.constant` makes them.
        """
        self._count += 1
        folder = self.folder / f"daemon{self._count}"
        folder.mkdir()
        storage = {"url": self.url, "durability": "memory", "connect_wait_s": 60}
        storage |= changes.pop("storage", {})
        changes = {"app": "tests.support.apps.shop:app", "storage": storage, **changes}
        settings = settings_json(folder, **changes)
        argv = [sys.executable, "-c", RUN.format(changes=";".join(constants) or "pass"), settings]
        return Daemon(folder, argv, env={"SHOP_LEDGER": str(self.ledger), **(env or {})})

    @contextmanager
    def open(self, *constants: str, **changes: Any) -> Iterator[Daemon]:
        """Run a daemon, ready."""
        with self.daemon(*constants, **changes) as daemon:
            daemon.wait("master.ready")
            yield daemon

    # -- what the tasks have written -------------------------------------------------------------

    def notes(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def begun(self, count: int) -> list[int]:
        """Wait for so many jobs to begin; return the pids that run them."""
        wait_until(lambda: len(self._begins()) >= count, what=f"{count} jobs to begin")
        return [int(match[1]) for match in self._begins()]

    def _begins(self) -> list[re.Match[str]]:
        found = (re.fullmatch(r"begin \w+ pid (\d+)", note) for note in self.notes())
        return [match for match in found if match]

    # -- the caller's side -----------------------------------------------------------------------

    def info(self, result: Result[Any]) -> dict[str, Any]:
        return json.loads(json.dumps(result.info(), default=str))


@contextmanager
def open_shop(folder: Path, url: str) -> Iterator[Shop]:
    """Point the app of this process to a storage as well, as its callers do: by the environment."""
    opened = Shop(folder, url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_LEDGER", str(opened.ledger))
        patch.setenv("TASKQD_STORAGE", url)
        try:
            yield opened
        finally:
            opened.app.close()
