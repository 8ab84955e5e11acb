"""Process 1 of fresh namespaces, on a root made of this machine's with taskqd installed in it.

Nothing outside is changed: mounts, processes and network end with process 1, and the one cgroup
(of version 2) that is made is removed.  Process 1 dies with the test run, also when that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support.waiting import HANG_S, wait_until

ROOT = Path(__file__).parents[3]
NEW_ROOT = Path(__file__).with_name("new_root.sh")
FLAGS = ("--mount", "--pid", "--net", "--uts", "--ipc", "--propagation", "private")
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "pivot_root", "ldconfig")
BASE = os.environ.get("E2E_ROOT", "/")
"""The installation whose programs are used: another one brings another systemd."""
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
_OURS = "taskqd-e2e-"
"""With the test run's pid behind it, so that what a killed one leaves behind is known."""


@cache
def why_not() -> str:
    """Return why such namespaces cannot be made here, "" if they can."""
    if os.geteuid() != 0:
        return "needs root: makes namespaces and mounts in them"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"needs {', '.join(missing)}"
    with tempfile.TemporaryDirectory(prefix="tq-probe-") as work:
        folders = [f"{work}/{name}" for name in ("image", "work")]
        for folder in folders:
            os.mkdir(folder)
        argv = ["unshare", "--fork", *FLAGS, "sh", str(NEW_ROOT)]
        done = subprocess.run(
            [*argv, folders[1], folders[0], BASE, "pod", "probe", "--", "true"],
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
    return f"namespaces cannot be made here: {done.stderr.strip()}" if done.returncode else ""


def cgroup2_root() -> Path | None:
    """Return where cgroups of version 2 are mounted, None if nowhere."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _device, target, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(target)
    return None


# -- the image -------------------------------------------------------------------------------------


def build_image(folder: Path, files: Mapping[str, str]) -> Path:
    """Install taskqd as a user would, under `folder`/opt/taskqd, with `files` beside it.

    The interpreter and what taskqd needs are those of this test run, to be mounted by `MOUNTS`.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = folder / "opt/taskqd"
    packages = home / "lib" / version / "site-packages"
    (home / "bin").mkdir(parents=True)
    packages.mkdir(parents=True)
    shutil.copytree(ROOT / "taskqd", packages / "taskqd", ignore=shutil.ignore_patterns("__pyc*"))
    subprocess.run([sys.executable, "-m", "compileall", "-q", packages / "taskqd"], check=True)
    (packages / "needs.pth").write_text("/opt/needs\n")
    (home / "bin/python").symlink_to(f"/opt/python/bin/{version}")
    (home / "pyvenv.cfg").write_text("home = /opt/python/bin\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, place in project["scripts"].items():
        module, _, function = place.partition(":")
        _program(home / "bin" / name, f"from {module} import {function}; {function}()")
    for name, text in {"etc/ld.so.conf.d/00-python.conf": "/opt/python/lib\n", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/opt/taskqd/bin/python\n{text}\n")
    path.chmod(0o755)


MOUNTS = {
    sys.base_prefix: "/opt/python",
    sysconfig.get_path("purelib"): "/opt/needs",
}


# -- the namespaces --------------------------------------------------------------------------------


class Namespaces:
    """Owns process 1 (`pid`), its work folder and its cgroup; use as a context manager."""

    def __init__(
        self,
        image: Path,
        kind: str,
        name: str,
        command: Sequence[str],
        *,
        mounts: Mapping[str, str] | None = None,
        tmpfs: Sequence[str] = (),
        cgroup: bool = False,
        env: Mapping[str, str] | None = None,
        output: Path,
    ) -> None:
        self.name = name
        self.output = output
        _sweep()
        self.cgroup = _make_group() if cgroup else None
        self._work = Path(tempfile.mkdtemp(prefix=f"{_OURS}{os.getpid()}-"))
        places = [f"{a}={b}" for a, b in {**MOUNTS, **(mounts or {})}.items()]
        places += [f"tmpfs={folder}" for folder in tmpfs]
        flags = [*FLAGS, *(["--cgroup"] if cgroup else [])]
        argv = ["unshare", "--fork", "--kill-child=SIGKILL", *flags, "sh", str(NEW_ROOT)]
        argv += [str(self._work), str(image), BASE, kind, name, *places, "--", *command]
        with output.open("ab") as log:
            self._unshare = subprocess.Popen(
                argv,
                env=dict(env) if env is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self._before_exec,
            )
        self.pid = self._find_first()

    def _before_exec(self) -> None:
        os.setsid()
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if self.cgroup is not None:
            (self.cgroup / "cgroup.procs").write_text("0")

    def _find_first(self) -> int:
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        found = wait_until(lambda: children.read_text().split() or self._unshare.poll() is not None)
        assert isinstance(found, list), f"process 1 did not start: {self.output.read_text()}"
        return int(found[0])

    # -- process 1 -----------------------------------------------------------------------------

    def send(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.Signals[name])

    def exit_code(self, timeout_s: float = HANG_S) -> int:
        """Wait for the end of process 1; 137 stands for SIGKILL, as shells and kubelets have it."""
        code = self._unshare.wait(timeout_s)
        # util-linux before 2.39 fails to die of the signal of which its child died.
        clumsy = code == 1 and self.output.read_text().endswith("Invalid argument\n")
        return 137 if clumsy or code == -signal.SIGKILL else code

    @property
    def running(self) -> bool:
        return self._unshare.poll() is None

    def exec(self, *command: str, timeout_s: float = HANG_S) -> subprocess.CompletedProcess[str]:
        """Run a command as root beside process 1."""
        return subprocess.run(
            self.entering(*command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def entering(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--all", "env", "--chdir=/", *command]

    def processes(self) -> list[int]:
        """Return the pids, as seen from outside, of all that runs in the pid namespace."""
        with contextlib.suppress(OSError):
            ours = os.readlink(f"/proc/{self.pid}/ns/pid")
            return [pid for pid in _pids() if _link(f"/proc/{pid}/ns/pid") == ours]
        return []

    # -- the end -------------------------------------------------------------------------------

    def __enter__(self) -> Namespaces:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.running:
            self.send("SIGKILL")
            self._unshare.wait(HANG_S)
        if self.cgroup is not None:
            wait_until(lambda: _remove_group(self.cgroup), f"{self.cgroup} is still in use")
        wait_until(lambda: _remove_folder(self._work), f"{self._work} is still mounted")


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _link(path: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return ""


def _remove_folder(path: Path) -> bool:
    """The mounts on it were made in the other mount namespace, so it is empty here."""
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()


# -- cgroups ---------------------------------------------------------------------------------------


def _make_group() -> Path:
    root = cgroup2_root()
    assert root is not None
    group = root / f"{_OURS}{os.getpid()}-{next(_numbers)}"
    group.mkdir()
    return group


def _sweep() -> None:
    """Remove the groups and folders of test runs that were killed."""
    for group in _orphaned(cgroup2_root()):
        _remove_group(group)
    for folder in _orphaned(Path(tempfile.gettempdir())):
        _remove_folder(folder)


def _orphaned(where: Path | None) -> Iterator[Path]:
    for path in where.glob(f"{_OURS}*") if where else ():
        pid = path.name.removeprefix(_OURS).partition("-")[0]
        if not Path(f"/proc/{pid}").exists():
            yield path


def _remove_group(group: Path | None) -> bool:
    """Remove a group and those in it, innermost first; False while a process is left in one."""
    if group is None or not group.exists():
        return True
    for folder, _folders, _files in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not group.exists()
