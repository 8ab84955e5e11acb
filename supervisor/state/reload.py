"""What a reload is: its steps, its end, and what it may change.  Pure.

A reload goes through three steps.  `import`: a zygote of the next generation imports the app while
the present one serves.  `trial`: its first worker, the canary, boots, serves and stays healthy for a
moment.  Until then nothing has changed, and a failure leaves it so.  `roll`: the new generation is
the present one, the other workers follow one by one, the scheduler last.  The old zygote is kept
until all have followed.  `back`: they did not, and what has been replaced is replaced by the old
generation in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from taskqd.settings import Settings, slots_per_worker

OUTCOMES_KEPT = 32
BOOT_DEATHS_MAX = 2
"""Workers that die before they serve; one may have been unlucky."""
EARLY_DEATHS_MAX = 3
"""Workers that die soon after they serve, before they have finished a job."""


class ReloadStep(StrEnum):
    IMPORT = "import"
    TRIAL = "trial"
    ROLL = "roll"
    BACK = "back"


@dataclass(slots=True, eq=False)
class Reload:
    number: int
    by: str
    generation: int
    begun_s: float
    step: ReloadStep = ReloadStep.IMPORT
    since_s: float = 0.0
    """When it came to its step."""
    canary: int | None = None
    """Number of the canary's post, until the new generation is the present one."""
    old: frozenset[int] = frozenset()
    """Generations whose workers are replaced, once it rolls."""
    before: Settings | None = None
    """Those of the old generation, once it rolls."""
    boot_deaths: int = 0
    early_deaths: int = 0
    """Of workers of the new generation, while it rolls."""
    failed_at: str = ""
    error: str = ""

    def fail(self, step: str, error: str) -> None:
        """Note why it cannot go on; the first reason counts."""
        if not self.failed_at:
            self.failed_at, self.error = step, error

    @property
    def candidate(self) -> int:
        """The generation that is on trial, 0 once it is the present one."""
        return self.generation if self.step in (ReloadStep.IMPORT, ReloadStep.TRIAL) else 0

    def died(self, step: str, text: str) -> None:
        """Note the death of a worker of the new generation that has not proven itself.

        `step`: "boot" if it never served, else "roll".
        """
        if self.step is not ReloadStep.ROLL:
            return
        if step == "boot":
            self.boot_deaths += 1
        else:
            self.early_deaths += 1
        if self.boot_deaths >= BOOT_DEATHS_MAX or self.early_deaths >= EARLY_DEATHS_MAX:
            self.fail(step, text)


@dataclass(slots=True)
class ReloadOutcome:
    """How a reload ended."""

    ok: bool
    generation: int
    """The one that serves."""
    step: str = ""
    error: str = ""


def fixed_changes(old: Settings, new: Settings) -> list[str]:
    """Return the keys that differ and that only a restart can change."""
    before, after = _fixed(old), _fixed(new)
    return [key for key, value in before.items() if value != after[key]]


def _fixed(settings: Settings) -> Mapping[str, object]:
    sections = {
        f"{section}.{key}": value
        for section in ("process", "storage", "health", "admin", "log")
        for key, value in msgspec.structs.asdict(getattr(settings, section)).items()
    }
    return {
        "name": settings.name,
        "burst": settings.burst,
        "reload": settings.reload,
        "workers.type": settings.workers.type,
        "workers.memory_limit": settings.workers.memory_limit_bytes,
        "workers.concurrency": slots_per_worker(settings.workers),
        **sections,
    }


def refusal(keys: list[str]) -> str:
    """Return what is said of `fixed_changes`."""
    return f"cannot change in a reload: {', '.join(keys)}; restart the daemon, a stop loses nothing"
