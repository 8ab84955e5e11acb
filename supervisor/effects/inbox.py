"""Takes in what zygotes, workers and scheduler say, and writes it into the fleet."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from taskqd.ipc import messages
from taskqd.ipc.messages import FromChild, FromZygote, Message
from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.host.connections import Connection
from taskqd.supervisor.host.syscalls import Death
from taskqd.supervisor.state import observation
from taskqd.supervisor.state.actions import AT_ONCE
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Zygote, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildEvent

from .outages import Outages
from .recoveries import Recoveries
from .reloader import Reloader
from .spawner import Spawner


class Gone(NamedTuple):
    """A child of which it was heard that it is dead, for the reaper to account for."""

    child: Child
    death: Death | None
    """None: it was never seen alive."""


class InboxReport(NamedTuple):
    """What came of listening to one connection."""

    anything: bool
    gone: list[Gone]


class Inbox:
    """Each message has a method; what is no message costs the child that sent it its life."""

    def __init__(
        self,
        context: MasterContext,
        spawner: Spawner,
        reloader: Reloader,
        recoveries: Recoveries,
        outages: Outages,
    ) -> None:
        self._context = context
        self._fleet = context.fleet
        self._spawner = spawner
        self._reloader = reloader
        self._recoveries = recoveries
        self._outages = outages
        self._gone: list[Gone] = []

    def listen(self, connection: Connection) -> InboxReport:
        """Take in what has come on one connection."""
        packets = connection.channel.receive()
        garbled = packets.garbled
        for message in packets.messages:
            garbled = self._hear(connection.key, message) or garbled
        if garbled:
            self._end_garbled(connection.key, garbled)
        if garbled or not connection.channel.open:
            self._hung_up(connection.key)
        gone, self._gone = self._gone, []
        return InboxReport(bool(packets.messages), gone)

    def _hear(self, key: str, message: Message) -> str:
        """Take in one message; returns what is wrong with it, "" if nothing is."""
        child, zygote = self._fleet.child(key), self._zygote(key)
        if child is not None and isinstance(message, FromChild):
            self._from_child(child, message)
        elif zygote is not None and isinstance(message, FromZygote):
            self._from_zygote(zygote, message)
        elif child is not None or zygote is not None:
            return f"{type(message).__name__} is not for it to say"
        return ""

    def _from_child(self, child: Child, said: FromChild) -> None:
        match said:
            case messages.Booted():
                self._booted(child, said)
            case messages.BootFailed():
                self._boot_failed(child, said)
            case messages.Ready():
                self._ready(child, said)
            case messages.StorageLost():
                self._outages.lost(child, said)
            case messages.StorageRestored():
                child.storage_error = ""
            case messages.Empty():
                child.empty_at = observation.counters(self._context.board, child.number)
            case messages.Drained():
                self._drained(child, said)
            case messages.WorkerRecovered():
                self._recoveries.done(said)
            case messages.Counted():
                self._context.depths, self._context.counted_s = said.queues, self._context.clock()
            case _:
                assert_never(said)

    def _from_zygote(self, zygote: Zygote, said: FromZygote) -> None:
        match said:
            case messages.Files():
                self._context.file_watcher.add(said.paths)
            case messages.Loaded():
                self._loaded(zygote, said)
            case messages.LoadFailed():
                self._load_failed(zygote, said)
            case messages.Unsafe():
                self._unsafe(zygote, said)
            case messages.Forked():
                self._forked(said)
            case messages.ForkFailed():
                self._fork_failed(said)
            case _:
                assert_never(said)

    def _zygote(self, key: str) -> Zygote | None:
        return next((z for z in self._fleet.zygotes if z.key == key), None)

    def _end_garbled(self, key: str, what: str) -> None:
        """Kill the process that has sent what is no message: it is in no state to be trusted."""
        reason = f"it said what is no message: {what}"
        child, zygote = self._fleet.child(key), self._zygote(key)
        if child is not None:
            child.condemn(reason, AT_ONCE, self._context.clock())
        elif zygote is not None:
            self._spawner.kill_zygote(zygote.generation, reason)

    def _hung_up(self, key: str) -> None:
        now_s = self._context.clock()
        for one in (self._fleet.child(key), self._zygote(key)):
            if one is not None and one.hung_up_s is None:
                one.hung_up_s = now_s
        self._context.connections.hang_up(key)

    # -- zygotes -------------------------------------------------------------------------------

    def _loaded(self, zygote: Zygote, said: messages.Loaded) -> None:
        context = self._context
        if zygote.state is not ZygoteState.LOADING:
            return
        zygote.state, zygote.since_s = ZygoteState.LOADED, context.clock()
        zygote.queues = zygote.settings.queues.names or said.queues
        if not self._reloader.loaded(zygote, said):
            self._fleet.zygote_failures, self._fleet.app_error = 0, ""
            context.app_name, context.storage_url = said.app_name, said.storage_url
            context.queues = zygote.queues
        context.log.emit(
            events.ZYGOTE_LOADED,
            generation=zygote.generation,
            tasks=said.tasks,
            periodic=said.periodic,
            queues=list(said.queues),
            import_ms=round(said.import_ms, 1),
            storage=said.storage_url,
        )
        if self._fleet.loaded_s is None:
            self._fleet.loaded_s = context.clock()

    def _load_failed(self, zygote: Zygote, said: messages.LoadFailed) -> None:
        zygote.rejected = True
        self._context.log.emit(
            events.APP_REJECTED,
            step=said.step,
            error=said.error,
            traceback=said.traceback or None,
            generation=zygote.generation,
        )
        if zygote.generation == self._fleet.candidate:
            self._reloader.fail(said.step, said.error)
        else:
            self._fleet.app_error = said.error

    def _unsafe(self, zygote: Zygote, said: messages.Unsafe) -> None:
        zygote.unsafe += said.offenders
        self._context.log.emit(
            events.ZYGOTE_UNSAFE,
            generation=zygote.generation,
            offenders=list(said.offenders),
            children="forked all the same" if said.forks else "new interpreters",
        )

    def _forked(self, said: messages.Forked) -> None:
        child = self._fleet.child(said.worker_id)
        if child is not None:
            child.apply(ChildEvent.FORKED, self._context.clock())
            self._register(child, said.pid)

    def _fork_failed(self, said: messages.ForkFailed) -> None:
        child = self._fleet.child(said.worker_id)
        if child is not None:
            child.boot.step, child.boot.error = "fork", said.error
            self._gone.append(Gone(child, None))

    # -- children ------------------------------------------------------------------------------

    def _register(self, child: Child, pid: int) -> None:
        """Learn a child's pid; it may be dead, and even reaped, by now."""
        if child.pid:
            return
        child.pid = pid
        if not self._context.connections.adopt(child.worker_id, pid):
            self._gone.append(Gone(child, self._take_stray(pid)))
            return
        if child.role == "worker":
            self._context.confine(child.number, pid)
        self._context.log.emit(
            events.WORKER_SPAWNED,
            worker=child.name,
            generation=child.generation,
            child_pid=pid,
        )

    def _take_stray(self, pid: int) -> Death | None:
        """Return the death of a pid that was reaped before it was known."""
        found = self._context.strays.pop(pid, None)
        return found[0] if found else None

    def _booted(self, child: Child, said: messages.Booted) -> None:
        child.boot.handles_signals = True
        child.apply(ChildEvent.BOOTED, self._context.clock())
        self._register(child, said.pid)

    def _boot_failed(self, child: Child, said: messages.BootFailed) -> None:
        child.boot.step, child.boot.error = said.step, said.error
        child.apply(ChildEvent.BOOT_FAILED, self._context.clock())
        self._context.log.emit(
            events.WORKER_BOOT_FAILED,
            worker=child.name,
            generation=child.generation,
            step=said.step,
            error=said.error,
        )

    def _ready(self, child: Child, said: messages.Ready) -> None:
        now_s = self._context.clock()
        child.storage_error = ""
        if not child.apply(ChildEvent.SERVES, now_s):
            return
        post = self._fleet.post_of(child)
        post.boots_failed = 0
        boot_ms = round((now_s - child.spawned_s) * 1000, 1)
        if child.role == "scheduler":
            self._context.log.emit(events.SCHEDULER_READY, boot_ms=boot_ms)
            return
        self._fleet.served = True
        self._context.log.emit(
            events.WORKER_READY,
            worker=child.number,
            generation=child.generation,
            boot_ms=boot_ms,
            loop=said.loop or None,
        )

    def _drained(self, child: Child, said: messages.Drained) -> None:
        child.drain.done = True
        child.apply(ChildEvent.DRAINED, self._context.clock())
        totals = self._context.totals
        totals.handed_back += said.handed_back
        totals.interrupted += said.interrupted
        if child.role == "worker":
            self._context.log.emit(
                events.WORKER_DRAINED,
                worker=child.number,
                generation=child.generation,
                finished=said.finished,
                handed_back=said.handed_back,
                interrupted=said.interrupted,
            )
