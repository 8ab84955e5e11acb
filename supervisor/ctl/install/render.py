"""Renders units and manifests from the templates beside this file.  Pure but for reading those.

A template has `<<name>>` where a value goes; a line of which nothing is left is dropped.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from taskqd.urls import scheme_of

_PLACE = re.compile(r"<<(\w+)>>")
_PLAIN = re.compile(r"[A-Za-z0-9_./@:+?=-]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_HOMES = ("/home/", "/root/", "/run/user/")
_TLS = {"redis": "false", "rediss": "true"}
STOP_EXTRA_S = 5
"""Time that systemd allows beyond the grace, for a master that does not end in time."""
POD_EXTRA_S = 15
"""The same for a pod, whose clock runs during its hook too."""


class Service(NamedTuple):
    """The values of a systemd unit; "" leaves one out."""

    name: str = "taskqd"
    bin: str = "/opt/taskqd/bin"
    app: str = ""
    config: str = ""
    directory: str = "/opt/taskqd"
    user: str = ""
    """"": a user that systemd makes up."""
    grace_s: float = 25.0
    storage: str = ""
    """To be written into the unit: has no password."""
    writable: tuple[str, ...] = ()
    head: str = ""
    of: str = ""


class Pod(NamedTuple):
    """The values of Kubernetes manifests."""

    name: str
    image: str
    config: str
    """Text of the configuration file."""
    grace_s: float = 25.0
    replicas: int = 2
    """URL for the environment of the pods, where the configuration has none."""
    triggers: tuple[Trigger, ...] = ()
    head: str = ""


class Trigger(NamedTuple):
    """A queue by whose length KEDA scales."""

    address: str
    database: str
    tls: str
    namespace: str
    queue: str


def unplain(words: Iterable[str]) -> list[str]:
    """Return the words that would need quotes in a unit or its shell command."""
    return [word for word in words if word and not _PLAIN.fullmatch(word)]


def is_label(name: str) -> bool:
    """Return whether the text is a valid name in Kubernetes."""
    return bool(_LABEL.fullmatch(name))


def unit(service: Service) -> str:
    """Return the text of a service unit."""
    places = (service.bin, service.config, service.directory)
    values = {
        **service._asdict(),
        "app": f" {service.app}" if service.app else "",
        "app_option": f" --app {service.app}" if service.app else "",
        "config": f" --config {service.config}" if service.config else "",
        "folder": "taskqd" if service.name == "taskqd" else f"taskqd-{service.name}",
        "stop_s": math.ceil(service.grace_s) + STOP_EXTRA_S,
        "grace_s": f"{service.grace_s:g}",
        "user": f"User={service.user}" if service.user else "DynamicUser=yes",
        "home": "read-only" if any(map(_is_at_home, places)) else "yes",
        "storage": f"Environment=TASKQD_STORAGE={service.storage}" if service.storage else "",
        "writable": f"ReadWritePaths={' '.join(service.writable)}" if service.writable else "",
    }
    return _fill("taskqd.service", values)


def _is_at_home(path: str) -> bool:
    return f"{path}/".startswith(_HOMES)


def writable_folders(url: str, directory: str) -> tuple[str, ...]:
    """Return the folder of a SQLite storage, unless the unit may write there anyway.

    A relative one lies in `directory`.
    """
    if scheme_of(url) != "sqlite":
        return ()
    path = posixpath.join(directory, unquote(urlsplit(url).path[1:]))
    folder = posixpath.dirname(path)
    return () if folder.startswith("/var/lib/taskqd") else (folder,)


def manifests(pod: Pod) -> str:
    """Return the manifests as one text of several documents."""
    scaling = "".join(_fill("keda_trigger.yaml", trigger._asdict()) for trigger in pod.triggers)
    values = {
        **pod._asdict(),
        "config": "\n".join(f"    {line}".rstrip() for line in pod.config.splitlines()),
        "grace_s": f"{pod.grace_s:g}",
        "termination_s": math.ceil(pod.grace_s) + POD_EXTRA_S,
        "replicas": "" if pod.triggers else f"  replicas: {pod.replicas}",
        "scaling": _fill("keda.yaml", {"name": pod.name, "triggers": scaling}) if scaling else "",
    }
    return _fill("kubernetes.yaml", values)


def triggers(url: str, namespace: str, queues: Iterable[str]) -> tuple[Trigger, ...]:
    """Return a trigger for each queue; () where the storage is none that KEDA can ask by a URL."""
    parts = urlsplit(url)
    if parts.scheme not in _TLS or not namespace:
        return ()
    address = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    database = parts.path.strip("/") or "0"
    return tuple(
        Trigger(address, database, _TLS[parts.scheme], namespace, queue) for queue in queues
    )


def _fill(template: str, values: dict[str, object]) -> str:
    text = files(__package__).joinpath("templates", template).read_text(encoding="utf-8")
    lines: list[str] = []
    for line in text.splitlines():
        filled = _PLACE.sub(lambda place: str(values[place[1]]), line)
        if filled.strip() or not line.strip():
            lines += [filled.rstrip("\n")]
    return "\n".join(lines) + "\n"
