"""Print docs/internals/redis.md from the code: `python docs/internals/redis_page.py > docs/internals/redis.md`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from taskqd.storage.redis.keyspace import keys  # noqa: E402 - of this tree, not an installed one

LUA = ROOT / "taskqd/storage/redis/lua"
SECTIONS = {
    "enqueue": "Writing jobs",
    "leases": "Between a lease and its end",
    "nodes": "Nodes and recovery",
    "timers": "Delayed jobs, ticks, schedules, the end of lifetimes",
    "answers": "Answers, and who waits for them",
    "control": "Changes to waiting and dead jobs and to queues",
    "views": "Looking",
    "notes": "Notes of running jobs",
    "revocations": "Standing orders and wishes to stop",
    "limits": "Locks, rates and unique keys",
    "groups": "Groups",
    "parked": "Parked dead letters",
}
HEAD = """# Redis: keys and scripts

Made from `taskqd/storage/redis/` by `python docs/internals/redis_page.py`.  What a storage must do is the
contract (`taskqd/storage/base.py` and `features.py`); this is how Redis and Valkey keep it.

A call of the contract is a script in `lua/<section>/`, run by the module of that section: so
`settle` is in `leases.py` and in `lua/leases/`.  A script is atomic, and touches the keys of one
queue only, which lie in one slot of a cluster; what spans queues is done in steps, each of which can
be repeated.  The first line of a script names the parts (`lua/parts/`) whose functions it uses.
`KEYS[1]` is the queue's `jobs` key, from which all others are derived.
"""


def page() -> str:
    """Return the whole page."""
    return (
        f"{HEAD}\n## Keys\n\n{_keys()}\n## Scripts\n\n{''.join(_scripts())}\n## Parts\n\n{_parts()}"
    )


def _keys() -> str:
    """Return the table of keys, as `keys.py` tells it."""
    assert keys.__doc__ is not None
    _, _, table = keys.__doc__.partition("\n\n")
    text, block = "", False
    for line in table.strip("\n").splitlines():
        if line.startswith("    ") != block and line:
            block = not block
            text += "```text\n" if block else "```\n\n"
        text += (line.removeprefix("    ") if block else line) + "\n"
    text += "```\n" if block else ""
    return re.sub(r"\n\n```\n", "\n```\n", text)


def _scripts() -> Iterator[str]:
    """Yield a list of scripts for each section: what each does, returns and keeps true."""
    for number, (section, title) in enumerate(SECTIONS.items()):
        yield ("\n" if number else "") + f"### {title} (`{section}`)\n\n"
        for file in sorted((LUA / section).glob("*.lua")):
            yield _script(file)


def _script(file: Path) -> str:
    """Return what the head of a script says, as one item."""
    says: dict[str, str] = {}
    kind = "does"
    for line in _head(file)[1:]:
        found = re.match(r"(KEYS\[1\]  |ARGV  |Returns  |Invariant: ) *(.*)", line)
        kind = found[1].rstrip(": ") if found else kind
        text = found[2] if found else line
        says[kind] = f"{says.get(kind, '')} {text.strip()}".strip()
    item = f"- **{file.stem}**: {says['does']}"
    for kind, name in (("ARGV", "Takes"), ("Returns", "Returns"), ("Invariant", "Invariant:")):
        if kind in says:
            item += f"\n  {name} {says[kind].rstrip('.')}."
    return item + "\n"


def _parts() -> str:
    """Return a list of the parts, with the scripts that use each."""
    uses: dict[str, list[str]] = {}
    for file in sorted(LUA.glob("*/*.lua")):
        first = file.read_text("utf-8").partition("\n")[0]
        if first.startswith("-- uses:"):
            for part in first.removeprefix("-- uses:").split():
                uses.setdefault(part, []).append(file.stem)
    text = ""
    for file in sorted((LUA / "parts").glob("*.lua")):
        what = (
            _head(file)[0]
            .partition(".  ")[0]
            .removeprefix("Part: ")
            .removeprefix("Part of every script.")
        )
        by = "every script" if file.stem == "common" else ", ".join(uses[file.stem])
        text += f"- **{file.stem}**: {what.strip() or 'the clock and names.'}  Used by {by}.\n"
    return text


def _head(file: Path) -> list[str]:
    """Return the lines of a script's first comment."""
    found = []
    for line in file.read_text("utf-8").splitlines():
        if not line.startswith("--"):
            break
        found.append(line.removeprefix("--").removeprefix(" "))
    return found


if __name__ == "__main__":
    sys.stdout.write(page())
