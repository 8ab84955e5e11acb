"""What really ran, written by the jobs themselves to a file outside of daemon and storage.

A line is `begin|end KEY ATTEMPT`, written whole by one `write`.  An app for images of namespaces
(`SHOP`) comes with it; its storage is told by TASKQD_STORAGE.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

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

WAIT_S = 60.0


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

    def wait_begun(self, keys: Iterable[str], timeout_s: float = WAIT_S) -> None:
        self._wait("begin", set(keys), timeout_s)

    def wait_done(self, keys: Iterable[str], timeout_s: float = WAIT_S) -> None:
        """Wait until each of `keys` has ended at least once: nothing is lost."""
        self._wait("end", set(keys), timeout_s)

    def _wait(self, what: str, keys: set[str], timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        while missing := keys - set(self.count(what)):
            assert time.monotonic() < until_s, f"no {what} of {sorted(missing)} in {timeout_s} s"
            time.sleep(0.02)

    def doubled(self) -> set[str]:
        """Return the keys that have ended more than once."""
        return {key for key, times in self.count("end").items() if times > 1}

    def forget(self) -> None:
        self.path.write_text("")


def wait_until(true: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    until_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
