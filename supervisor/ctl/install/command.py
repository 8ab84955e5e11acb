"""The command `taskqctl install`: prints a systemd unit or Kubernetes manifests for the user's app."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from taskqd.settings import Settings
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail
from taskqd.supervisor.ctl.options import Options, Output, command
from taskqd.supervisor.ctl.target import find_app
from taskqd.urls import has_secret, mask_url

from . import render

UNIT_HEAD = "Rendered by `taskqctl install systemd`; goes to /etc/systemd/system/{name}.service"
POD_HEAD = "Rendered by `taskqctl install kubernetes`; goes to kubectl apply -f -"
CONFIG = """\
app = "{app}"

[workers]
count = 2

[shutdown]
grace_s = {grace_s:g}
"""


def add_to(root: click.Group) -> None:
    root.add_command(group)


@click.group("install")
def group() -> None:
    """Render a systemd unit, or Kubernetes manifests, for your own paths and app."""


@command(group, "systemd")
@click.option("--user", default="", metavar="USER", help="Default: one that systemd makes up.")
@click.option("--directory", default=".", metavar="DIR", help="The app is imported from there.")
@click.option("--bin", "folder", metavar="DIR", help="Where taskqd is; default: beside taskqctl.")
@click.option("--print", "shown", is_flag=True, help="Write it to standard output.")
def systemd(options: Options, user: str, directory: str, folder: str | None, shown: bool) -> Output:
    """Render a service: notify protocol, watchdog, recovery after a crash, sandbox."""
    _insist("systemd", shown)
    options = _with_file(options)
    settings = _settings(options, "systemd")
    directory = os.path.abspath(directory)
    name = settings.name or "taskqd"
    service = render.Service(
        name=name,
        bin=os.path.abspath(folder) if folder else _own_folder(),
        app=options.app or ("" if options.config else settings.app),
        config=os.path.abspath(options.config) if options.config else "",
        directory=directory,
        user=user,
        grace_s=settings.shutdown.grace_s,
        storage=_public(options.storage or ""),
        writable=render.writable_folders(settings.storage.url or "", directory),
        head=UNIT_HEAD.format(name=name),
    )
    _refuse_unplain(service)
    return _output("unit", render.unit(service))


@command(group, "kubernetes")
@click.option("--image", default="taskqd:latest", metavar="IMAGE", help="Your image.")
@click.option("--replicas", default=2, type=click.IntRange(0), metavar="N", help="Without KEDA.")
@click.option("--keda/--no-keda", default=True, help="Scale on the length of the queues (Redis).")
@click.option("--print", "shown", is_flag=True, help="Write them to standard output.")
def kubernetes(options: Options, image: str, replicas: int, keda: bool, shown: bool) -> Output:
    """Render a ConfigMap, a Deployment, a PodDisruptionBudget and a ScaledObject."""
    _insist("kubernetes", shown)
    options = _with_file(options)
    settings = _settings(options, "kubernetes")
    pod = render.Pod(
        name=(settings.name or "taskqd").lower(),
        image=image,
        config=_config_text(options, settings),
        grace_s=settings.shutdown.grace_s,
        replicas=replicas,
        triggers=_triggers(options, settings) if keda else (),
        head=POD_HEAD,
    )
    if not render.is_label(pod.name):
        text = f"--name {pod.name!r}: Kubernetes wants letters, digits and hyphens, up to 40"
        raise Fail(common.USAGE, f"taskqctl: install kubernetes: {text}")
    return _output("manifests", render.manifests(pod))


def _insist(what: str, shown: bool) -> None:
    if not shown:
        text = f"install {what}: say --print; nothing is written but to standard output"
        raise Fail(common.USAGE, f"taskqctl: {text}")


def _with_file(options: Options) -> Options:
    """Return the options with the configuration file of the environment: the service has another
    environment, so the unit must name the file."""
    return options._replace(config=options.config or options.env.get("TASKQD_CONFIG") or None)


def _settings(options: Options, what: str) -> Settings:
    configured = options.read_config(options)
    common.complain(f"warning: {warning}" for warning in configured.warnings)
    if not configured.settings.app:
        raise Fail(common.USAGE, f"taskqctl: install {what}: say --app, or --config with an app")
    return configured.settings


def _own_folder() -> str:
    """Return the folder of the commands of this installation."""
    beside = Path(sys.executable).parent / "taskqd"
    found = str(beside) if beside.exists() else shutil.which("taskqd")
    if found is None:
        text = "taskqd: not found beside the interpreter nor in PATH; say --bin"
        raise Fail(common.FAILED, f"taskqctl: install systemd: {text}")
    return os.path.dirname(os.path.abspath(found))


def _public(url: str) -> str:
    """Return the URL; refuse one with a password, which everybody could read in the unit."""
    if has_secret(url):
        text = "its password would stand in the unit; see docs/systemd.md, Secrets"
        raise Fail(common.CONFIG, f"taskqctl: --storage {mask_url(url)}: {text}")
    return url


def _refuse_unplain(service: render.Service) -> None:
    words = [service.bin, service.app, service.config, service.directory, service.user]
    if bad := render.unplain([*words, service.storage, *service.writable]):
        text = f"{bad[0]!r}: would have to be quoted in a unit; choose a plainer one"
        raise Fail(common.CONFIG, f"taskqctl: install systemd: {text}")


def _config_text(options: Options, settings: Settings) -> str:
    """Return the text of the configuration file, or a short one made of the options."""
    if not options.config:
        return CONFIG.format(app=settings.app, grace_s=settings.shutdown.grace_s)
    if has_secret(settings.storage.url or "") and not options.storage:
        text = "storage.url: its password would stand in a ConfigMap; move it to the secret"
        raise Fail(common.CONFIG, f"{options.config}: {text} (docs/kubernetes.md)")
    return Path(options.config).read_text(encoding="utf-8")


def _triggers(options: Options, settings: Settings) -> tuple[render.Trigger, ...]:
    """Return the triggers for KEDA: one for each queue that is configured, else for the default one."""
    url = settings.storage.url or ""
    if not url:
        return ()
    app = None if options.namespace else find_app(options)
    namespace = options.namespace or (app.name if app else settings.name or "")
    return render.triggers(url, namespace, settings.queues.names or ("default",))


def _output(name: str, text: str) -> Output:
    return Output(facts={name: text}, text=text.splitlines())
