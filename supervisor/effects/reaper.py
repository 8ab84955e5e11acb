"""Reaps: each dead child gets its verdict, its jobs are recovered, its post is filled again."""

from __future__ import annotations

from collections.abc import Iterable

from taskqd.ipc.board import SlotView
from taskqd.logs import events
from taskqd.supervisor.context import COUNTERS, MasterContext
from taskqd.supervisor.host import syscalls
from taskqd.supervisor.host.syscalls import Death
from taskqd.supervisor.policy import respawn, verdict
from taskqd.supervisor.policy.verdict import Verdict
from taskqd.supervisor.state import observation
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Post, Zygote, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildEvent
from taskqd.supervisor.state.observation import Remains

from .inbox import Gone, Inbox
from .recoveries import Recoveries

STRAYS_KEPT_S = 10.0
"""From the death of a child until its zygote, or it itself, has told its pid."""


class Reaper:
    def __init__(self, context: MasterContext, inbox: Inbox, recoveries: Recoveries) -> None:
        self._context = context
        self._fleet = context.fleet
        self._inbox = inbox
        self._recoveries = recoveries

    def reap_all(self) -> None:
        """Collect every child that has died, known or not."""
        while (pid := syscalls.next_dead()) is not None:
            child = next((c for c in self._fleet.children() if c.pid == pid), None)
            zygote = next((z for z in self._fleet.zygotes if z.pid == pid), None)
            if known := child.worker_id if child else zygote.key if zygote else "":
                self._hear_out(known)
            if child is not None:
                # What its jobs have started must not go on beside the next attempt, nor stay
                # behind when the daemon has stopped.
                syscalls.kill_group(pid)
            death = syscalls.reap(pid)
            if child is not None:
                self.account_for(child, death)
            elif zygote is not None:
                self._account_for_zygote(zygote, death)
            else:
                self._remember(death)

    def account_for_all(self, gone: Iterable[Gone]) -> None:
        """Account for the children of which the inbox has heard that they are dead."""
        for child, death in gone:
            # law: its last words first: a newborn that was told to go has said that it has
            # drained, before anybody knew its pid
            # (test_a_newborn_that_was_told_to_go_was_said_to_have_crashed).
            if child.alive:
                self._hear_out(child.worker_id)
            if child.alive:
                self.account_for(child, death)

    def _hear_out(self, key: str) -> None:
        """Take in the last words of a process that is dead.

        law: not up to the end of file: a process that it has forked may hold its end open
        (test_last_words_are_heard_though_another_process_holds_the_channel_open).
        """
        connection = self._context.connections.get(key)
        while connection is not None and connection.channel.fileno() >= 0:
            heard = self._inbox.listen(connection)
            self.account_for_all(heard.gone)
            if not heard.anything:
                return

    def _remember(self, death: Death) -> None:
        """Keep the death of a pid that nobody knows: it may be that of a child just forked."""
        now_s, strays = self._context.clock(), self._context.strays
        for pid in [p for p, (_, at_s) in strays.items() if now_s > at_s + STRAYS_KEPT_S]:
            del strays[pid]
        strays[death.pid] = (death, now_s)
        self._context.log.emit(
            events.PROCESS_REAPED, child_pid=death.pid, exit_code=death.returncode
        )

    # -- workers and scheduler -----------------------------------------------------------------

    def account_for(self, child: Child, death: Death | None) -> None:
        """Account for a child that is gone; `death` is None if it was never seen alive."""
        fleet, context = self._fleet, self._context
        left = observation.remains(context.board, child.number)
        judged = self._judge(child, death)
        stack = context.connections.take_stack(child.worker_id)
        if child.role == "worker" and not child.drain.done and not child.drain.recovery_requested:
            self._recover(child, judged, left, stack)
        self._report(child, death, judged, left.running, stack)
        self._count(child, judged, left)
        if child.ready_s is None and left.served:
            # It served, and a job killed it before it could say so.
            child.ready_s, fleet.served = context.clock(), True
        post = fleet.post_of(child)
        if fleet.reload is not None and fleet.on_trial(post):
            step = "boot" if child.ready_s is None else "trial"
            fleet.reload.fail(step, f"the canary {judged.text}")
        self._reschedule(post, child, judged, left)
        child.apply(ChildEvent.DIED, context.clock())
        post.child = None
        fleet.observations.pop(child.worker_id, None)
        context.board.row(child.number).clear()
        context.connections.drop(child.worker_id)

    def _recover(self, child: Child, judged: Verdict, left: Remains, stack: str) -> None:
        """Have given back what it held, with the verdict and the stack as the reason."""
        interrupted = child.drain.interrupted or judged.cause == "unsettled"
        crashed = judged.crashed and not (interrupted or child.late)
        held = left.blamed if crashed else left.running
        terms = verdict.recovery_of(judged, held, child.late, interrupted=interrupted)
        text = verdict.with_stack(terms.verdict, stack or child.stacks.last)
        tokens = tuple(view.token for view in held)
        self._recoveries.request(child, tokens, terms._replace(verdict=text))

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
        # A scheduler that was told to go, and waits for a silent storage, is killed by our end.
        stop = self._fleet.stop
        outwaited = killed and child.role == "scheduler" and stop is not None and stop.retired
        return verdict.judge(
            death.returncode if death else None,
            drained=child.drain.done or (child.being_replaced and not child.kill.reason),
            boot_error=child.boot.error,
            killed_for=child.kill.reason or ("stop: its grace is over" if outwaited else ""),
            stopping=child.drain.timeline is not None or outwaited,
            storage_lost=bool(child.storage_error),
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

    def _count(self, child: Child, judged: Verdict, left: Remains) -> None:
        totals = self._context.totals
        totals.deaths[judged.cause] += 1
        if child.role == "worker":
            totals.jobs.update(dict(zip(COUNTERS, left.counters, strict=True)))
            totals.fenced += left.fenced

    def _reschedule(self, post: Post, child: Child, judged: Verdict, left: Remains) -> None:
        """Decide when the place is filled again."""
        now_s = self._context.clock()
        if child.role == "scheduler" and self._fleet.stop is None and not child.being_replaced:
            self._context.log.emit(events.SCHEDULER_REPLACED, reason=judged.text)
        if not judged.crashed:
            post.failures, post.spawn_at_s = 0, now_s
            return
        served_s = None if child.ready_s is None else now_s - child.ready_s
        proven = respawn.proven(sum(left.counters), served_s)
        post.failures = respawn.failures_after(post.failures, proven=proven)
        if not proven:
            self._doubt(child, judged)
        wait_s = respawn.delay_s(post.failures, self._context.chance(), served=served_s is not None)
        post.spawn_at_s = now_s + wait_s
        if served_s is None:
            post.boots_failed += 1
            post.last_step, post.last_error = child.boot.step, judged.text

    def _doubt(self, child: Child, judged: Verdict) -> None:
        """An early death in a generation that is taking over speaks against it."""
        reload = self._fleet.reload
        # A system that cannot fork says nothing of the generation.
        if reload is None or child.generation != reload.generation or child.boot.step == "fork":
            return
        who = f"worker {child.name}" if child.role == "worker" else "the scheduler"
        step = "boot" if child.ready_s is None else "roll"
        reload.died(step, f"{who} of the new generation {judged.text}")

    # -- zygotes -------------------------------------------------------------------------------

    def _account_for_zygote(self, zygote: Zygote, death: Death) -> None:
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
