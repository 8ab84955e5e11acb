"""The `taskqd` command: flags, environment and file -> Settings -> Master.

This is the composition root: the one place that knows all three wings.  Exit codes: 0 stopped as
asked, 1 unexpected, 64 usage, 69 storage unreachable at start, 70 every worker failed to boot, 78
configuration.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from taskqd import __version__
from taskqd.config import ConfigErrors, LoadedConfig, load
from taskqd.config.cpus import worker_count
from taskqd.config.load import DEFAULT
from taskqd.errors import ConfigError
from taskqd.logs import events
from taskqd.logs.setup import Log, configure
from taskqd.settings import Settings
from taskqd.supervisor.host import signals, syscalls

from . import common, completion
from .common import Fail
from .pidfile import pid_file
from .privileges import Identity, assume, resolve

NO_APP = (
    "taskqd: no app given; say which to run: `taskqd shop.tasks:app`, "
    '`app = "shop.tasks:app"` in the file given by --config, or TASKQD_APP'
)

KEY_OF_FLAG = {
    "app": "app",
    "workers": "workers.count",
    "worker_type": "workers.type",
    "concurrency": "workers.concurrency",
    "queues": "queues.names",
    "grace": "shutdown.grace_s",
    "storage": "storage.url",
    "name": "name",
    "log_format": "log.format",
    "log_level": "log.level",
    "health": "health.bind",
    "pidfile": "process.pidfile",
    "user": "process.user",
    "group": "process.group",
    "umask": "process.umask",
    "scheduler": "scheduler.enabled",
    "reload": "reload",
    "burst": "burst",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.argument("app", required=False)
@click.option("-C", "--config", metavar="FILE", help="Configuration file (TOML).")
@click.option("-w", "--workers", metavar="N", help='Worker processes, or "auto".')
@click.option("-k", "--worker-type", metavar="TYPE", help="process, thread, greenlet or asyncio.")
@click.option("-c", "--concurrency", metavar="N", help="Jobs that one worker runs at once.")
@click.option("-q", "--queues", metavar="A,B:2", help="Queues to serve, with weights if given.")
@click.option("--grace", metavar="S", help="Time for running jobs to finish at a stop.")
@click.option("--storage", metavar="URL", help="Where jobs are kept.")
@click.option("--name", metavar="NAME", help="This instance's name.")
@click.option("--log-format", metavar="FORMAT", help="auto, console or json.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning, error or critical.")
@click.option("--health", metavar="HOST:PORT|off", help="Address of the health endpoint.")
@click.option("--pidfile", metavar="FILE", help="Write the master's pid, locked, into this file.")
@click.option("--user", metavar="NAME", help="Become this user before anything is opened (root).")
@click.option("--group", metavar="NAME", help="Become this group.")
@click.option("--umask", metavar="OCTAL", help="Mode bits that new files shall not have.")
@click.option("--no-scheduler", "scheduler", flag_value="off", help="Fire no periodic ticks.")
@click.option("--reload", flag_value="on", help="Reload when source files change.")
@click.option("--burst", flag_value="on", help="End when all queues are empty.")
@click.option("--check", is_flag=True, help="Validate everything, try app and storage, exit.")
@click.version_option(__version__, "--version", message="taskqd %(version)s")
def taskqd(**flags: Any) -> dict[str, Any]:
    """Run the jobs of APP (module:attribute) in the foreground until told to stop."""
    return flags


def main() -> None:
    """Entry point of `taskqd`."""
    # First of all, or a pipe of ours could take the place of a standard stream that is closed.
    syscalls.fill_standard_fds()
    # Before anything that takes time: PID 1 ignores a signal that has no handler.
    signals.install()
    code = run(sys.argv[1:], os.environ)
    signals.ignore()
    sys.exit(code)


def run(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Return the exit code."""
    if completion.is_asked("taskqd", env):
        return completion.answer(taskqd, "taskqd", env)
    try:
        flags = common.read_flags(taskqd, "taskqd", argv)
        loaded = load_settings(flags, env)
        identity = _resolve(loaded.settings)
        if flags["check"]:
            return _check(loaded)
        return _serve(
            loaded, identity, lambda: _read_again(flags, env), _watched(loaded, flags, env)
        )
    except Fail as failure:
        common.complain([str(failure)])
        return failure.code


def load_settings(flags: Mapping[str, Any], env: Mapping[str, str]) -> LoadedConfig:
    """Return the settings of a daemon, "auto" resolved; raises Fail with every error."""
    file = Path(flags["config"]) if flags["config"] else None
    given = {key: flags[flag] for flag, key in KEY_OF_FLAG.items()}
    try:
        loaded = load(file=file, env=env, flags=given)
    except ConfigErrors as error:
        raise Fail(common.CONFIG, str(error)) from None
    if not loaded.settings.app:
        raise Fail(common.CONFIG, NO_APP)
    return loaded._replace(settings=resolve_auto(loaded.settings))


def resolve_auto(settings: Settings) -> Settings:
    if settings.workers.count:
        return settings
    workers = msgspec.structs.replace(settings.workers, count=worker_count())
    return msgspec.structs.replace(settings, workers=workers)


def _read_again(flags: Mapping[str, Any], env: Mapping[str, str]) -> Settings:
    try:
        return load_settings(flags, env).settings
    except Fail as failure:
        raise ConfigError(str(failure)) from None


def _resolve(settings: Settings) -> Identity:
    try:
        return resolve(settings.process)
    except ConfigError as error:
        raise Fail(common.CONFIG, str(error)) from None


def _watched(loaded: LoadedConfig, flags: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    file = flags["config"] or env.get("TASKQD_CONFIG")
    return [os.path.abspath(file)] if file and loaded.settings.reload else []


def _serve(
    loaded: LoadedConfig,
    identity: Identity,
    reload_settings: Callable[[], Settings],
    watched: Sequence[str],
) -> int:
    try:
        assume(identity)
        with pid_file(loaded.settings.process.pidfile):
            return _run(loaded, reload_settings, watched)
    except ConfigError as error:
        raise Fail(common.CONFIG, str(error)) from None


def _run(
    loaded: LoadedConfig, reload_settings: Callable[[], Settings], watched: Sequence[str]
) -> int:
    from taskqd.supervisor.master import Master

    settings = loaded.settings
    log = _open_log(settings)
    for warning in loaded.warnings:
        log.emit(events.CONFIG_WARNED, text=warning)
    zygote_argv = [sys.executable, "-m", "taskqd.worker.zygote"]
    master = Master(
        settings,
        log=log,
        zygote_argv=zygote_argv,
        reload_settings=reload_settings,
        watched=watched,
        health_may_move=loaded.origins["health.bind"] == DEFAULT,
    )
    return master.run()


def _open_log(settings: Settings) -> Log:
    wanted = settings.log
    try:
        return configure(role="master", level=wanted.level, format=wanted.format, file=wanted.file)
    except OSError as error:
        raise common.log_failure(wanted.file or "", error.strerror or repr(error)) from None


def _check(loaded: LoadedConfig) -> int:
    from .check import check

    # A check is no daemon: Ctrl-C ends it at once, also while it imports an app that hangs.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return check(loaded.settings, loaded.warnings)
