"""The protocol of leases as a state machine, small enough to look at every interleaving.  Pure.

A state holds what the storage knows (places of jobs, tokens, receipts), what each worker believes
(which may be older: replies get lost), and how many faults may still happen.  `moves` gives every
next state.  Each `Move` names the call as a real storage could be asked to do it, and what it has to
answer, so that a path through the states is a test of a real storage (`replay.py`).

Each worker is of a node of its own.  Node 0 may be cut off from a storage that others reach; an outage
of the storage ends every lease, and nobody has died.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

JOBS = WORKERS = (0, 1)
End = tuple[int, int, str]
"""(job, token, kind) of an end: "ack" or "bury"."""
_KINDS = {"ended": "ack", "lost": "bury"}
"""Stage of a task -> how its lease ends."""


class Taken(NamedTuple):
    """What is kept of a lease whose node was not heard of for too long."""

    worker: int
    token: int
    attempts: int
    """As counted then; more means that the job has started again since."""
    blamed: bool
    """Its crash stands until the node is heard of again."""


class Job(NamedTuple):
    place: str = ""
    """"" (nobody has sent it), "queued", "held", "done" or "dead"."""
    worker: int = -1
    token: int = 0
    attempts: int = 0
    crashes: int = 0
    interruptions: int = 0
    suspect: bool = False
    taken: Taken | None = None
    starts: int = 0
    excused: int = 0
    """Starts that something has excused: a death, a stop, a node that was cut off."""
    deaths: int = 0
    """Crashes that did happen."""
    ends: int = 0
    """Acknowledgements that took effect."""
    stolen: bool = False
    """It was ended by one that did not hold it."""


class Task(NamedTuple):
    """What a worker believes to hold."""

    job: int
    token: int
    stage: str
    """"waits", "runs", "ended", "lost" (given up unstarted) or "refused" (its end did not count)."""
    spent: bool = False
    """It is to run at most once, and was begun before."""


class View(NamedTuple):
    """One worker."""

    tasks: tuple[Task, ...] = ()
    deaf: bool = False
    """A reply was lost: it has to look at its holdings before anything else."""
    dead: bool = False
    """Crashed, and its master has not reported it yet."""
    late: str = ""
    """What the dead one had sent, and the storage has not done yet: "lease", "settle"."""
    gone: bool = False
    """Its death was reported."""
    fenced: bool = False
    """Its node was once taken for dead; then what it ended may be denied, which harms nobody."""
    receipt: tuple[tuple[int, int], ...] = ()
    """(job, token) that the storage keeps of its latest outcomes."""


class Faults(NamedTuple):
    """How many of each may still happen."""

    losses: int = 1
    """Requests or replies that get lost."""
    crashes: int = 1
    expiries: int = 1
    """Node 0 is not heard of for as long as its lease, while others are."""
    stops: int = 1
    """Running jobs that are interrupted, waiting ones that are given back."""
    outages: int = 0
    """The storage is away for longer than a lease."""


class State(NamedTuple):
    jobs: tuple[Job, ...] = (Job(), Job())
    line: tuple[int, ...] = ()
    """The queue."""
    suspects: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    """In the order of their leases."""
    views: tuple[View, ...] = (View(), View())
    served: tuple[bool, bool] = (True, True)
    """The node is registered."""
    fresh: tuple[bool, bool] = (True, True)
    """The node's lease is not over."""
    steady: bool = True
    """The storage has served without a break for as long as a lease."""
    once: tuple[int, ...] = ()
    """Jobs that are to run at most once."""
    told: tuple[str, ...] = ("", "")
    """What the client knows of each job: "", "unsure" or "ok"."""
    faults: Faults = Faults()


class Move(NamedTuple):
    call: str
    args: tuple[Any, ...]
    answer: Any
    """What the storage says to the call, None where it is not called."""
    state: State


