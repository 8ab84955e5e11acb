"""Groups and chords: calls that belong together.  Pipelines are in `taskqd.client.task.Signature`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from taskqd.client.result import Result
from taskqd.client.result_group import ResultGroup
from taskqd.client.task import Signature, Task
from taskqd.errors import ConfigError

R = TypeVar("R")


class Skipped:
    """What a chord's callback gets for a member that was cancelled, revoked, expired or skipped."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"<skipped: {self.reason}>"


class Failed:
    """What a chord's callback gets for a member that failed or was given up."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        self.message = message

    def __repr__(self) -> str:
        return f"<failed: {self.reason}: {self.message}>"


class Group(Generic[R]):
    """Calls that are enqueued together: `app.group([a.s(1), a.s(2)])`."""

    def __init__(self, members: Iterable[Signature[R]]) -> None:
        self.members = list(members)
        for member in self.members:
            if not isinstance(member, (Signature, Chord)):
                raise ConfigError(f"group member {member!r}: expected a signature, task.s(...)")

    def then(self, callback: Task[Any, Any] | Signature[Any], *args: Any, **kwargs: Any) -> Chord:
        """Make it a chord: the callback gets the list of the members' values."""
        return Chord(self.members, callback, *args, **kwargs)


class Chord:
    """A group with a callback: `app.chord([a.s(1), a.s(2)], total)`.

    The callback gets, as its first argument, the members' values in their order; in the place of
    one without a value stands a `Failed` or a `Skipped`.  A member may be a pipeline or a chord.
    """

    def __init__(
        self,
        members: Iterable[Signature[Any] | Chord],
        callback: Task[Any, Any] | Signature[Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self.members = list(members)
        self.callback = (
            callback if isinstance(callback, Signature) else callback.s_late(*args, **kwargs)
        )
        for member in self.members:
            if not isinstance(member, (Signature, Chord)):
                raise ConfigError(f"chord member {member!r}: expected a signature or a chord")


class ChordResult:
    """The results of a chord: of its members, and of its callback."""

    def __init__(self, results: Sequence[Any], callback: Result[Any]) -> None:
        self.results = list(results)
        self.callback = callback

    @property
    def id(self) -> str:
        return self.callback.id

    def get(self, timeout: float | None = None) -> Any:
        """Return the callback's value; see `Result.get`."""
        return self.callback.get(timeout)

    async def aget(self, timeout: float | None = None) -> Any:
        return await self.callback.aget(timeout)

    def members(self) -> ResultGroup[Any]:
        """Return the results of the members that are plain jobs or pipelines."""
        return ResultGroup([r for r in self.results if isinstance(r, Result)])
