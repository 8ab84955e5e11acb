"""The checks of the shutdown grace: whether jobs need more, and whether the manager grants it.  Pure."""

from __future__ import annotations

import math

from .facts import Facts, Finding, Found, Manager, Verdict, limit

STOP_MARGIN_S = 5.0
"""Time that a manager should allow beyond the grace, for the steps after it."""


def check_grace_of_jobs(facts: Facts) -> Found:
    daemon, tasks = facts.daemon, facts.tasks
    if daemon is None and tasks is None:
        return None
    grace_s = _grace(facts)
    if daemon is not None and daemon.longest_run_s > grace_s:
        text = f"a job has run for {daemon.longest_run_s:.0f} s, the grace is {grace_s:g} s"
        return Finding("grace-jobs", "warn", text, _LONG)
    if tasks is not None and tasks.longest_s > grace_s:
        text = f"{tasks.longest} may run {tasks.longest_s:g} s, the grace is {grace_s:g} s"
        return Finding("grace-jobs", "warn", text, _LONG)
    return Finding("grace-jobs", "ok", f"no job is known to need more than {grace_s:g} s")


_LONG = (
    "raise shutdown.grace_s, or let such jobs keep checkpoints: "
    "at a stop they are requeued as interrupted, which costs no retry"
)


def check_grace_of_manager(facts: Facts) -> Found:
    grace_s, manager = _grace(facts), facts.manager
    if manager.stop_s is not None:
        return _under_systemd(grace_s, manager, manager.stop_s)
    if not manager.pod:
        return Finding("grace-manager", "ok", "no service manager whose patience could end first")
    wanted = f"terminationGracePeriodSeconds: {math.ceil(grace_s + 15)}"
    if manager.pod_grace_s is None:
        text = "a pod cannot see its terminationGracePeriodSeconds (Kubernetes' default is 30)"
        verdict: Verdict = "skip" if grace_s + STOP_MARGIN_S <= 30 else "warn"
        return Finding("grace-manager", verdict, text, f"set {wanted}; tell it by --pod-grace")
    text = f"the pod is killed after {manager.pod_grace_s:g} s, the grace is {grace_s:g} s"
    if manager.pod_grace_s < grace_s:
        return Finding("grace-manager", "fail", text, f"set {wanted}")
    if manager.pod_grace_s < grace_s + STOP_MARGIN_S:
        return Finding("grace-manager", "warn", text, f"set {wanted}")
    return Finding("grace-manager", "ok", text)


def _under_systemd(grace_s: float, manager: Manager, stop_s: float) -> Finding:
    text = f"{manager.unit} has TimeoutStopSec={limit(stop_s)} s, the grace is {grace_s:g} s"
    remedy = f"set TimeoutStopSec={math.ceil(grace_s + STOP_MARGIN_S)}s in {manager.unit}"
    if stop_s >= grace_s + STOP_MARGIN_S:
        return Finding("grace-manager", "ok", text)
    if manager.notify:
        return Finding("grace-manager", "warn", f"{text}; the daemon asks for more", remedy)
    if stop_s < grace_s:
        return Finding("grace-manager", "fail", text, f"{remedy}, and Type=notify-reload")
    return Finding("grace-manager", "warn", text, remedy)


def _grace(facts: Facts) -> float:
    return facts.daemon.grace_s if facts.daemon is not None else facts.grace_s
