"""The part of an app that enqueues: calls, lists of calls, pipelines, groups and chords."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast, overload

from taskqd.client import delivery
from taskqd.client.async_wait import in_thread
from taskqd.client.composition import Chord, ChordResult, Group
from taskqd.client.packing import Packer
from taskqd.client.result import Result, ResultApp
from taskqd.client.result_group import ResultGroup
from taskqd.client.task import Signature, Task
from taskqd.errors import ConfigError
from taskqd.ids import new_id
from taskqd.jobs.job import Answer, Entry, Member, Reason, encode_answer
from taskqd.listeners import Listeners
from taskqd.storage.features import Features

R = TypeVar("R")

GROUP_TTL_S = 7 * 86400
"""A group whose members have not all ended by then is forgotten."""


class EnqueueingApp(ResultApp, Protocol):
    """What these methods need of the app that they belong to."""

    listeners: Listeners
    immediate: bool

    @property
    def packer(self) -> Packer: ...

    @property
    def features(self) -> Features: ...

    def run_immediately(self) -> None: ...

    def enqueue(self, what: Any) -> Any: ...

    def enqueue_signatures(self, signatures: Sequence[Signature[Any]]) -> list[Result[Any]]: ...


class _Planned(NamedTuple):
    """What one call of `enqueue` will write: nothing is written before all of it is encoded."""

    entries: list[Entry]
    tasks: list[str]
    groups: list[tuple[str, int, Entry]]
    results: list[Result[Any]]
    """One for each entry."""
    members: list[Member | None]
    """Likewise."""


class Enqueueing:
    """Enqueueing.  All or, where something cannot be encoded, nothing."""

    @overload
    def enqueue(self, what: Chord) -> ChordResult: ...

    @overload
    def enqueue(self, what: Group[R] | Sequence[Signature[R]]) -> ResultGroup[R]: ...

    @overload
    def enqueue(self, what: Signature[Any] | Sequence[Any]) -> Any: ...

    def enqueue(self: EnqueueingApp, what: Any) -> Any:
        """Enqueue what was composed.

        A signature gives a Result, a pipeline a ResultGroup of its stages, a list or group a
        ResultGroup of its members (of a pipeline: of its last stage), a chord a ChordResult.
        """
        plan = _Planned([], [], [], [], [])
        if isinstance(what, Signature):
            stages = _plan_call(self, plan, what, None)
            result: Any = ResultGroup(stages) if len(stages) > 1 else stages[0]
        elif isinstance(what, Chord):
            result = _plan_chord(self, plan, what, None)
        else:
            members = what.members if isinstance(what, Group) else _listed(what)
            result = ResultGroup([_plan_member(self, plan, member, None) for member in members])
        _carry_out(self, plan)
        return result

    def enqueue_signatures(
        self: EnqueueingApp, signatures: Sequence[Signature[Any]]
    ) -> list[Result[Any]]:
        """Enqueue calls; returns one Result for each (of a pipeline: of its last stage)."""
        plan = _Planned([], [], [], [], [])
        results = [_plan_call(self, plan, signature, None)[-1] for signature in signatures]
        _carry_out(self, plan)
        return results

    @overload
    async def aenqueue(self, what: Chord) -> ChordResult: ...

    @overload
    async def aenqueue(self, what: Group[R] | Sequence[Signature[R]]) -> ResultGroup[R]: ...

    @overload
    async def aenqueue(self, what: Signature[Any] | Sequence[Any]) -> Any: ...

    async def aenqueue(self, what: Any) -> Any:
        """`enqueue` without blocking the event loop."""
        return await in_thread(self.enqueue, what)

    async def aenqueue_signatures(
        self: EnqueueingApp, signatures: Sequence[Signature[Any]]
    ) -> list[Result[Any]]:
        return await in_thread(self.enqueue_signatures, signatures)

    def group(self, members: Iterable[Signature[R]]) -> Group[R]:
        """Return calls that are enqueued together; `.then(callback)` makes it a chord."""
        return Group(members)

    def chord(
        self,
        members: Iterable[Signature[Any] | Chord],
        callback: Task[Any, Any] | Signature[Any],
        *args: Any,
        **kwargs: Any,
    ) -> Chord:
        """Return a group with a callback that gets the list of its values."""
        return Chord(members, callback, *args, **kwargs)


def _plan_member(app: EnqueueingApp, plan: _Planned, what: Any, member: Member | None) -> Any:
    if isinstance(what, Chord):
        return _plan_chord(app, plan, what, member)
    if isinstance(what, Signature):
        return _plan_call(app, plan, what, member)[-1]
    raise ConfigError(
        f"enqueue: {what!r}; expected task.s(...), a group, a chord or a list of them"
    )


def _plan_call(
    app: EnqueueingApp, plan: _Planned, signature: Signature[Any], member: Member | None
) -> list[Result[Any]]:
    """Plan a call with the stages that follow it; returns the results of all of them."""
    ids: list[str] = []
    entry = app.packer.pack(signature, member=member, ids=ids if signature.stages else None)
    plan.entries.append(entry)
    plan.tasks.append(signature.task.name)
    plan.members.append(member)
    if not signature.stages:
        decode = signature.task.codec.decode_result
        only = Result[Any](app, entry.id, entry.queue, decode)
        plan.results.append(only)
        return [only]
    results: list[Result[Any]] = []
    for job_id, stage in zip(ids, (signature, *signature.stages), strict=True):
        queue = stage.options.get("queue") or stage.task.settings.queue
        before = results[-1] if results else None
        results.append(
            Result(
                app,
                job_id,
                queue,
                stage.task.codec.decode_result,
                pending=None if before is None else before.goes_on,
            )
        )
    plan.results.append(results[0])
    return results


def _plan_chord(
    app: EnqueueingApp, plan: _Planned, chord: Chord, member: Member | None
) -> ChordResult:
    group = new_id()
    headers = chord.callback.options.get("headers") or _headers_of(chord)
    callback = app.packer.pack(chord.callback, group=group, member=member, headers=headers)
    plan.groups.append((group, len(chord.members), callback))
    results = [
        _plan_member(app, plan, each, Member(group, callback.queue, index))
        for index, each in enumerate(chord.members)
    ]
    features, queue = app.features, callback.queue
    last = Result[Any](
        app,
        callback.id,
        queue,
        chord.callback.task.codec.decode_result,
        pending=lambda: features.group_left(group, queue) > 0,
    )
    return ChordResult(results, last)


def _headers_of(chord: Chord) -> Mapping[str, str] | None:
    """Return the headers of the first member that has some: what one trace begins, it ends."""
    for member in chord.members:
        first = member if isinstance(member, Signature) else None
        found = first.options.get("headers") if first else _headers_of(cast("Chord", member))
        if found:
            return cast("Mapping[str, str]", found)
    return None


def _carry_out(app: EnqueueingApp, plan: _Planned) -> None:
    # Inner chords were planned after the chord that they are members of, and are counted there.
    for group, total, callback in plan.groups:
        app.features.group_open(group, callback.queue, total, callback, GROUP_TTL_S)
    new = delivery.deliver(app.storage, plan.entries)
    if not app.listeners.handlers.keys().isdisjoint(("enqueued", "scheduled")):
        for entry, task, is_new in zip(plan.entries, plan.tasks, new, strict=True):
            if is_new:
                delivery.tell_enqueued(app.listeners, entry, task)
    if not all(new):
        _point_to_holders(app, plan, new)
    if app.immediate:
        app.run_immediately()


def _point_to_holders(app: EnqueueingApp, plan: _Planned, new: Sequence[bool]) -> None:
    """Let the result of a call that was not enqueued, being unique, be that of its twin."""
    calls = zip(plan.entries, new, plan.results, plan.members, strict=True)
    for entry, is_new, result, member in calls:
        if entry.unique and not is_new:
            holder = app.features.unique_holder(entry.queue, entry.unique)
            result.id = holder or entry.id
            if member is not None and holder != entry.id:
                _skip_member(app, entry, member)


def _skip_member(app: EnqueueingApp, entry: Entry, member: Member) -> None:
    """Tell a group that this member will never run, or its callback would wait for ever."""
    if app.storage.job(entry.id, entry.queue) is None:
        answer = Answer(
            "cancelled", 0, app.clock.estimate_ms(), GROUP_TTL_S, 0, reason=Reason.SKIPPED
        )
        app.features.group_put(member.group, member.queue, member.index, encode_answer(answer))


def _listed(what: Any) -> list[Any]:
    if isinstance(what, Iterable) and not isinstance(what, str):
        return list(what)
    hint = f"; to enqueue the task call it: {what.name}(...)" if isinstance(what, Task) else ""
    raise ConfigError(
        f"enqueue({what!r}): expected a signature (task.s(...)), a chord, a group or a list{hint}"
    )
