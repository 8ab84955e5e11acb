"""Acts: one method for each action that `plan` can ask for."""

from __future__ import annotations

from collections.abc import Callable

from taskqd.ipc import messages
from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import Message, RecoverWorker
from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.policy.memory import RECYCLE_PAUSE_S, STOP_PAUSE_S
from taskqd.supervisor.state import actions, observation, timeline
from taskqd.supervisor.state.actions import AT_ONCE, Action, Ladder
from taskqd.supervisor.state.fleet import Child, PendingRecovery, Stop
from taskqd.supervisor.state.lifecycle import ChildEvent
from taskqd.supervisor.state.timeline import Timeline, begin, cut, hasten

from .reloader import Reloader
from .spawner import Spawner

STACKS_S = 0.3
"""From a request for stacks until they are written."""
ASK, INSIST = "SIGUSR2", "SIGUSR1"
"""Requests for stacks: one that a child answers between two acts, one that its faulthandler
answers at once, whatever its threads do: that can crash them."""


class Executor:
    """Carries out actions on the context's fleet."""

    def __init__(self, context: MasterContext, spawner: Spawner, reloader: Reloader) -> None:
        self._context = context
        self._fleet = context.fleet
        self._reloader = reloader
        self.finished: int | None = None
        """The exit code, once the last action is done."""
        self._acts: dict[type, Callable[..., None]] = {
            actions.StartZygote: spawner.start_zygote,
            actions.RetireZygote: spawner.retire_zygote,
            actions.KillZygote: spawner.kill_zygote,
            actions.SpawnChild: spawner.spawn,
            actions.Tell: self._tell,
            actions.DrainWorker: self._drain,
            actions.InterruptWorker: self._interrupt,
            actions.Kill: self._condemn,
            actions.ShedWorker: self._free_memory,
            actions.SendSignal: self._signal,
            actions.DeclareDead: self._give_up,
            actions.RequestRecovery: self._owe,
            actions.SendRecovery: self._pay,
            actions.BeginStop: self._begin_stop,
            actions.RetireScheduler: self._retire,
            actions.Finish: self._finish,
            **reloader.acts,
        }
        self.on_gone: Callable[[Child], None] = lambda _child: None
        """Called with a child that is given up; the reaper's business."""
        self.on_stop: Callable[[], None] = lambda: None
        """Called when a stop begins."""

    def do(self, action: Action) -> None:
        self._acts[type(action)](*action)

    # -- children ------------------------------------------------------------------------------

    def _child(self, worker_id: str) -> Child:
        child = self._fleet.child(worker_id)
        assert child is not None
        return child

    def _tell(self, worker_id: str, message: Message) -> None:
        child = self._child(worker_id)
        child.quiet = isinstance(message, messages.Quiet)
        if isinstance(message, messages.Resume):
            child.asks_s = self._context.clock()
        if isinstance(message, messages.Serve):
            child.queues = message.queues
        self._context.connections.tell(worker_id, message)

    def _drain(self, worker_id: str, times: Timeline, late: tuple[SlotView, ...]) -> None:
        child = self._child(worker_id)
        child.late = late
        child.timeline = times
        child.apply(ChildEvent.DRAIN, self._context.clock())
        grace_s = max(0.0, times.interrupt_s - self._context.clock())
        self._context.connections.tell(worker_id, messages.Drain(grace_s=round(grace_s, 3)))

    def _interrupt(self, worker_id: str) -> None:
        child = self._child(worker_id)
        child.interrupted = True
        self.ask_stacks(child)
        assert child.timeline is not None
        patience_s = timeline.patience_s(child.timeline, self._context.clock())
        self._context.connections.tell(worker_id, messages.Interrupt(round(patience_s, 3)))

    def _condemn(
        self,
        worker_id: str,
        reason: str,
        ladder: Ladder,
        late: tuple[SlotView, ...] = (),
    ) -> None:
        child = self._child(worker_id)
        child.late = late
        child.killed_for, child.ladder, child.rungs = reason, ladder, 0
        child.apply(ChildEvent.CONDEMNED, self._context.clock())

    def _free_memory(self, worker_id: str, reason: str, kill: bool) -> None:
        child, memory, now_s = self._child(worker_id), self._fleet.memory, self._context.clock()
        # The next looks tell whether it was enough.
        memory.mark = memory.glimpsed = 0
        memory.recycle_at_s, memory.stop_at_s = now_s + RECYCLE_PAUSE_S, now_s + STOP_PAUSE_S
        if kill:
            self._condemn(worker_id, reason, AT_ONCE)
            return
        child.recycled = True
        self._context.log.emit(
            events.WORKER_RECYCLED,
            worker=child.number,
            generation=child.generation,
            successor=child.number,
            reason=reason,
        )
        self._drain(worker_id, begin(now_s, self._fleet.grace_s), ())

    def condemn_garbled(self, child: Child, what: str) -> None:
        self._condemn(child.worker_id, f"it said what is no message: {what}", AT_ONCE)

    def _signal(self, worker_id: str, signal: str) -> None:
        child = self._child(worker_id)
        child.rungs += 1
        if signal == INSIST:
            self.ask_stacks(child, INSIST)
            return
        if child.stacks_at_s is not None:
            self._report_hung(child)
        self._context.log.emit(
            events.WORKER_KILLED,
            worker=child.name,
            generation=child.generation,
            child_pid=child.pid,
            signal=signal,
            reason=child.killed_for,
        )
        self._context.connections.signal(worker_id, signal)

    def _report_hung(self, child: Child) -> None:
        child.stacks_at_s = None
        held = child.late or observation.running(self._context.board, child.number)
        job = held[0] if held else None
        child.last_stack = self._context.connections.take_stack(child.worker_id)
        self._context.log.emit(
            events.WORKER_HUNG,
            worker=child.name,
            generation=child.generation,
            child_pid=child.pid,
            reason=child.killed_for,
            job_id=job.job_id if job else None,
            task=job.task if job else None,
            ran_s=round(self._context.clock() - job.started_ns / 1e9, 3) if job else None,
            stack=child.last_stack,
        )

    def ask_stacks(self, child: Child, signal: str = ASK) -> None:
        """Let it write its stacks, to be read a moment later."""
        # Before it has booted it has no handler yet, and the signal would kill it.
        if child.booted:
            self._context.connections.signal(child.worker_id, signal)
            child.stacks_insisted = signal == INSIST
            child.stacks_at_s = self._context.clock() + STACKS_S

    def insist_on_stacks(self, child: Child) -> None:
        self.ask_stacks(child, INSIST)

    def _give_up(self, worker_id: str) -> None:
        self.on_gone(self._child(worker_id))

    # -- pending_recoveries ---------------------------------------------------------------------------------

    def _owe(self, worker_id: str, how: str) -> None:
        child = self._child(worker_id)
        self.owe(child, observation.running(self._context.board, child.number), how, "")

    def owe(
        self,
        child: Child,
        held: list[SlotView],
        how: str,
        verdict: str,
        late: tuple[int, ...] = (),
    ) -> None:
        """Write down that what `child` holds must be given back; it had started `held`."""
        order = RecoverWorker(
            worker_id=child.worker_id,
            running=tuple(view.token for view in held),
            how=how,  # type: ignore[arg-type]
            verdict=verdict,
            late=late,
        )
        child.recovery_requested = True
        self._fleet.pending_recoveries[child.worker_id] = PendingRecovery(order)

    def _pay(self, worker_id: str) -> None:
        scheduler = self._fleet.scheduler_ready()
        assert scheduler is not None
        debt = self._fleet.pending_recoveries[worker_id]
        debt.sent_to = scheduler.worker_id
        self._context.connections.tell(scheduler.worker_id, debt.order)

    # -- the daemon ----------------------------------------------------------------------------

    def _begin_stop(self, cause: str, exit_code: int, now: bool, error: str) -> None:
        if error:
            self._context.log.emit(events.MASTER_FAILED, error=error, exit_code=exit_code)
        self.begin_stop(cause, exit_code)
        if now:
            self.hurry(kill=True)

    def begin_stop(self, cause: str, exit_code: int = 0) -> Stop:
        context, fleet = self._context, self._fleet
        fleet.stop = Stop(begin(context.clock(), fleet.grace_s), cause, exit_code)
        if not exit_code:
            context.log.emit(events.MASTER_DRAINING, signal=cause, grace_s=fleet.grace_s)
        self._reloader.stop()
        scheduler = fleet.scheduler.child
        if scheduler is not None:
            context.connections.tell(scheduler.worker_id, messages.Drain(grace_s=fleet.grace_s))
        self.on_stop()
        return fleet.stop

    def hurry(self, *, kill: bool) -> None:
        """Move a stop forward: end the drain now, or kill now."""
        context, fleet = self._context, self._fleet
        assert fleet.stop is not None
        now_s = context.clock()
        sooner = cut if kill else hasten
        fleet.stop.timeline = sooner(fleet.stop.timeline, now_s)
        for child in fleet.living_workers():
            if child.timeline is not None:
                child.timeline = fleet.stop.timeline
            if kill and child.killed_for:
                child.ladder, child.rungs = AT_ONCE, 0

    def _retire(self) -> None:
        fleet = self._fleet
        assert fleet.stop is not None
        assert fleet.scheduler.child is not None
        fleet.stop.retired = True
        fleet.scheduler.child.apply(ChildEvent.DRAIN, self._context.clock())
        self._context.connections.tell(fleet.scheduler.child.worker_id, messages.Retire())

    def _finish(self, exit_code: int) -> None:
        self.finished = exit_code