class Rules(NamedTuple):
    """The protocol; each rule can be broken, to show that the laws would notice."""

    fences: bool = True
    """An outcome counts only with the current token of the current worker."""
    receipts: bool = True
    """A repeat of a worker's latest outcomes is told that it took effect."""
    reconciles: bool = True
    """A worker that missed a reply looks at its holdings."""
    recovers_unheard: bool = True
    """A dead worker's jobs are taken back, also those that it never heard of."""
    buries_the_dead: bool = True
    """Who was reported dead gets no jobs any more."""
    known_ids: bool = True
    """An id that is known is not enqueued again."""
    outlasts_outages: bool = True
    """A lease that ran out counts only if the storage has served for so long without a break."""
    takes_back: bool = True
    """A node that is heard of again has not crashed."""
    late_ends: bool = True
    """The end of a job that was taken counts as long as it has not started again."""


# -- what the storage does -------------------------------------------------------------------------


def _job(state: State, job: int, **changes: Any) -> State:
    jobs = list(state.jobs)
    jobs[job] = jobs[job]._replace(**changes)
    return state._replace(jobs=tuple(jobs))


def _view(state: State, worker: int, **changes: Any) -> State:
    views = list(state.views)
    views[worker] = views[worker]._replace(**changes)
    return state._replace(views=tuple(views))


def put(rules: Rules, state: State, job: int) -> tuple[State, bool]:
    if state.jobs[job].place and rules.known_ids:
        return state, False
    state = _job(state, job, place="queued")
    return state._replace(line=(*state.line, job)), True


def lease(
    rules: Rules, state: State, worker: int, *, alone: bool
) -> tuple[State, tuple[int, ...] | None]:
    """None: refused, because the node is not known, or the worker was reported dead."""
    if not state.served[worker] or (rules.buries_the_dead and state.views[worker].gone):
        return state, None
    waiting = state.suspects if alone and state.suspects else state.line
    if not waiting:
        return state, ()
    job = waiting[0]
    state = _leave(state, job)
    state = _job(state, job, place="held", worker=worker, token=state.jobs[job].token + 1)
    return state._replace(held=(*state.held, job)), (job,)


def _leave(state: State, job: int) -> State:
    line, suspects, held = (
        tuple(other for other in place if other != job)
        for place in (state.line, state.suspects, state.held)
    )
    return state._replace(line=line, suspects=suspects, held=held)


def settle(
    rules: Rules, state: State, worker: int, ended: tuple[End, ...]
) -> tuple[State, tuple[bool, ...]]:
    receipt = state.views[worker].receipt
    took = []
    for job, token, kind in ended:
        now = state.jobs[job]
        current = (now.place, now.worker, now.token) == ("held", worker, token)
        if current or (not rules.fences and now.place == "held"):
            state = _end(state, job, kind)
            state = _job(state, job, stolen=not current)
        took.append(current or (rules.receipts and (job, token) in receipt))
    fresh = tuple(end[:2] for end, ok in zip(ended, took, strict=True) if ok)
    return _view(state, worker, receipt=fresh) if fresh else state, tuple(took)


def _end(state: State, job: int, kind: str) -> State:
    place, ends = ("done", 1) if kind == "ack" else ("dead", 0)
    ends += state.jobs[job].ends
    return _job(_leave(state, job), job, place=place, worker=-1, ends=ends, suspect=False)


def settle_late(
    rules: Rules, state: State, worker: int, ended: tuple[End, ...]
) -> tuple[State, tuple[bool, ...]]:
    """Ends of leases that are over."""
    took = []
    for job, token, kind in ended:
        now, taken = state.jobs[job], state.jobs[job].taken
        mine = taken is not None and taken[:3] == (worker, token, now.attempts)
        if mine and rules.late_ends and now.place in ("queued", "dead"):
            state = _end(state, job, kind)
            took.append(True)
        else:
            took.append(mine and now.place == "done")
    return state, tuple(took)


