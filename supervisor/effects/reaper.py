"""Reaps: each dead child gets its verdict, its jobs go back, its place is filled again."""

from __future__ import annotations

from collections.abc import Callable

from taskqd.ipc import board
from taskqd.ipc.board import SlotView
from taskqd.logs import events
from taskqd.supervisor.context import COUNTERS, MasterContext
from taskqd.supervisor.host import syscalls
from taskqd.supervisor.host.syscalls import Death
from taskqd.supervisor.policy import respawn, verdict
from taskqd.supervisor.policy.verdict import Verdict
from taskqd.supervisor.state import observation
from taskqd.supervisor.state.fleet import Child, Post, Zygote, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildEvent

from .executor import Executor

STRAYS_KEPT_S = 10.0


class Reaper:
    def __init__(self, context: MasterContext, hands: Executor) -> None:
        self._context = context
        self._fleet = context.fleet
        self._executor = hands
        hands.on_gone = lambda child: self.account_for(child, None)
        self.hear_out: Callable[[str], None] = lambda _key: None
        """Takes in what a dead process had still said."""
        self.on_buried: Callable[[], None] = lambda: None
        """Called when a child is accounted for."""

    def reap_all(self) -> None:
        """Collect every child that has died, known or not."""
        while (pid := syscalls.next_dead()) is not None:
            child = self._child_of(pid)
            zygote = next((z for z in self._fleet.zygotes if z.pid == pid), None)
            if known := child.worker_id if child else zygote.key if zygote else "":
                self.hear_out(known)
            if child is not None:
                # What its jobs have started must not go on beside the next attempt, nor stay
                # behind when the daemon has stopped.
                syscalls.kill_group(pid)
            self._sort(syscalls.reap(pid), child, zygote)

    def _sort(self, death: Death, child: Child | None, zygote: Zygote | None) -> None:
        if child is not None:
            self.account_for(child, death)
        elif zygote is not None:
            self._bury_zygote(zygote, death)
        else:
            self._remember(death)

    def _child_of(self, pid: int) -> Child | None:
        return next((c for c in self._fleet.children() if c.pid == pid), None)

    def _remember(self, death: Death) -> None:
        now_s, strays = self._context.clock(), self._context.strays
        for pid in [p for p, (_, at_s) in strays.items() if now_s > at_s + STRAYS_KEPT_S]:
            del strays[pid]
        strays[death.pid] = (death, now_s)
        self._context.log.emit(
            events.PROCESS_REAPED, child_pid=death.pid, exit_code=death.returncode
        )

    def stray(self, pid: int) -> Death | None:
        """Return the death of a pid that was reaped before it was known."""
        found = self._context.strays.pop(pid, None)
        return found[0] if found else None

    # -- workers and scheduler -----------------------------------------------------------------

    def account_for(self, child: Child, death: Death | None) -> None:
        """Account for a child that is gone; `death` is None if it was never seen alive."""
        fleet, context = self._fleet, self._context
        judged = self._judge(child, death)
        held = observation.running(context.board, child.number)
        stack = context.connections.take_stack(child.worker_id)
        if child.role == "worker" and not child.drained and not child.recovery_requested:
            crashed = judged.crashed and not (child.interrupted or child.late)
            blamed = observation.blamed(context.board, child.number) if crashed else held
            owed = verdict.recovery_of(judged, blamed, child.late, interrupted=child.interrupted)
            text = verdict.with_stack(owed.verdict, stack or child.last_stack)
            self._executor.owe(child, blamed, owed.how, text, owed.late)
        self._report(child, death, judged, held, stack)
        self._settle_counters(child, judged)
        if child.ready_s is None and (held or context.board.row(child.number).get(board.READY)):
            # It served, and a job killed it before it could say so.
            child.ready_s, fleet.served = context.clock(), True
        post = fleet.post_of(child)
        if fleet.reload is not None and fleet.on_trial(post):
            step = "boot" if child.ready_s is None else "trial"
            fleet.reload.fail(step, f"the canary {judged.text}")
        self._reschedule(post, child, judged)
        child.apply(ChildEvent.DIED, context.clock())
        post.child = None
        fleet.observations.pop(child.worker_id, None)
        context.board.row(child.number).clear()
        context.connections.drop(child.worker_id)
        self.on_buried()

    def _judge(self, child: Child, death: Death | None) -> Verdict:
        killed = death is not None and death.returncode == -9
        oom_kills, worker_groups = (
            self._context.oom.take() if killed else 0,
            self._context.worker_groups,
        )
        over_bytes = 0
        if (
            killed
            and worker_groups is not None
            and child.role == "worker"
            and worker_groups.kills(child.number)
        ):
            over_bytes = worker_groups.limit_bytes
        return verdict.judge(
            death.returncode if death else None,
            drained=child.drained or (child.being_replaced and not child.killed_for),
            boot_error=child.boot_error,
            killed_for=child.killed_for,
            stopping=child.timeline is not None,
            oom_kills=oom_kills,
            over_bytes=over_bytes,
        )

    def _report(
        self,
        child: Child,
        death: Death | None,
        judged: Verdict,
        held: list[SlotView],
        stack: str,
    ) -> None:
        facts = {
            "worker": child.name,
            "generation": child.generation,
            "child_pid": child.pid,
            "cause": judged.cause,
            "verdict": judged.text,
            "exit_code": judged.exit_code,
            "signal": judged.signal,
            "uptime_s": round(self._context.clock() - child.spawned_s, 3),
        }
        if not judged.crashed:
            if stack:
                self._context.log.emit(
                    events.WORKER_STACKS,
                    worker=child.name,
                    generation=child.generation,
                    stack=stack,
                )
            self._context.log.emit(events.WORKER_EXITED, **facts)
            return
        self._context.log.emit(
            events.WORKER_CRASHED,
            **facts,
            jobs_held=[view.job_id for view in held],
            task=held[0].task if len(held) == 1 else None,
            rss_bytes_max=death.rss_bytes_max if death else None,
            cpu_s=round(death.cpu_s, 3) if death else None,
            stack=stack or None,
        )

    def _settle_counters(self, child: Child, judged: Verdict) -> None:
        totals = self._context.totals
        totals.deaths[judged.cause] += 1
        if child.role == "worker":
            done = observation.counters(self._context.board, child.number)
            totals.jobs.update(dict(zip(COUNTERS, done, strict=True)))

    def _reschedule(self, post: Post, child: Child, judged: Verdict) -> None:
        """Decide when the place is filled again."""
        now_s = self._context.clock()
        if child.role == "scheduler" and self._fleet.stop is None and not child.being_replaced:
            self._context.log.emit(events.SCHEDULER_REPLACED, reason=judged.text)
        if not judged.crashed:
            post.failures, post.spawn_at_s = 0, now_s
            return
        served_s = None if child.ready_s is None else now_s - child.ready_s
        jobs = sum(observation.counters(self._context.board, child.number))
        proven = respawn.proven(jobs, served_s)
        post.failures = respawn.failures_after(post.failures, proven=proven)
        if not proven:
            self._doubt(child, judged)
        wait_s = respawn.delay_s(post.failures, self._context.chance(), served=served_s is not None)
        post.spawn_at_s = now_s + wait_s
        if served_s is None:
            post.boots_failed += 1
            post.last_step, post.last_error = child.boot_step, judged.text

    def _doubt(self, child: Child, judged: Verdict) -> None:
        """An early death in a generation that is taking over speaks against it."""
        reload = self._fleet.reload
        # A system that cannot fork says nothing of the generation.
        if reload is None or child.generation != reload.generation or child.boot_step == "fork":
            return
        who = f"worker {child.name}" if child.role == "worker" else "the scheduler"
        step = "boot" if child.ready_s is None else "roll"
        reload.died(step, f"{who} of the new generation {judged.text}")

    # -- zygotes -------------------------------------------------------------------------------

    def _bury_zygote(self, zygote: Zygote, death: Death) -> None:
        context, fleet = self._context, self._fleet
        dismissed = zygote.state is ZygoteState.LEAVING
        told = dismissed or zygote.rejected
        loaded = zygote.state is ZygoteState.LOADED
        if not told:
            code = death.returncode
            context.log.emit(
                events.ZYGOTE_EXITED,
                generation=zygote.generation,
                child_pid=death.pid,
                exit_code=code if code >= 0 else None,
                signal=verdict.signal_name(-code) if code < 0 else None,
            )
        fleet.zygotes.remove(zygote)
        context.connections.drop(zygote.key)
        if fleet.reload is not None and zygote.generation == fleet.candidate:
            fleet.reload.fail("import", f"the process that imports the app {_how(death)}")
        elif not dismissed:
            fleet.zygote_failures = 0 if loaded else fleet.zygote_failures + 1
            wait_s = respawn.delay_s(fleet.zygote_failures, context.chance(), served=loaded)
            fleet.zygote_at_s = context.clock() + wait_s


def _how(death: Death) -> str:
    code = death.returncode
    return f"exited with {code}" if code >= 0 else f"was killed by {verdict.signal_name(-code)}"
