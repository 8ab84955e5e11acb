"""Takes in what zygotes, workers and scheduler say, and writes it into the fleet."""

from __future__ import annotations

from collections.abc import Callable

from taskqd.ipc import messages
from taskqd.ipc.messages import Message
from taskqd.logs import events
from taskqd.supervisor.context import Connection, MasterContext
from taskqd.supervisor.host.syscalls import Death
from taskqd.supervisor.state import observation
from taskqd.supervisor.state.fleet import Child, Zygote, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildEvent

from .executor import Executor
from .reaper import Reaper
from .reloader import Reloader
from .spawner import Spawner


class Inbox:
    def __init__(
        self,
        context: MasterContext,
        spawner: Spawner,
        hands: Executor,
        reaper: Reaper,
        reloader: Reloader,
    ) -> None:
        self._context = context
        self._fleet = context.fleet
        self._spawner = spawner
        self._executor = hands
        self._reaper = reaper
        self._reloader = reloader
        self.on_loaded: Callable[[], None] = lambda: None
        """Called when the first zygote has told the app's name."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called when a worker gets ready."""
        self._lost_s: float | None = None
        """When the storage was first missed; None: nobody misses it."""
        self._told_refused = False
        self._posthumous: list[tuple[Child, Death | None]] = []
        """Children that were reaped before their pid was known."""
        self._child_says: dict[type[Message], Callable[..., None]] = {
            messages.Booted: self._booted,
            messages.BootFailed: self._boot_failed,
            messages.Ready: self._ready,
            messages.StorageLost: self._storage_lost,
            messages.StorageRestored: self._storage_restored,
            messages.Empty: self._empty,
            messages.Drained: self._drained,
            messages.WorkerRecovered: self._took_back,
            messages.Counted: self._counted,
        }
        self._zygote_says: dict[type[Message], Callable[..., None]] = {
            messages.Files: lambda _zygote, said: context.file_watcher.add(said.paths),
            messages.Loaded: self._loaded,
            messages.LoadFailed: self._load_failed,
            messages.Unsafe: self._unsafe,
            messages.Forked: self._forked,
            messages.ForkFailed: self._fork_failed,
        }

    def listen(self, connection: Connection) -> bool:
        """Take in what has come on one channel; return whether that was something."""
        heard = connection.channel.receive()
        for message in heard.messages:
            self._hear(connection.key, message)
        if heard.garbled:
            self._garbled(connection.key, heard.garbled)
        if heard.garbled or not connection.channel.open:
            self._hung_up(connection.key)
        while self._posthumous:
            child, death = self._posthumous.pop()
            if child.alive:
                self._reaper.account_for(child, death)
        return bool(heard.messages)

    def hear_out(self, key: str) -> None:
        """Take in the last words of a process that is dead.

        law: not up to the end of file.  A process that it has forked may hold its end open.
        """
        connection = self._context.connections.get(key)
        while (
            connection is not None and connection.channel.fileno() >= 0 and self.listen(connection)
        ):
            pass

    def _hear(self, key: str, message: Message) -> None:
        child = self._fleet.child(key)
        zygote = self._zygote(key)
        if child is not None:
            self._child_says[type(message)](child, message)
        elif zygote is not None:
            self._zygote_says[type(message)](zygote, message)

    def _zygote(self, key: str) -> Zygote | None:
        return next((z for z in self._fleet.zygotes if z.key == key), None)

    def _garbled(self, key: str, what: str) -> None:
        """Who speaks nonsense is in no state to be trusted: it goes, and says why."""
        child = self._fleet.child(key)
        zygote = self._zygote(key)
        if child is not None:
            self._executor.condemn_garbled(child, what)
        elif zygote is not None:
            self._spawner.kill_zygote(zygote.generation, f"it said what is no message: {what}")

    def _hung_up(self, key: str) -> None:
        now_s = self._context.clock()
        for one in (self._fleet.child(key), self._zygote(key)):
            if one is not None and one.hung_up_s is None:
                one.hung_up_s = now_s
        self._context.connections.hang_up(key)

    def _counted(self, _child: Child, said: messages.Counted) -> None:
        self._context.depths, self._context.counted_s = said.queues, self._context.clock()

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
            self.on_loaded()

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

    def _forked(self, _zygote: Zygote, said: messages.Forked) -> None:
        child = self._fleet.child(said.worker_id)
        if child is not None:
            child.apply(ChildEvent.FORKED, self._context.clock())
            self._register(child, said.pid)

    def _fork_failed(self, _zygote: Zygote, said: messages.ForkFailed) -> None:
        child = self._fleet.child(said.worker_id)
        if child is not None:
            child.boot_step, child.boot_error = "fork", said.error
            self._reaper.account_for(child, None)

    # -- children ------------------------------------------------------------------------------

    def _register(self, child: Child, pid: int) -> None:
        """Learn a child's pid; it may be dead, and even reaped, by now."""
        if child.pid:
            return
        child.pid = pid
        if not self._context.connections.adopt(child.worker_id, pid):
            self._posthumous.append((child, self._reaper.stray(pid)))
            return
        if child.role == "worker":
            self._context.confine(child.number, pid)
        self._context.log.emit(
            events.WORKER_SPAWNED,
            worker=child.name,
            generation=child.generation,
            child_pid=pid,
        )

    def _booted(self, child: Child, said: messages.Booted) -> None:
        child.booted = True
        child.apply(ChildEvent.BOOTED, self._context.clock())
        self._register(child, said.pid)

    def _boot_failed(self, child: Child, said: messages.BootFailed) -> None:
        child.boot_step, child.boot_error = said.step, said.error
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
        self.look_for_the_end_of_an_outage()
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
        self.on_ready()

    def _storage_lost(self, child: Child, said: messages.StorageLost) -> None:
        """One line for an outage, and one more where it turns out that waiting does not help."""
        begins = self._lost_s is None
        if begins:
            self._lost_s, self._told_refused = self._context.clock(), False
        if begins or (said.refused and not self._told_refused):
            self._told_refused = said.refused
            self._context.log.emit(events.STORAGE_LOST, error=said.error)
        child.storage_error = said.error or "lost"

    def _storage_restored(self, child: Child, _said: messages.StorageRestored) -> None:
        child.storage_error = ""
        self.look_for_the_end_of_an_outage()

    def look_for_the_end_of_an_outage(self) -> None:
        """One line for an outage, however many children have met it or were replaced in it.

        That the last one who missed the storage has died says nothing; a worker that serves does.
        """
        if self._lost_s is None or any(child.storage_error for child in self._fleet.children()):
            return
        if self._fleet.ready():
            down_s = round(self._context.clock() - self._lost_s, 3)
            self._context.log.emit(events.STORAGE_RESTORED, down_s=down_s)
            self._lost_s = None

    def _empty(self, child: Child, _said: messages.Empty) -> None:
        child.empty_at = observation.counters(self._context.board, child.number)

    def _drained(self, child: Child, said: messages.Drained) -> None:
        child.drained = True
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

    def _took_back(self, _scheduler: Child, said: messages.WorkerRecovered) -> None:
        debt = self._fleet.pending_recoveries.get(said.worker_id)
        if debt is None:
            return
        del self._fleet.pending_recoveries[said.worker_id]
        totals = self._context.totals
        totals.orphaned += said.orphaned
        totals.interrupted += said.interrupted
        totals.handed_back += said.released
