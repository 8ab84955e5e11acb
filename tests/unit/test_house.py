"""The laws of the house that no linter knows: sizes, one place for each effect, event names."""

from __future__ import annotations

import ast
import graphlib
import re
import statistics
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from taskqd.logs import events

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 60
FUNCTION_LINES_AIM = 40

LONG_FILES = {
    "taskqd/storage/base.py": 440,  # the contract reads best as one document
}

IMPORTED_ONLY_IN = {
    "redis": ("taskqd/storage/redis/",),
    "apsw": ("taskqd/storage/sqlite/",),
    "structlog": ("taskqd/logs/setup.py",),
    "cryptography": ("taskqd/crypto/cipher.py",),
    "cronsim": ("taskqd/periodic/cron.py",),
    "psutil": ("supervisor/ctl/top/machine.py",),
    "gevent": ("worker/slots/greenlets/",),
    "h11": ("supervisor/endpoints/health.py",),
    "rich": ("supervisor/ctl/top/paint.py",),
    "click": ("supervisor/cli/", "supervisor/ctl/"),
}
"""Module -> where it may be imported."""

PROCESS_EFFECTS = {"fork", "kill", "killpg", "waitpid", "waitid", "wait4", "pidfd_send_signal"}


EVENTS = {
    constant: name
    for constant, name in vars(events).items()
    if constant.isupper() and isinstance(name, str) and name in events.CATALOGUE
}
"""Constant -> name of each event."""


def code_files() -> list[Path]:
    """Return every file of the package, each once: the links in taskqd/ are not followed."""
    tops = (ROOT / top for top in ("taskqd", "supervisor", "worker", "config"))
    files = (file for top in tops for file in top.rglob("*.py"))
    return sorted(file for file in files if not _behind_a_link(file))


def _behind_a_link(file: Path) -> bool:
    return any(parent.is_symlink() for parent in file.parents)


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def functions() -> Iterator[tuple[str, int]]:
    """Yield (place, lines of the body) of every function; docstrings do not count."""
    for file in code_files():
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                yield f"{name_of(file)}:{node.lineno} {node.name}", lines


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def calls(file: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call))


def dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""


def test_no_file_is_longer_than_fits_in_the_head() -> None:
    lengths = {name_of(file): len(file.read_text().splitlines()) for file in code_files()}
    long = {
        name: lines
        for name, lines in lengths.items()
        if lines > LONG_FILES.get(name, FILE_LINES_MAX)
    }
    assert not long, "split by noun"


def test_exceptions_for_long_files_are_still_needed() -> None:
    for name in LONG_FILES:
        assert len((ROOT / name).read_text().splitlines()) > FILE_LINES_MAX, f"{name}: drop it"


def test_no_function_is_longer_than_a_screen() -> None:
    assert not [place for place, lines in functions() if lines > FUNCTION_LINES_MAX]


def test_functions_are_small() -> None:
    lengths = [lines for _place, lines in functions()]
    long = [place for place, lines in functions() if lines > FUNCTION_LINES_AIM]
    assert statistics.median(lengths) <= 6
    assert len(long) <= len(lengths) // 50, long


@pytest.mark.parametrize(("module", "places"), IMPORTED_ONLY_IN.items())
def test_driver_is_imported_in_one_place(module: str, places: tuple[str, ...]) -> None:
    users = [name_of(file) for file in code_files() if module in _tops(imports(file))]
    assert not [user for user in users if not user.startswith(places)]
    assert users, f"nobody imports {module} any more"


def test_a_module_that_says_it_is_pure_is_held_to_it() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [held] = [c for c in contracts["contracts"] if c["name"].startswith("Values and rules")]
    say_so = {
        module_of(file)
        for file in code_files()
        if re.search(r"\bPure\b", ast.get_docstring(tree_of(file)) or "")
    }
    folders = tuple(f"{module}." for module in held["source_modules"])
    assert len(say_so) > 30, "look for the word that they say it with"
    assert not {m for m in say_so - {*held["source_modules"]} if not m.startswith(folders)}