def give_back(
    state: State, worker: int, job: int, token: int, *, interrupted: bool
) -> tuple[State, bool]:
    now = state.jobs[job]
    if (now.place, now.worker, now.token) != ("held", worker, token):
        return state, (job, token) in state.views[worker].receipt
    state = _to_head(state, job, suspect=now.suspect and not interrupted)
    state = _job(
        state,
        job,
        attempts=now.attempts + interrupted,
        interruptions=now.interruptions + interrupted,
        excused=now.excused + interrupted,
    )
    return _view(state, worker, receipt=((job, token),)), True


def _to_head(state: State, job: int, *, suspect: bool) -> State:
    state = _job(_leave(state, job), job, place="queued", worker=-1, suspect=suspect)
    if suspect:
        return state._replace(suspects=(job, *state.suspects))
    return state._replace(line=(job, *state.line))


def take_back(
    rules: Rules, state: State, worker: int, running: tuple[tuple[int, int], ...] | None
) -> tuple[State, tuple[tuple[int, str, int, bool], ...]]:
    """`running`: (job, token) of those that had started, None for "perhaps all".

    Returns (job, how, crashes, suspect) of each.
    """
    held = [job for job in state.held if state.jobs[job].worker == worker]
    if not rules.recovers_unheard:
        held = [job for job in held if any(task.job == job for task in state.views[worker].tasks)]
    started = [job for job in held if running is None or (job, state.jobs[job].token) in running]
    found = []
    for job in reversed(held):
        now, crashed = state.jobs[job], job in started
        suspect = (len(started) > 1) if crashed else now.suspect
        attempts, crashes = now.attempts + crashed, now.crashes + crashed
        state = _to_head(state, job, suspect=suspect)
        state = _job(state, job, attempts=attempts, crashes=crashes)
        if running is None:
            state = _job(state, job, taken=Taken(worker, now.token, attempts, blamed=True))
        elif crashed:
            state = _job(state, job, deaths=now.deaths + 1, excused=now.excused + 1)
        found.append((job, "orphaned" if crashed else "released", crashes, suspect))
    return state, tuple(sorted(found))


def take_node(rules: Rules, state: State, node: int) -> tuple[State, Any]:
    """What the worker of a silent node holds goes back."""
    after, found = take_back(rules, state, node, None)
    after = _view(after, node, receipt=(), fenced=True)
    return after._replace(served=_set(after.served, node, value=False)), found


def hear(rules: Rules, state: State, node: int) -> tuple[State, int]:
    """The node is registered, so that it has not crashed: what it ran was interrupted.

    Returns how many crashes that were.
    """
    state = state._replace(
        served=_set(state.served, node, value=True), fresh=_set(state.fresh, node, value=True)
    )
    blamed = [job for job in JOBS if _is_blamed(state.jobs[job], node)]
    count = sum(state.jobs[job].place != "done" for job in blamed)
    if not rules.takes_back:
        return state, count
    for job in reversed([*(j for j in state.suspects if j in blamed)]):
        state = _to_head(state, job, suspect=False)
    for job in blamed:
        now = state.jobs[job]
        assert now.taken is not None
        taken = now.taken._replace(blamed=False)
        interruptions = now.interruptions + 1
        state = _job(state, job, crashes=now.crashes - 1, interruptions=interruptions, taken=taken)
    return state, count


def _is_blamed(job: Job, node: int) -> bool:
    return job.taken is not None and job.taken.blamed and job.taken.worker == node


def _set(pair: tuple[bool, bool], place: int, *, value: bool) -> tuple[bool, bool]:
    return (value, pair[1]) if place == 0 else (pair[0], value)


# -- who calls it ----------------------------------------------------------------------------------


def moves(rules: Rules, state: State) -> Iterator[Move]:
    """Yield all that can happen next."""
    for job in JOBS:
        yield from _client(rules, state, job)
    for worker in WORKERS:
        view = state.views[worker]
        if view.late:
            yield from _late(rules, state, worker)
        if view.dead:
            yield from _report(rules, state, worker)
        elif not view.gone:
            yield from (_deaf if view.deaf else _well)(rules, state, worker)
            yield from _crash(state, worker)
    yield from _node(rules, state)


