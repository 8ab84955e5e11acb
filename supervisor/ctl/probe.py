"""The command `taskqctl probe live|ready|startup`, which container probes run every few seconds.

law: standard library only, and as little of it as will do, as the whole process should take 50 ms
(test_a_probe_imports_the_standard_library_only).
Exit codes: 0 yes, 1 no, 64 usage, 69 no daemon answers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from taskqd.supervisor.endpoints import admin_client

USAGE = (
    "usage: taskqctl probe live|ready|startup [--socket PATH | --name NAME] [--timeout S] [--json]"
)
OPTIONS = ("--socket", "--name", "--timeout")
TIMEOUT_S = 3.0
NOT = {"startup": "started"}


class Misused(Exception):
    """The command line cannot be read."""


def probe(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Return the exit code; the answer goes to standard output, errors to standard error."""
    try:
        what, options, as_json = _read(list(argv))
        timeout_s = float(options.get("--timeout", TIMEOUT_S))
    except (Misused, ValueError) as error:
        return _fail(64, f"taskqctl probe: {error}; {USAGE}")
    try:
        path = options.get("--socket") or env.get("TASKQD_ADMIN__SOCKET") or _find(options, env)
        answer = admin_client.ask(path, {"cmd": "probe", "probe": what}, timeout_s=timeout_s)
    except (OSError, ValueError) as error:
        return _fail(69, f"taskqctl probe: no daemon answers: {error}")
    if not answer.get("ok"):
        return _fail(1, f"taskqctl probe: {answer.get('error')}")
    _say(what, answer, as_json)
    return 0 if answer.get("up") else 1


def _read(argv: list[str]) -> tuple[str, dict[str, str], bool]:
    """Return the probe's name, its options, and whether to answer in JSON."""
    what, options, as_json = "", {}, False
    while argv:
        word = argv.pop(0)
        name, equals, value = word.partition("=")
        if name in OPTIONS:
            if not equals and not argv:
                raise Misused(f"{name} requires a value")
            options[name] = value if equals else argv.pop(0)
        elif word == "--json":
            as_json = True
        elif word in ("live", "ready", "startup") and not what:
            what = word
        else:
            raise Misused(f"unexpected {word!r}")
    if not what:
        raise Misused("say live, ready or startup")
    return what, options, as_json


def _find(options: Mapping[str, str], env: Mapping[str, str]) -> str:
    """Return the path of the socket: the instance's, or the only one there is."""
    name = options.get("--name") or env.get("TASKQD_NAME")
    return admin_client.find(name or admin_client.only_instance())


def _say(what: str, answer: Mapping[str, object], as_json: bool) -> None:
    shown = {name: answer.get(name) for name in ("up", "state", "reasons")}
    reasons = answer.get("reasons")
    why = "; ".join(map(str, reasons)) if isinstance(reasons, list) else ""
    said = f"not {NOT.get(what, what)}: {why}" if not answer.get("up") else str(shown["state"])
    print(json.dumps(shown) if as_json else said)


def _fail(code: int, text: str) -> int:
    print(text, file=sys.stderr)
    return code
