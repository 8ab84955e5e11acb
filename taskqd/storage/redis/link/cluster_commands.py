"""Commands to servers of a cluster, and what a server says that sends one elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.exceptions import AskError, RedisError

from taskqd.storage.redis.keyspace.scripts import Script
from taskqd.storage.redis.link.connection import Args, Link
from taskqd.storage.redis.link.slots import Place


class Todo(NamedTuple):
    """One command of several."""

    number: int
    key: str
    command: Args
    script: Script | None = None
    asked: Place | None = None
    """The server that the slot moves to has this key already."""
    moves: int = 0
    """How often it was sent elsewhere."""


def evalsha(script: Script, key: str, args: Args) -> Args:
    return ("EVALSHA", script.sha, 2, key, key.removesuffix("jobs") + "nothing", *args)


def exchange(
    link: Link, todo: Sequence[Todo], write: bool, then: Sequence[Args]
) -> tuple[list[Any], list[Any]]:
    """Send commands to one server; return their replies, and those to `then`."""
    link.load(*(item.script for item in todo if item.script is not None))
    commands: list[Args] = []
    at = []
    for item in todo:
        if item.asked:
            commands.append(("ASKING",))
        at.append(len(commands))
        commands.append(item.command)
    replies = link.exchange([*commands, *then], write)
    return [replies[i] for i in at], replies[len(commands) :]


def redirection(link: Link, reply: RedisError) -> tuple[int, Place]:
    """Return the slot and the server that it is at."""
    assert isinstance(reply, AskError)
    return reply.slot_id, (reply.host or link.host, reply.port)
