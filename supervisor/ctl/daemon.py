"""The commands of taskqctl that a running daemon answers on its admin socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from taskqd.settings import MIB
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail
from taskqd.supervisor.cli.text import cell, plain, span
from taskqd.supervisor.endpoints import admin_client

from .options import Options, Output, command
from .target import ask_daemon, socket_of

LOOK_S = 0.1
END_S = 30.0
"""How long the end of a daemon may take beyond what it announced."""
STACKS_S = 5.0
"""Time that workers have to write their stacks; a worker that cannot is asked twice."""


def add_to(root: click.Group) -> None:
    for name, function in _COMMANDS.items():
        command(root, name)(function)


def status(options: Options) -> Output:
    """Show state, workers and what they run."""
    facts = ask_daemon(options, {"cmd": "status"})
    return Output(facts=facts, text=_status_lines(facts))


@click.option("--wait", is_flag=True, help="Return when the daemon has ended.")
def drain(options: Options, wait: bool) -> Output:
    """Stop leasing, let running jobs finish within the grace, requeue the rest, exit."""
    return _end(options, {"cmd": "drain"}, wait)


@click.option("--wait", is_flag=True, help="Return when the daemon has ended.")
@click.option("--now", is_flag=True, help="No grace: requeue running jobs at once.")
def stop(options: Options, wait: bool, now: bool) -> Output:
    """Stop as on SIGTERM; --now as on a second one."""
    return _end(options, {"cmd": "stop", "now": now}, wait)


def quiet(options: Options) -> Output:
    """Lease no more jobs, stay up."""
    return Output(facts=ask_daemon(options, {"cmd": "quiet"}))


def resume(options: Options) -> Output:
    """Lease jobs again after `quiet`."""
    return Output(facts=ask_daemon(options, {"cmd": "resume"}))


@click.option("--wait", is_flag=True, help="Return when it has happened; fails if it was aborted.")
def reload(options: Options, wait: bool) -> Output:
    """Import code and configuration again and replace the workers one by one."""
    path = socket_of(options)
    options = options._replace(socket=path)
    answer = ask_daemon(options, {"cmd": "reload"})
    if not wait:
        return Output(facts=answer)
    while not (facts := ask_daemon(options, {"cmd": "reload", "number": answer["number"]}))["done"]:
        time.sleep(LOOK_S)
    if not facts["reloaded"]:
        raise Fail(common.FAILED, f"reload aborted at {facts['step']}: {facts['error']}")
    return Output(facts=answer | facts)


@click.argument("count", type=int)
def scale(options: Options, count: int) -> Output:
    """Change the number of workers."""
    return Output(facts=ask_daemon(options, {"cmd": "scale", "count": count}))


def stacks(options: Options) -> Output:
    """Show what each worker is doing, by its stacks."""
    options = options._replace(socket=socket_of(options))
    ask_daemon(options, {"cmd": "stacks"})
    until_s = time.monotonic() + STACKS_S
    while (answer := ask_daemon(options, {"cmd": "stacks", "read": True}))["awaited"]:
        if time.monotonic() > until_s:
            break
        time.sleep(LOOK_S)
    found: dict[str, str] = answer["stacks"]
    return Output(facts={"stacks": found}, text=_stack_lines(found))


_COMMANDS: dict[str, Callable[..., Output]] = {
    "status": status,
    "drain": drain,
    "stop": stop,
    "quiet": quiet,
    "resume": resume,
    "reload": reload,
    "scale": scale,
    "stacks": stacks,
}


def _end(options: Options, request: dict[str, Any], wait: bool) -> Output:
    path = socket_of(options)
    answer = ask_daemon(options._replace(socket=path), request)
    if wait:
        _await_end(path, answer["seconds_left"] + END_S)
    return Output(facts=answer | {"ended": wait})


def _await_end(path: str, within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while _is_up(path):
        if time.monotonic() > deadline_s:
            raise Fail(common.FAILED, f"the daemon on {path} has not ended within {within_s:.0f} s")
        time.sleep(LOOK_S)


def _is_up(path: str) -> bool:
    try:
        admin_client.ask(path, {"cmd": "hello"})
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except (OSError, ValueError):
        # It hung up on us or is slow: it may be ending, or not.
        return True
    return True


def _status_lines(facts: dict[str, Any]) -> Iterator[str]:
    storage = facts["storage"]
    yield f"{facts['instance']}: {facts['state']}, pid {facts['pid']}, up {span(facts['uptime_s'])}"
    if facts["seconds_left"] is not None:
        yield f"stopping: {span(max(0.0, facts['seconds_left']))} left"
    yield plain(
        f"app {facts['app']}, queues {', '.join(facts['queues'])}, generation {facts['generation']}"
    )
    yield plain(f"storage {storage['url']}{': lost' if storage['error'] else ''}")
    if storage["error"]:
        yield plain(f"  {storage['error']}")
    yield from _surroundings(facts)
    yield "jobs " + ", ".join(f"{count} {name}" for name, count in facts["jobs"].items())
    yield f"workers {facts['ready']} of {facts['wanted']} ready, {facts['busy']} busy"
    stopping = facts["seconds_left"] is not None
    for row in [*facts["workers"], facts["scheduler"]]:
        if stopping and row["state"] == "waiting":
            continue  # it has gone, and no other one comes
        yield from _worker_lines(row, is_scheduler=row is facts["scheduler"])


def _surroundings(facts: dict[str, Any]) -> Iterator[str]:
    if facts["health"]:
        yield plain(f"health http://{facts['health']}")
    if memory := facts["memory"]:
        held = ", one job at a time" if memory["held"] else ""
        yield f"memory {memory['percent']:g} % of {memory['limit_bytes'] / MIB:.0f} MiB{held}"
    if facts["unsafe"]:
        yield plain(f"not safe to fork: {', '.join(facts['unsafe'])}")


def _worker_lines(row: dict[str, Any], *, is_scheduler: bool) -> Iterator[str]:
    name = "scheduler" if is_scheduler else f"worker {row['worker']}"
    if row["state"] == "waiting":
        error = f": {row['error']}" if row.get("error") else ""
        yield plain(f"  {name}: starts in {span(row['respawn_in_s'])}{error}")
        return
    error = f", storage: {row['storage_error']}" if row["storage_error"] else ""
    yield plain(f"  {name}: {row['state']}, pid {row['pid']}, up {span(row['uptime_s'])}{error}")
    for job in row.get("running", ()):
        yield plain(f"    {cell(job['task'])} {job['job_id']} for {span(job['ran_s'])}")


def _stack_lines(found: dict[str, str]) -> Iterator[str]:
    for worker, text in found.items():
        yield f"{worker}:" if worker == "scheduler" else f"worker {worker}:"
        yield from (f"    {plain(line)}" for line in text.splitlines())