def _tops(modules: Iterator[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


@pytest.mark.parametrize("wing", ["taskqd", "supervisor", "worker", "config"])
def test_processes_are_made_and_ended_in_one_file_of_a_wing(wing: str) -> None:
    places = {
        name_of(file)
        for file in code_files()
        if name_of(file).startswith(f"{wing}/")
        for call in calls(file)
        if dotted(call.func).split(".")[-1] in PROCESS_EFFECTS
        and dotted(call.func).split(".")[0] in {"os", "signal", *_names_from(file, "os")}
    }
    assert len(places) <= (0 if wing in {"taskqd", "config"} else 1), places


def _names_from(file: Path, module: str) -> set[str]:
    """Return the names that `from MODULE import NAME` binds."""
    return {
        alias.name
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }


def test_every_event_emitted_is_a_constant_of_the_catalogue() -> None:
    strays = []
    for file in code_files():
        for call in calls(file):
            if dotted(call.func).split(".")[-1] == "emit" and call.args:
                event = dotted(call.args[0]).split(".")[-1]
                if event not in EVENTS and event != "event":
                    strays.append(f"{name_of(file)}:{call.lineno} {ast.unparse(call.args[0])}")
    assert not strays


def test_no_event_name_is_written_out_elsewhere() -> None:
    strays = [
        f"{name_of(file)}:{node.lineno} {node.value}"
        for file in code_files()
        if name_of(file) != "taskqd/logs/events.py"
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Constant) and node.value in events.CATALOGUE
    ]
    assert not strays


def emissions() -> Iterator[tuple[str, set[str], bool]]:
    """Yield (constant, keys that are written out, whether there may be more) of each emission."""
    for file in code_files():
        for call in calls(file):
            constant = dotted(call.args[0]).split(".")[-1] if call.args else ""
            way = dotted(call.func).split(".")[-1]
            if constant in EVENTS and way in {"emit", "emit_soon"}:
                keys = {keyword.arg for keyword in call.keywords if keyword.arg}
                yield constant, keys, way == "emit_soon" or len(keys) < len(call.keywords)


def test_the_catalogue_has_the_keys_that_are_emitted() -> None:
    told: dict[str, set[str]] = {}
    more = set()
    for constant, keys, may_have_more in emissions():
        told.setdefault(constant, set()).update(keys)
        more |= {constant} if may_have_more else set()
    listed = {constant: {*events.CATALOGUE[EVENTS[constant]].keys} for constant in told}
    assert not {c: told[c] - listed[c] for c in told if told[c] - listed[c]}
    assert not {c: listed[c] - told[c] for c in told.keys() - more if listed[c] - told[c]}


def test_every_event_of_the_catalogue_is_emitted() -> None:
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for file in code_files()
        if name_of(file) != "taskqd/logs/events.py"
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert not EVENTS.keys() - used


def test_event_names_are_a_noun_and_what_happened_to_it() -> None:
    for name in events.CATALOGUE:
        noun, _dot, verb = name.partition(".")
        assert noun.isidentifier(), name
        assert verb.isidentifier(), name


def test_there_is_no_import_circle() -> None:
    """Late imports and imports for typing count: a hidden circle is a circle all the same."""
    modules = {module_of(file): file for file in code_files()}
    graph = {
        name: {target for target in _targets(file, name) if target in modules and target != name}
        for name, file in modules.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "taskqd" else ("taskqd", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(file: Path, name: str) -> Iterator[str]:
    """Yield all that `file` imports: each name as a module, and the module that it comes from."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{package}." if node.level else ""
            base = f"{prefix}{node.module or ''}".strip(".")
            modules = [f"{base}.{alias.name}" for alias in node.names]
            yield from modules
            # `from taskqd.storage import base` needs the module, and no name of the package.
            if not all(_is_module(module) for module in modules):
                yield base


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_no_wing_is_imported_by_its_bare_name() -> None:
    strays = [
        f"{name_of(file)}: {module}"
        for file in [*code_files(), *(ROOT / "tests").rglob("*.py")]
        for module in imports(file)
        if module.split(".")[0] in {"supervisor", "worker", "config"}
    ]
    assert not strays