def _less(state: State, fault: str) -> State:
    left = getattr(state.faults, fault) - 1
    return state._replace(faults=state.faults._replace(**{fault: left}))


def _told(state: State, job: int, what: str) -> State:
    told = list(state.told)
    told[job] = what
    return state._replace(told=tuple(told))


def _client(rules: Rules, state: State, job: int) -> Iterator[Move]:
    """A client enqueues, and asks again where it does not know."""
    if state.told[job] == "ok":
        return
    after, new = put(rules, state, job)
    yield Move("put", (job,), new, _told(after, job, "ok"))
    if state.faults.losses:
        yield Move("put", (job,), new, _told(_less(after, "losses"), job, "unsure"))
        yield Move("", (), None, _told(_less(state, "losses"), job, "unsure"))


def _task(state: State, job: int) -> Task:
    now = state.jobs[job]
    spent = job in state.once and bool(now.crashes or now.interruptions)
    return Task(job, now.token, "waits", spent)


def _well(rules: Rules, state: State, worker: int) -> Iterator[Move]:
    view = state.views[worker]
    after, jobs = lease(rules, state, worker, alone=not view.tasks)
    args = (worker, not view.tasks)
    got = tuple(_task(after, job) for job in jobs or ())
    if jobs or jobs is None:
        yield Move("lease", args, jobs, _view(after, worker, tasks=view.tasks + got))
    if jobs and state.faults.losses:
        yield Move("lease", args, jobs, _view(_less(after, "losses"), worker, deaf=True))
    yield from _local(state, worker)
    for task in view.tasks:
        if task.stage in ("waits", "runs") and state.faults.stops:
            stopped = _less(state, "stops")
            yield from _give(stopped, worker, task, interrupted=task.stage == "runs")
    if ended := _ended(view):
        after, took = settle(rules, state, worker, ended)
        yield Move("settle", (worker, ended), took, _settled(after, worker, took))
        if state.faults.losses:
            deaf = _view(_less(after, "losses"), worker, deaf=True)
            yield Move("settle", (worker, ended), took, deaf)
            yield Move("", (), None, _view(_less(state, "losses"), worker, deaf=True))
    yield from _refused(rules, state, worker)


def _ended(view: View) -> tuple[End, ...]:
    return tuple(
        (task.job, task.token, _KINDS[task.stage]) for task in view.tasks if task.stage in _KINDS
    )


def _settled(state: State, worker: int, took: tuple[bool, ...]) -> State:
    """The worker has heard which of its ends count.  What it gave up unstarted is none to be kept."""
    said, tasks = iter(took), []
    for task in state.views[worker].tasks:
        if task.stage not in _KINDS:
            tasks.append(task)
        elif not next(said) and task.stage == "ended":
            tasks.append(task._replace(stage="refused"))
    return _view(state, worker, tasks=tuple(tasks))


def _refused(rules: Rules, state: State, worker: int) -> Iterator[Move]:
    """An end that did not count is offered once more, for what has become of the job since."""
    view = state.views[worker]
    late = tuple((task.job, task.token, "ack") for task in view.tasks if task.stage == "refused")
    if not late:
        return
    after, took = settle_late(rules, state, worker, late)
    left = tuple(task for task in view.tasks if task.stage != "refused")
    yield Move("settle_late", (worker, late), took, _view(after, worker, tasks=left))
    if state.faults.losses:
        yield Move("settle_late", (worker, late), took, _less(after, "losses"))


def _give(state: State, worker: int, task: Task, *, interrupted: bool) -> Iterator[Move]:
    call = "interrupt" if interrupted else "release"
    after, took = give_back(state, worker, task.job, task.token, interrupted=interrupted)
    left = tuple(other for other in state.views[worker].tasks if other != task)
    args = (worker, task.job, task.token)
    yield Move(call, args, took, _view(after, worker, tasks=left))
    if state.faults.losses and not interrupted:
        deaf = _view(_less(after, "losses"), worker, tasks=left, deaf=True)
        yield Move(call, args, took, deaf)


