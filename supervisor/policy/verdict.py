"""Decides why a child died, and how the jobs that it held are recovered.  Pure."""

from __future__ import annotations

from typing import NamedTuple

from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import RecoveredAs
from taskqd.settings import MIB

_SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS",
    8: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE",
    14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS",
}  # fmt: skip

UNSETTLED = 75
"""A worker's exit code when it could not give back what it held: EX_TEMPFAIL."""


class Verdict(NamedTuple):
    cause: str
    """"drained", "unsettled" (it ended as asked, without its storage), "exit", "signal", "oom",
    "killed" (by the master), "boot" or "unborn"."""
    text: str
    """One line for people, kept with each job that the child held."""
    exit_code: int | None
    signal: str | None
    crashed: bool
    """True if it went by its own fault: not drained and not told to go."""


def signal_name(number: int) -> str:
    return _SIGNALS.get(number, f"SIG{number}")


def judge(
    returncode: int | None,
    *,
    drained: bool = False,
    boot_error: str = "",
    killed_for: str = "",
    stopping: bool = False,
    storage_lost: bool = False,
    oom_kills: int = 0,
    over_bytes: int = 0,
) -> Verdict:
    """Return the verdict on one dead child.

    `returncode`: exit code, or minus the signal's number; None: it was never seen alive.
    `storage_lost`: it had said that it does not reach its storage.
    `killed_for`: the reason why the master killed it, "" if it did not.
    `oom_kills`: kills by the kernel for want of memory in our cgroup since the last look.
    `over_bytes`: the limit of its own cgroup, if it was killed there for that.
    """
    if returncode is None and drained:
        return Verdict("drained", "drained", None, None, False)
    if returncode is None:
        return Verdict("unborn", "gone before it could say its pid", None, None, True)
    code, signal = (returncode, None) if returncode >= 0 else (None, signal_name(-returncode))
    how = f"killed by {signal}" if signal else f"exited with {code}"
    if killed_for:
        return Verdict("killed", f"{killed_for}: {how}", code, signal, not stopping)
    if drained:
        return Verdict("drained", f"drained, {how}", code, signal, False)
    if boot_error:
        return Verdict("boot", f"failed to boot: {boot_error}", code, signal, True)
    if signal == "SIGKILL" and over_bytes:
        own = f"its own limit of {over_bytes / MIB:.0f} MiB"
        return Verdict("oom", f"killed by SIGKILL: out of memory, {own}", code, signal, True)
    if signal == "SIGKILL" and oom_kills:
        return Verdict("oom", "killed by SIGKILL: out of memory", code, signal, True)
    if signal:
        return Verdict("signal", how, code, signal, True)
    if code == UNSETTLED and (stopping or storage_lost):
        told = f"{how}: the storage was lost when it had to end"
        return Verdict("unsettled", told, code, None, False)
    return Verdict("exit", f"{how} without having been told to", code, None, True)


def on_jobs(verdict: Verdict, held: list[SlotView]) -> str:
    """Return the verdict as kept with each job that the child held."""
    beside = f", with {len(held)} jobs running" if len(held) > 1 else ""
    return f"worker {verdict.text}{beside}"


STACK_CHARS_MAX = 3000
OWN_THREADS = ("taskqd.worker.leasing.loop", "taskqd.worker.slots.timer")
"""Modules that run in threads of the worker's own, whose stacks say nothing of the job."""
_OWN_FILES = tuple(f"/{name.removeprefix('taskqd.').replace('.', '/')}.py" for name in OWN_THREADS)


def with_stack(text: str, stack: str) -> str:
    """Return what is kept with a job: the verdict on one line, and the stacks below it."""
    threads = [part.strip() for part in stack.split("\n\n") if part.strip()]
    told = [part for part in threads if not any(file in part for file in _OWN_FILES)]
    return "\n".join([text, "\n\n".join(told)[:STACK_CHARS_MAX]]).strip()


class RecoveryTerms(NamedTuple):
    """How the jobs of a dead child are given back."""

    how: RecoveredAs
    verdict: str
    """The error that is kept with them."""
    late: tuple[int, ...] = ()
    """Tokens of those that had their time; `verdict` is about these if there are any."""


def recovery_of(
    verdict: Verdict, held: list[SlotView], late: tuple[SlotView, ...], *, interrupted: bool
) -> RecoveryTerms:
    """Return how the jobs that a dead child held are given back.

    `late`: the jobs for whose timeout it was killed.  Those beside them are not to blame for
    anything; nor is the next one, where all of them had ended in the meantime.
    """
    if not late or not held:
        return RecoveryTerms("interrupted" if interrupted else "orphaned", on_jobs(verdict, held))
    tokens = {view.token for view in late}
    over = [view for view in held if view.token in tokens]
    if not over:
        return RecoveryTerms("interrupted", on_jobs(verdict, held))
    limits_s = {(view.deadline_ns - view.started_ns) / 1e9 for view in over}
    limit = f"{limits_s.pop():g} s" if len(limits_s) == 1 else "its timeout"
    text = f"TaskTimeout: ran longer than {limit}"
    if len(over) == len(held):
        return RecoveryTerms("timeout", text)
    return RecoveryTerms("interrupted", text, tuple(view.token for view in over))
