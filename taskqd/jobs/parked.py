"""Jobs of a task that nobody here knows: their dead letters wait until a worker that does appears.

A letter is parked under the task's name.  For `limits.unknown_patience_s` after that its callers
wait on, nothing that follows the job is set off and nobody is told that it is dead, because in a
rolling deploy the new code is about to come.  Then the job is told dead, once; one that others
follow is given up for good, any other one still comes back when its name does.  Pure.
"""

from __future__ import annotations

import msgspec

from taskqd.jobs.job import NOTHING, Answer, Reason

_LABEL_CHARS_MAX = 200
_HELD, _FREE, _TOLD = ">", "=", "!"
_NULL = msgspec.Raw(b"null")
_decode_terms = msgspec.json.Decoder(tuple[float, bool]).decode


def label_of(task: str, *, held: bool) -> str:
    """Return the label for a job's letter, "" for a name that is too long to be one.

    `held`: others follow the job.
    """
    if len(task) > _LABEL_CHARS_MAX:
        return ""
    return (_HELD if held else _FREE) + task


def told(label: str) -> str:
    """Return the label for a letter that was told dead and may come back."""
    return _TOLD + name_in(label)


def is_untold(label: str) -> bool:
    """Return whether the jobs under this label count as waiting: nobody was told that they are dead."""
    return label[:1] in (_HELD, _FREE)


def name_in(label: str) -> str:
    """Return the task's name in a label."""
    return label[1:]


def is_held(label: str) -> bool:
    """Return whether others follow the jobs under this label."""
    return label[:1] == _HELD


def terms(patience_s: float, *, held: bool) -> msgspec.Raw:
    """Return what the answer of a parked job says in the place of a value."""
    return msgspec.Raw(msgspec.json.encode((patience_s, held)))


def waits_s(answer: Answer, now_ms: int) -> float:
    """Return for how long callers should still wait for another answer, 0 if this one counts."""
    found = _terms_of(answer)
    return 0.0 if found is None else max(0.0, found[0] - (now_ms - answer.finished_ms) / 1000)


def may_change(answer: Answer) -> bool:
    """Return whether the job may come back, and this answer with it be dropped."""
    return _terms_of(answer) is not None


def holds(answer: Answer) -> bool:
    """Return whether the answer leaves it open what becomes of the jobs that follow."""
    found = _terms_of(answer)
    return found is not None and found[1]


def _terms_of(answer: Answer) -> tuple[float, bool] | None:
    if answer.reason != Reason.UNKNOWN_TASK or answer.value in (NOTHING, _NULL):
        return None
    try:
        return _decode_terms(answer.value)
    except msgspec.MsgspecError:
        return None