def _local(state: State, worker: int) -> Iterator[Move]:
    """A slot takes the next job, or finishes one; a worker has one slot."""
    tasks = state.views[worker].tasks
    busy = any(task.stage == "runs" for task in tasks)
    for place, task in enumerate(tasks):
        starts = "lost" if task.spent else "" if busy else "runs"
        if then := {"waits": starts, "runs": "ended"}.get(task.stage):
            changed = (*tasks[:place], task._replace(stage=then), *tasks[place + 1 :])
            after = _view(state, worker, tasks=changed)
            if then == "runs":
                after = _job(after, task.job, starts=state.jobs[task.job].starts + 1)
            yield Move("", (), None, after)


def _deaf(rules: Rules, state: State, worker: int) -> Iterator[Move]:
    """Outcomes first, then what the storage says of this worker's holdings."""
    view = state.views[worker]
    if not rules.reconciles:
        yield Move("", (), None, _view(state, worker, deaf=False))
        return
    ended = _ended(view)
    after, took = settle(rules, state, worker, ended) if ended else (state, ())
    after = _settled(after, worker, took)
    view = after.views[worker]
    holds = {job: after.jobs[job].token for job in after.held if after.jobs[job].worker == worker}
    kept = tuple(
        task
        for task in view.tasks
        if task.stage in ("runs", "refused")
        or (task.stage == "waits" and holds.get(task.job) == task.token)
    )
    known = {(task.job, task.token) for task in kept}
    unseen = tuple(_task(after, job) for job, token in holds.items() if (job, token) not in known)
    answer = (took, tuple(sorted(holds.items())))
    after = _view(after, worker, tasks=kept + unseen, deaf=False)
    yield Move("reconcile", (worker, ended), answer, after)


def _crash(state: State, worker: int) -> Iterator[Move]:
    """What it had just sent may be done much later, or never."""
    view = state.views[worker]
    if not state.faults.crashes:
        return
    for late in ("", "lease", *(["settle"] if _ended(view) else [])):
        dead = _view(_less(state, "crashes"), worker, dead=True, late=late)
        yield Move("", (), None, dead)


def _late(rules: Rules, state: State, worker: int) -> Iterator[Move]:
    view = state.views[worker]
    yield Move("", (), None, _view(state, worker, late=""))
    if view.late == "lease":
        after, jobs = lease(rules, state, worker, alone=not view.tasks)
        yield Move("lease", (worker, not view.tasks), jobs, _view(after, worker, late=""))
    else:
        ended = _ended(view)
        after, took = settle(rules, state, worker, ended)
        yield Move("settle", (worker, ended), took, _view(after, worker, late=""))


def _report(rules: Rules, state: State, worker: int) -> Iterator[Move]:
    """The master has seen the death; which jobs ran is written on its board."""
    view = state.views[worker]
    # The slot of a job that is to run at most once shows it until its end is settled.
    shown = [t for t in view.tasks if t.stage == "runs" or (t.job in state.once and _begun(t))]
    running = tuple((task.job, task.token) for task in shown)
    after, found = take_back(rules, state, worker, running)
    for job, how, *_ in found:
        untold = any(task.job == job and _begun(task) for task in view.tasks)
        if how == "released" and untold:
            after = _job(after, job, excused=after.jobs[job].excused + 1)
    tasks = tuple(task for task in view.tasks if view.late)
    gone = _view(after, worker, dead=False, gone=True, tasks=tasks, receipt=())
    yield Move("recover_worker", (worker, running), found, gone)


