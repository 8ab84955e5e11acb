"""Starts zygotes, ends them, and has them fork workers and the scheduler."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack

from taskqd.ipc import messages
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import (
    CONTEXT_ENV,
    ChildContext,
    Message,
    decode_from_child,
    decode_from_zygote,
    encode,
)
from taskqd.logs import events
from taskqd.settings import Settings
from taskqd.settings import encode as encode_settings
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.host import syscalls
from taskqd.supervisor.host.shared_memory import StackFile
from taskqd.supervisor.policy.recycling import jitter
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Post, Zygote, ZygoteState

MEANS_S = 1.0
"""Until a spawn is tried again that the system refused."""
REMEDIES = {
    errno.EMFILE: "raise LimitNOFILE= in the unit or ulimit -n, or run fewer workers",
    errno.ENFILE: "raise fs.file-max",
    errno.EAGAIN: "raise TasksMax= in the unit, the pod's pid limit or ulimit -u",
    errno.ENOMEM: "give it more memory, or run fewer workers",
}


class Spawner:
    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._fleet = context.fleet
        self._told_s = -MEANS_S

    # -- zygotes -------------------------------------------------------------------------------

    def start_zygote(self, generation: int, settings: Settings | None = None) -> None:
        """`settings`: those of its children, if they are not the present ones."""
        context, fleet = self._context, self._fleet
        settings = settings or context.settings
        try:
            pid, channel = self._fork_zygote(generation, settings)
        except OSError as error:
            fleet.zygote_at_s = self._out_of_means(error)
            return
        now_s = context.clock()
        zygote = Zygote(generation, pid, now_s, since_s=now_s, settings=settings)
        fleet.zygotes.append(zygote)
        fleet.generation = generation
        context.connections.add(zygote.key, channel)
        context.connections.adopt(zygote.key, pid)
        context.log.emit(events.ZYGOTE_SPAWNED, generation=generation, child_pid=pid)

    def _fork_zygote(self, generation: int, settings: Settings) -> tuple[int, Channel[Message]]:
        context = self._context
        channel: Channel[Message]
        channel, theirs = Channel.pair(decode_from_zygote)
        environ = {
            **context.environ,
            CONTEXT_ENV: self._child_context(generation, settings, theirs),
        }
        with theirs:
            try:
                fds = [theirs.fileno(), context.board_fd]
                return syscalls.spawn(context.zygote_argv, environ, fds), channel
            except OSError:
                channel.close()
                raise

    def _child_context(self, generation: int, settings: Settings, channel: socket.socket) -> str:
        context = self._context
        child_context = ChildContext(
            settings=encode_settings(settings),
            generation=generation,
            node_id=context.node_id,
            node_name=context.node_name,
            master_pid=os.getpid(),
            channel_fd=channel.fileno(),
            board_fd=context.board_fd,
            board_rows=context.board.rows,
            board_slots=context.board.slots,
            scheduler_row=self._fleet.scheduler.number,
        )
        return encode(child_context).decode()

    def retire_zygote(self, generation: int) -> None:
        zygote = self._zygote(generation)
        if zygote.state is ZygoteState.LOADING:
            self.kill_zygote(generation, "not needed any more")
        zygote.state, zygote.since_s = ZygoteState.LEAVING, self._context.clock()
        self._context.connections.tell(zygote.key, messages.Exit())

    def kill_zygote(self, generation: int, reason: str) -> None:
        zygote = self._zygote(generation)
        zygote.killed_for = reason
        self._context.log.emit(events.ZYGOTE_KILLED, generation=generation, reason=reason)
        self._context.connections.signal(zygote.key, "SIGKILL")

    def _zygote(self, generation: int) -> Zygote:
        return next(z for z in self._fleet.zygotes if z.generation == generation)

    # -- children --------------------------------------------------------------------------------

    def spawn(self, number: int) -> None:
        zygote = self._fleet.zygote()
        assert zygote is not None
        self.spawn_from(zygote, number)

    def spawn_from(self, zygote: Zygote, number: int) -> None:
        context = self._context
        post = self._post(number)
        worker_id = f"{context.node_id}.{next(context.serials)}"
        now_s = context.clock()
        try:
            stacks, channel, fds = _open_connection()
        except OSError as error:
            post.spawn_at_s = self._out_of_means(error)
            return
        child = Child(worker_id, post.role, number, zygote.generation, now_s, since_s=now_s)
        child.jitter, child.queues = jitter(context.chance()), zygote.queues
        post.child = child
        context.board.row(number).clear()
        context.connections.add(worker_id, channel, stacks)
        message = messages.Spawn(role=post.role, number=number, worker_id=worker_id)
        context.connections.tell(zygote.key, message, fds)
        context.totals.spawned += 1

    def _post(self, number: int) -> Post:
        return next(post for post in self._fleet.posts if post.number == number)

    def _out_of_means(self, error: OSError) -> float:
        """Report that the system gives no process or descriptor now; returns when to try again."""
        now_s = self._context.clock()
        if now_s >= self._told_s + MEANS_S:
            self._told_s = now_s
            remedy = REMEDIES.get(error.errno or 0, "")
            self._context.log.emit(events.SPAWN_FAILED, error=f"{error}{remedy and '; '}{remedy}")
        return now_s + MEANS_S


def _open_connection() -> tuple[StackFile, Channel[Message], list[int]]:
    """Return the master's ends for a new child, and the descriptors of the child's; all or none."""
    channel: Channel[Message]
    with ExitStack() as opened:
        stacks = StackFile()
        opened.callback(stacks.close)
        shared = stacks.share()
        opened.callback(os.close, shared)
        channel, theirs = Channel.pair(decode_from_child)
        opened.pop_all()
    return stacks, channel, [theirs.detach(), shared]
