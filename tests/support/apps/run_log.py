"""What really ran, written by the jobs themselves to a file outside of daemon and storage.

A line is `begin|end KEY ATTEMPT`, written whole by one `write`.  An app for images of namespaces
(`SHOP`) comes with it; its storage is told by TASKQD_STORAGE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.support.waiting import wait_until

SHOP = """
import os
import time

from taskqd import App, current_job

app = App("shop")
time.sleep(float(os.environ.get("SLOW_IMPORT_S", 0)))


def note(*words):
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(fd, (" ".join(map(str, words)) + "\\n").encode())
    os.close(fd)


@app.task(name="work", max_crashes=20)
def work(key, seconds=0.0):
    attempt = current_job().attempt
    note("begin", key, attempt)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)
    note("end", key, attempt)
    return key
"""


class RunLog:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(exist_ok=True)
        path.touch()
        path.chmod(0o666)

    def count(self, what: str) -> Counter[str]:
        """Return how often each key has begun, or ended."""
        lines = (line.split() for line in self.path.read_text().splitlines())
        return Counter(key for kind, key, _attempt in lines if kind == what)

    def wait_begun(self, keys: Iterable[str]) -> None:
        self._wait("begin", set(keys))

    def wait_done(self, keys: Iterable[str]) -> None:
        """Wait until each of `keys` has ended at least once: nothing is lost."""
        self._wait("end", set(keys))

    def _wait(self, what: str, keys: set[str]) -> None:
        def missing() -> set[str]:
            return keys - set(self.count(what))

        done = wait_until(lambda: not missing(), failing=False)
        assert done, f"no {what} of {sorted(missing())}"

    def doubled(self) -> set[str]:
        """Return the keys that have ended more than once."""
        return {key for key, times in self.count("end").items() if times > 1}

    def forget(self) -> None:
        self.path.write_text("")
