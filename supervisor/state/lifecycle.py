"""The life cycle of the master's children: a table of states, events, and what follows.  Pure."""

from __future__ import annotations

from enum import StrEnum


class ChildState(StrEnum):
    SPAWNING = "spawning"
    """Asked of the zygote, no sign of life yet."""
    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    LEAVING = "leaving"
    """It said its last word (drained, or failed to boot) and exits by itself."""
    DYING = "dying"
    """It is killed, step by step."""
    DEAD = "dead"


class ChildEvent(StrEnum):
    FORKED = "forked"
    FORK_FAILED = "fork failed"
    BOOTED = "booted"
    BOOT_FAILED = "boot failed"
    SERVES = "serves"
    DRAIN = "drain"
    DRAINED = "drained"
    CONDEMNED = "condemned"
    DIED = "died"


_S, _E = ChildState, ChildEvent

# law: a child's state changes by this table and by nothing else
# (test_a_childs_state_changes_by_the_table_and_by_nothing_else).
# A row names what changes it; any other event leaves it as it is.
TRANSITIONS: dict[ChildState, dict[ChildEvent, ChildState]] = {
    _S.SPAWNING: {
        _E.FORK_FAILED: _S.DEAD,
        _E.BOOTED: _S.BOOTING,
        _E.BOOT_FAILED: _S.LEAVING,
        _E.SERVES: _S.READY,
        _E.DRAIN: _S.DRAINING,
        _E.DRAINED: _S.LEAVING,
        _E.CONDEMNED: _S.DYING,
        _E.DIED: _S.DEAD,
    },
    _S.BOOTING: {
        _E.BOOT_FAILED: _S.LEAVING,
        _E.SERVES: _S.READY,
        _E.DRAIN: _S.DRAINING,
        _E.DRAINED: _S.LEAVING,
        _E.CONDEMNED: _S.DYING,
        _E.DIED: _S.DEAD,
    },
    _S.READY: {
        _E.BOOT_FAILED: _S.LEAVING,
        _E.DRAIN: _S.DRAINING,
        _E.DRAINED: _S.LEAVING,
        _E.CONDEMNED: _S.DYING,
        _E.DIED: _S.DEAD,
    },
    _S.DRAINING: {
        _E.FORK_FAILED: _S.DEAD,
        _E.BOOT_FAILED: _S.LEAVING,
        _E.DRAINED: _S.LEAVING,
        _E.CONDEMNED: _S.DYING,
        _E.DIED: _S.DEAD,
    },
    _S.LEAVING: {_E.CONDEMNED: _S.DYING, _E.DIED: _S.DEAD},
    _S.DYING: {_E.FORK_FAILED: _S.DEAD, _E.DIED: _S.DEAD},
    _S.DEAD: {},
}


def next_state(state: ChildState, event: ChildEvent) -> ChildState:
    return TRANSITIONS[state].get(event, state)
