"""Carries out the actions that `policy.plan` asks for."""

from __future__ import annotations

from taskqd.ipc import messages
from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import Message, RecoveredAs
from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.policy.memory import RECYCLE_PAUSE_S, STOP_PAUSE_S
from taskqd.supervisor.policy.verdict import RecoveryTerms
from taskqd.supervisor.state import actions, observation, timeline
from taskqd.supervisor.state.actions import AT_ONCE, Action, Ladder
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.lifecycle import ChildEvent
from taskqd.supervisor.state.memory import MemoryMark
from taskqd.supervisor.state.timeline import Timeline

from .reaper import Reaper
from .recoveries import Recoveries
from .reloader import Reloader
from .spawner import Spawner
from .stacks import INSIST, Stacks
from .stopper import Stopper


class Executor:
    """Carries out one action after the other; `finished` is set by the last."""

    def __init__(
        self,
        context: MasterContext,
        spawner: Spawner,
        reloader: Reloader,
        stopper: Stopper,
        reaper: Reaper,
        recoveries: Recoveries,
        stacks: Stacks,
    ) -> None:
        self._context = context
        self._fleet = context.fleet
        self._spawner = spawner
        self._reloader = reloader
        self._stopper = stopper
        self._reaper = reaper
        self._recoveries = recoveries
        self._stacks = stacks
        self.finished: int | None = None
        """The exit code, once the last action is done."""

    def do(self, action: Action) -> None:
        """Carry out one action; the type checker knows that none is missing."""
        match action:
            case actions.StartZygote():
                self._spawner.start_zygote(*action)
            case actions.RetireZygote():
                self._spawner.retire_zygote(*action)
            case actions.KillZygote():
                self._spawner.kill_zygote(*action)
            case actions.SpawnChild():
                self._spawner.spawn(*action)
            case actions.Tell():
                self._tell(*action)
            case actions.DrainWorker():
                self._drain(*action)
            case actions.InterruptWorker():
                self._interrupt(*action)
            case actions.Kill():
                self._kill(*action)
            case actions.SendSignal():
                self._send_signal(*action)
            case actions.DeclareDead():
                self._declare_dead(*action)
            case actions.ShedWorker():
                self._shed(*action)
            case actions.RequestRecovery():
                self._request_recovery(*action)
            case actions.SendRecovery():
                self._recoveries.send(*action)
            case actions.BeginStop():
                self._stopper.begin_unasked(*action)
            case actions.RetireScheduler():
                self._stopper.retire_scheduler(*action)
            case actions.Finish():
                self._finish(*action)
            case _:
                self._reloader.do(action)

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
        child.drain.timeline = times
        child.apply(ChildEvent.DRAIN, self._context.clock())
        grace_s = max(0.0, times.interrupt_s - self._context.clock())
        self._context.connections.tell(worker_id, messages.Drain(grace_s=round(grace_s, 3)))

    def _interrupt(self, worker_id: str) -> None:
        child = self._child(worker_id)
        child.drain.interrupted = True
        self._stacks.ask(child)
        assert child.drain.timeline is not None
        patience_s = timeline.patience_s(child.drain.timeline, self._context.clock())
        self._context.connections.tell(worker_id, messages.Interrupt(round(patience_s, 3)))

    def _kill(
        self, worker_id: str, reason: str, ladder: Ladder, late: tuple[SlotView, ...]
    ) -> None:
        self._child(worker_id).condemn(reason, ladder, self._context.clock(), late)

    def _send_signal(self, worker_id: str, signal: str) -> None:
        child = self._child(worker_id)
        child.kill.taken += 1
        if signal == INSIST:
            self._stacks.ask(child, INSIST)
            return
        if child.stacks.readable_s is not None:
            self._report_hung(child)
        self._context.log.emit(
            events.WORKER_KILLED,
            worker=child.name,
            generation=child.generation,
            child_pid=child.pid,
            signal=signal,
            reason=child.kill.reason,
        )
        self._context.connections.signal(worker_id, signal)

    def _report_hung(self, child: Child) -> None:
        held = child.late or observation.running(self._context.board, child.number)
        job = held[0] if held else None
        self._context.log.emit(
            events.WORKER_HUNG,
            worker=child.name,
            generation=child.generation,
            child_pid=child.pid,
            reason=child.kill.reason,
            job_id=job.job_id if job else None,
            task=job.task if job else None,
            ran_s=round(self._context.clock() - job.started_ns / 1e9, 3) if job else None,
            stack=self._stacks.take(child),
        )

    def _declare_dead(self, worker_id: str) -> None:
        self._reaper.account_for(self._child(worker_id), None)

    def _shed(self, worker_id: str, reason: str, kill: bool) -> None:
        child, memory, now_s = self._child(worker_id), self._fleet.memory, self._context.clock()
        # The next looks tell whether it was enough.
        memory.mark = memory.glimpsed = MemoryMark.NONE
        memory.recycle_at_s, memory.stop_at_s = now_s + RECYCLE_PAUSE_S, now_s + STOP_PAUSE_S
        if kill:
            child.condemn(reason, AT_ONCE, now_s)
            return
        child.recycled = True
        self._context.log.emit(
            events.WORKER_RECYCLED,
            worker=child.number,
            generation=child.generation,
            successor=child.number,
            reason=reason,
        )
        self._drain(worker_id, timeline.begin(now_s, self._fleet.grace_s), ())

    def _request_recovery(self, worker_id: str, how: RecoveredAs) -> None:
        child = self._child(worker_id)
        held = observation.running(self._context.board, child.number)
        tokens = tuple(view.token for view in held)
        self._recoveries.request(child, tokens, RecoveryTerms(how, ""))

    def _finish(self, exit_code: int) -> None:
        self.finished = exit_code
