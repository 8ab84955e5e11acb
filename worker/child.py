"""What a zygote gives to each child that it forks."""

from __future__ import annotations

from socket import socket
from typing import NamedTuple

from taskqd.app import App
from taskqd.ipc.board import Board
from taskqd.ipc.messages import ChildContext, Spawn
from taskqd.settings import Settings


class LoadedApp(NamedTuple):
    """What all processes forked from one zygote share."""

    context: ChildContext
    settings: Settings
    app: App
    board: Board


class NewChild(NamedTuple):
    """A child just forked, before it has become anyone."""

    loaded: LoadedApp
    spawn: Spawn
    channel: socket
    stacks_fd: int
    """Append-only file for faulthandler."""