def _node(rules: Rules, state: State) -> Iterator[Move]:
    for node in WORKERS:
        if not state.served[node]:
            after, heard = hear(rules, state, node)
            yield Move("register", (node,), heard, after)
        elif not state.fresh[node]:
            after = state._replace(fresh=_set(state.fresh, node, value=True))
            yield Move("heartbeat", (node,), True, after)
            if not (state.steady and rules.outlasts_outages):
                yield from _recover(rules, state, node)
    if state.steady and state.served[0] and state.faults.expiries:
        after, found = take_node(rules, _less(state, "expiries"), 0)
        for job, *_ in found:
            after = _job(after, job, excused=after.jobs[job].excused + 1)
        yield Move("expire", (0,), found, after)
    if state.faults.outages:
        away = _less(state, "outages")._replace(fresh=(False, False), steady=False)
        yield Move("outage", (), None, away)
    # Within a lease of service every node that lives has renewed its own.
    if not state.steady and all(state.fresh):
        yield Move("serve", (), None, state._replace(steady=True))


def _recover(rules: Rules, state: State, node: int) -> Iterator[Move]:
    """Somebody asks for the jobs of nodes whose lease is over, after an outage."""
    if rules.outlasts_outages:
        yield Move("recover", (), (), state)
    else:
        after, found = take_node(rules, state, node)
        yield Move("recover", (), found, after)


def _begun(task: Task) -> bool:
    return task.stage in ("runs", "ended", "refused")


# -- what must hold --------------------------------------------------------------------------------


def broken(state: State) -> str:
    """Return the law that does not hold in this state, "" if all do."""
    for number, job in enumerate(state.jobs):
        lines = [place.count(number) for place in (state.line, state.suspects, state.held)]
        if sum(lines) != (job.place in ("queued", "held")):
            return f"job {number} is in {sum(lines)} places"
        if state.told[number] == "ok" and not job.place:
            return f"job {number} was confirmed, and is not known"
        if job.stolen:
            return f"job {number} was ended by one that did not hold it"
        if job.ends > 1:
            return f"job {number} ended {job.ends} times"
        if job.starts > 1 + job.excused:
            return f"job {number} started {job.starts} times, and nobody has died or was stopped"
        if job.starts > 1 and number in state.once:
            return f"job {number} is to run at most once, and started {job.starts} times"
        if all(state.served) and job.crashes != job.deaths:
            return (
                f"job {number} counts {job.crashes} crashes, and its worker died {job.deaths} times"
            )
        if (job.place == "held") != (job.worker >= 0):
            return f"job {number} is {job.place} by {job.worker}"
        if job.place == "held" and state.views[job.worker].gone:
            return f"job {number} is held by a worker whose death was reported"
    return ""


def misled(before: State, move: Move) -> str:
    """Return what a worker is told wrongly, "" if it is told the truth."""
    if move.call not in ("settle", "reconcile", "settle_late"):
        return ""
    worker, ended = move.args
    took = move.answer[0] if move.call == "reconcile" else move.answer
    for (job, token, kind), ok in zip(ended, took, strict=True):
        if wrong := _misled(before, move, worker, job, token) if kind == "ack" and not ok else "":
            return wrong
    return ""


def _misled(before: State, move: Move, worker: int, job: int, token: int) -> str:
    now, view = move.state.jobs[job], before.views[worker]
    heard = not (view.gone or view.fenced)
    if heard and now.place == "done" and now.token == token:
        return f"worker {worker} is told that it did not end job {job}, and it did"
    offered = move.call == "settle_late" and not view.gone
    if offered and now.starts == 1 and now.place in ("queued", "dead"):
        return f"worker {worker} has ended job {job}, which nobody else has begun, in vain"
    return ""


def at_rest(state: State) -> bool:
    """All that was confirmed has ended."""
    return all(
        job.place in ("done", "dead")
        for job, told in zip(state.jobs, state.told, strict=True)
        if told
    )


__all__ = [
    "JOBS",
    "WORKERS",
    "Faults",
    "Move",
    "Rules",
    "State",
    "at_rest",
    "broken",
    "misled",
    "moves",
]
