"""A machine: the real systemd of this host as process 1 of namespaces, with taskqd installed.

It has its own journal, units, network and cgroups (no controllers where the host uses version 1,
so MemoryMax= and the like are accepted and not enforced).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.apps.run_log import SHOP, RunLog
from tests.support.machines.namespaces import (
    BASE,
    ROOT,
    Namespaces,
    build_image,
    cgroup2_root,
    why_not,
)
from tests.support.servers.redis_server import RedisServer
from tests.support.waiting import HANG_S, wait_until

SYSTEMD = "/lib/systemd/systemd"
BOOT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=tests", SYSTEMD)
BOOT_FLAGS = ("--system", "--unit=basic.target", "--show-status=0")
UNITS = ("taskqd.service", "taskqd@.service")
APP = "/opt/shop/shop.py"
MASKED = ("timers.target", "systemd-update-utmp.service", "systemd-journal-flush.service")


@cache
def why_no_machine() -> str:
    """Return why systemd cannot be booted here, "" if it can."""
    if not Path(f"{BASE}{SYSTEMD}").exists():
        return f"needs systemd: no {SYSTEMD}"
    if cgroup2_root() is None:
        return "needs cgroups of version 2 to be mounted"
    return why_not()


class Machine:
    """Owns the namespaces and a Redis server, which runs outside and is seen through a mount."""

    def __init__(self, folder: Path, redis: RedisServer, files: Mapping[str, str]) -> None:
        self.folder = folder
        self.redis = redis
        self.ledger = RunLog(folder / "ledger")
        units = {f"etc/systemd/system/{name}": _unit(name) for name in UNITS}
        image = build_image(
            folder / "image",
            {**units, APP[1:]: SHOP, "etc/hostname": "machine\n", **files},
        )
        for name in MASKED:
            (image / "etc/systemd/system" / name).symlink_to("/dev/null")
        redis.share()
        self.namespaces = Namespaces(
            image,
            "machine",
            "machine",
            [*BOOT, *BOOT_FLAGS],
            mounts={str(folder): "/shared", str(Path(redis.socket).parent): "/redis"},
            cgroup=True,
            output=folder / "boot.log",
        )
        folder.chmod(0o711)
        self._cursor = ""
        try:
            wait_until(self._booted, "systemd is up")
        except BaseException:
            self.close()
            raise

    def _booted(self) -> bool:
        state = self.namespaces.exec("systemctl", "is-system-running").stdout.strip()
        return state in {"running", "degraded"}

    def close(self) -> None:
        self.namespaces.close()
        shutil.rmtree(self.folder / "image", ignore_errors=True)

    def reset(self) -> None:
        """Stop all daemons, forget drop-ins of tests, the storage's jobs and the ledger."""
        self.try_("systemctl", "kill", "--signal=KILL", "taskqd")
        self.run("systemctl", "stop", "taskqd", "taskqd@*")
        self.try_("systemctl", "reset-failed")
        self.run("sh", "-c", "rm -rf /run/systemd/system/taskqd*.service.d; rm -f /shared/flag-*")
        self.run("systemctl", "daemon-reload")
        with self.redis.client() as client:
            client.flushall()
        self.ledger.forget()
        self.write(APP, SHOP)
        lines = self.run("journalctl", "--lines=1", "--show-cursor", "--output=cat").splitlines()
        self._cursor = lines[-1].removeprefix("-- cursor: ")

    def drop_in(self, unit: str, text: str) -> None:
        """Change a unit until `reset`."""
        self.write(f"/run/systemd/system/{unit}.service.d/test.conf", f"[Service]\n{text}\n")
        self.run("systemctl", "daemon-reload")

    def release(self, old: str, new: str) -> None:
        """Change the app's code until `reset`."""
        assert old in SHOP
        self.write(APP, SHOP.replace(old, new))

    @property
    def version(self) -> int:
        """The version of systemd."""
        return int(self.run("systemctl", "--version").split()[1])

    def configure(self, **variables: object) -> None:
        """Set environment variables of taskqd.service until `reset`."""
        words = " ".join(f"{name}={value}" for name, value in variables.items())
        self.write(
            "/run/systemd/system/taskqd.service.d/settings.conf",
            f"[Service]\nEnvironment={words}\n",
        )
        self.run("systemctl", "daemon-reload")

    # -- commands ------------------------------------------------------------------------------

    def run(self, *command: str, timeout_s: float = HANG_S) -> str:
        """Run a command as root in the machine and return what it prints; it must succeed."""
        done = self.namespaces.exec(*command, timeout_s=timeout_s)
        assert done.returncode == 0, f"{command}: {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def try_(self, *command: str, timeout_s: float = HANG_S) -> subprocess.CompletedProcess[str]:
        return self.namespaces.exec(*command, timeout_s=timeout_s)

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command that is not waited for."""
        return subprocess.Popen(
            self.namespaces.entering(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def json(self, *command: str) -> Any:
        return json.loads(self.run(*command))

    def write(self, path: str, text: str) -> None:
        script = 'mkdir -p "$(dirname "$0")" && cat >"$0"'
        subprocess.run(
            self.namespaces.entering("sh", "-c", script, path),
            input=text.encode(),
            check=True,
            timeout=HANG_S,
        )

    # -- units ---------------------------------------------------------------------------------

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit."""
        text = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in text.splitlines())

    def state(self, unit: str) -> str:
        return self.show(unit, "ActiveState")["ActiveState"]

    def main_pid(self, unit: str) -> int:
        """Return the main process's pid inside the machine."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def pids(self, unit: str) -> list[int]:
        """Return the pids, inside the machine, of all that belongs to a unit."""
        group = self.show(unit, "ControlGroup")["ControlGroup"]
        done = self.try_("cat", f"/sys/fs/cgroup{group}/cgroup.procs")
        return [int(pid) for pid in done.stdout.split()] if group else []

    def events(self, unit: str, name: str = "") -> list[dict[str, Any]]:
        """Return the daemon's events in the journal since `reset`, each with its "priority"."""
        found = []
        for line in self._read(unit, "--output=json").splitlines():
            entry = json.loads(line)
            message = entry.get("MESSAGE")
            if isinstance(message, str) and message.startswith("{"):
                event = json.loads(message)
                if not name or event["event"] == name:
                    found.append({**event, "priority": entry["PRIORITY"]})
        return found

    def text(self, unit: str) -> str:
        """Return what the journal has of a unit since `reset`."""
        return self._read(unit, "--output=cat")

    def _read(self, unit: str, *options: str) -> str:
        self.run("journalctl", "--sync")
        cursor = f"--after-cursor={self._cursor}" if self._cursor else "--no-tail"
        return self.run("journalctl", "--unit", unit, "--no-pager", "--all", cursor, *options)

    def journal(self) -> str:
        """Return what the journal has of our units, for people who look at a failed test."""
        return self.text("taskqd*")


def _unit(name: str) -> str:
    return (ROOT / "systemd" / name).read_text()
