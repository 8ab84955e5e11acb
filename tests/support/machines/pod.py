"""A pod as a kubelet runs it, without a cluster: what `deploy/` says, in namespaces of this machine.

Taken from the manifest: command, environment, user, mounts, hook, grace, probes with their periods
and thresholds.  Taken from the kubelet's documented behaviour (Pod Lifecycle; Configure Probes):

- the hook runs in the container before TERM is sent; one clock covers both, and a hook that uses
  it up is abandoned, after which process 1 gets TERM and still 2 s;
- what is left of the clock later, process 1 gets KILL, and the kernel ends its namespace with it;
- until the startup probe has succeeded no other runs; liveness failing `failureThreshold` times in
  a row stops the container in the same way and starts it anew; readiness only tells;
- a container that ends by itself is started anew, without its hook.

Not simulated: scheduling, image pulls, services, and enforcement of resources.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from tests.support.machines.namespaces import ROOT, Namespaces
from tests.support.waiting import HANG_S, wait_until

CLONE_NEWNET = 0x40000000
ADDRESS = "10.9.0.1"
LEAST_S = 2.0
"""What a container gets after TERM, however long its hook took."""
TICK_S = 0.02
_libc = ctypes.CDLL(None, use_errno=True)

Manifest = dict[str, Any]


class Image:
    """What deploy/Dockerfile says about running its last stage."""

    def __init__(self, path: Path = ROOT / "deploy/Dockerfile") -> None:
        text = path.read_text().replace("\\\n", " ")
        last = text[text.rindex("\nFROM ") :]
        said = dict(re.findall(r"^(ENV|WORKDIR|USER|ENTRYPOINT|CMD) +(.*)$", last, re.MULTILINE))
        self.env = dict(word.split("=", 1) for word in said["ENV"].split())
        self.env["PATH"] = self.env["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
        self.folder = said["WORKDIR"]
        self.user = int(said["USER"].partition(":")[0])
        self.entrypoint: list[str] = json.loads(said["ENTRYPOINT"])
        self.command: list[str] = json.loads(said["CMD"])


class Pod:
    """One pod with one container; owns its namespaces, a thread that plays kubelet, and a log."""

    def __init__(
        self,
        folder: Path,
        image: Path,
        name: str,
        deployment: Manifest,
        *,
        volumes: Mapping[str, Path],
        mounts: Mapping[str, str],
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.ready = False
        self.restarts = 0
        self.exit_codes: list[int] = []
        self.spec: Manifest = deepcopy(deployment["spec"]["template"]["spec"])
        (self.container,) = self.spec["containers"]
        self._image = image
        self._built = Image()
        self._volumes = dict(volumes)
        self._mounts = dict(mounts)
        self._deleted = threading.Event()
        self._failure: BaseException | None = None
        self._inside: Namespaces | None = None
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    # -- from outside --------------------------------------------------------------------------

    @property
    def inside(self) -> Namespaces:
        assert self._inside is not None
        return self._inside

    def set_env(self, **variables: object) -> Pod:
        self.container["env"] += [{"name": k, "value": str(v)} for k, v in variables.items()]
        return self

    def set_grace(self, seconds: float) -> Pod:
        self.spec["terminationGracePeriodSeconds"] = seconds
        return self

    def set_hook(self, *command: str) -> Pod:
        self.container["lifecycle"]["preStop"]["exec"]["command"] = list(command)
        return self

    def hasten(self) -> Pod:
        """Probe every half second, with the thresholds and paths of the manifest, and more patience."""
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            self.container[kind].update(periodSeconds=0.5, timeoutSeconds=10)
        return self

    def start(self) -> Pod:
        self._thread.start()
        return self

    def wait_ready(self) -> Pod:
        self.wait(lambda: self.ready, "ready")
        return self

    def wait(self, true: Callable[[], object], what: str) -> None:
        def look() -> object:
            self._raise()
            return true()

        wait_until(look, f"{self.name}: {what}; its log:\n{self.text()[-4000:]}")

    def delete(self) -> Pod:
        """Begin to delete the pod, as the API server would."""
        self._deleted.set()
        return self

    def wait_gone(self, timeout_s: float = HANG_S) -> int:
        """Wait until the pod is gone; returns its last exit code."""
        self._thread.join(timeout_s)
        self._raise()
        assert not self._thread.is_alive(), f"{self.name} is not gone within {timeout_s} s"
        return self.exit_codes[-1]

    def exec(self, *command: str, timeout_s: float = HANG_S) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as `kubectl exec` and exec hooks do."""
        return subprocess.run(
            self.inside.entering(*self._as_user(command)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def kill_group(self) -> None:
        """Kill all processes at once, as the kernel does where `memory.oom.group` is set."""
        assert self.inside.cgroup is not None
        (self.inside.cgroup / "cgroup.kill").write_text("1")

    def events(self, name: str) -> list[Manifest]:
        lines = (line for line in self.text().splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def close(self) -> None:
        """End it at once, whatever it does."""
        self._deleted.set()
        self.spec["terminationGracePeriodSeconds"] = 0
        if self._inside is not None:
            self._inside.send("SIGKILL")
        self._thread.join(HANG_S)

    # -- the kubelet ---------------------------------------------------------------------------

    def _guarded(self) -> None:
        try:
            self._live()
        except BaseException as failure:
            self._failure = failure

    def _raise(self) -> None:
        if self._failure is not None:
            raise AssertionError(f"{self.name}: the kubelet failed") from self._failure

    def _live(self) -> None:
        while not self._deleted.is_set():
            self._inside = self._create()
            try:
                if self._watch() and self._inside.running:
                    self._stop()
                self.exit_codes.append(self._inside.exit_code())
            finally:
                self.ready = False
                self._inside.close()
            self.restarts += not self._deleted.is_set()

    def _create(self) -> Namespaces:
        built, command = self._built, self.container.get("command")
        argv = command or built.entrypoint
        argv = [*argv, *self.container.get("args", () if command else built.command)]
        places, empty = self._places()
        return Namespaces(
            self._image,
            "pod",
            self.name,
            self._as_user(argv),
            mounts={**self._mounts, **places},
            tmpfs=empty,
            cgroup=True,
            output=self.log,
        )

    def _as_user(self, argv: Sequence[str]) -> list[str]:
        """Return the command under the security context and environment of the manifest."""
        pod, own = self.spec["securityContext"], self.container["securityContext"]
        assert pod["runAsNonRoot"]
        assert pod["runAsUser"] == self._built.user != 0
        assert own["readOnlyRootFilesystem"]
        assert own["capabilities"]["drop"] == ["ALL"]
        user, group = pod["runAsUser"], pod["runAsGroup"]
        env = {**self._built.env, **{e["name"]: e["value"] for e in self.container["env"]}}
        words = [f"{name}={value}" for name, value in env.items()]
        ids = [f"--reuid={user}", f"--regid={group}", f"--groups={pod['fsGroup']}"]
        drop = ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--pdeathsig=keep"]
        assert own["allowPrivilegeEscalation"] is False
        return ["env", "-i", f"--chdir={self._built.folder}", *words, "setpriv", *ids, *drop, *argv]

    def _places(self) -> tuple[dict[str, str], list[str]]:
        """Return what is mounted where, and where empty folders are."""
        kinds = {volume["name"]: volume for volume in self.spec["volumes"]}
        places, empty = {}, []
        for mount in self.container["volumeMounts"]:
            if "emptyDir" in kinds[mount["name"]]:
                empty.append(mount["mountPath"])
            else:
                places[str(self._volumes[mount["name"]])] = mount["mountPath"]
        return places, empty

    def _watch(self) -> bool:
        """Probe until the container ended (False) or has to be stopped (True)."""
        startup = _Probe(self.container["startupProbe"])
        live = _Probe(self.container["livenessProbe"])
        ready = _Probe(self.container["readinessProbe"])
        while self.inside.running:
            if self._deleted.is_set():
                return True
            if not startup.succeeded:
                startup.run(self.inside.pid)
                if startup.failed:
                    return True
            else:
                live.run(self.inside.pid)
                ready.run(self.inside.pid)
                self.ready = ready.succeeded and not ready.failed
                if live.failed:
                    return True
            time.sleep(TICK_S)
        return False

    def _stop(self) -> None:
        """Hook, TERM, KILL, on one clock."""
        grace_s = self.spec["terminationGracePeriodSeconds"]
        begun = time.monotonic()
        self._run_hook(grace_s)
        left_s = max(LEAST_S, grace_s - (time.monotonic() - begun))
        self.inside.send("SIGTERM")
        try:
            self.inside.exit_code(left_s)
        except subprocess.TimeoutExpired:
            self.inside.send("SIGKILL")

    def _run_hook(self, grace_s: float) -> None:
        command = self.container["lifecycle"]["preStop"]["exec"]["command"]
        try:
            done = self.exec(*command, timeout_s=grace_s)
        except subprocess.TimeoutExpired:
            self._note("hook abandoned")
        else:
            self._note(f"hook ended with {done.returncode} {done.stderr.strip()}")

    def _note(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(f"kubelet: {text}\n")


class _Probe:
    """One HTTP probe and what it has seen in a row."""

    def __init__(self, said: Manifest) -> None:
        self._path = said["httpGet"]["path"]
        self._period_s = said["periodSeconds"]
        self._timeout_s = said["timeoutSeconds"]
        self._threshold = said["failureThreshold"]
        self._due_s = 0.0
        self._failures = 0
        self.succeeded = False

    @property
    def failed(self) -> bool:
        return self._failures >= self._threshold

    def run(self, pid: int) -> None:
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + self._period_s
        if 200 <= get(pid, self._path, self._timeout_s)[0] < 400:
            self.succeeded, self._failures = True, 0
        else:
            self._failures += 1


def get(pid: int, path: str, timeout_s: float) -> tuple[int, str]:
    """Ask the pod at its address, from within its network; (0, reason) if there is no answer."""
    found: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: found.append(_get(pid, path, timeout_s)))
    asking.start()
    asking.join()
    return found[0]


def _get(pid: int, path: str, timeout_s: float) -> tuple[int, str]:
    """Enters the network of `pid` with this thread, which must end after that."""
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    except OSError as error:
        return 0, str(error)
    entered = _libc.setns(fd, CLONE_NEWNET)
    os.close(fd)
    if entered:
        return 0, os.strerror(ctypes.get_errno())
    connection = http.client.HTTPConnection(ADDRESS, 7430, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()
