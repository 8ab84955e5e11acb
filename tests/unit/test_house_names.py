"""Names and places: how many modules a folder holds, who is called what, and what a law is held by."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.unit.test_house import ROOT, code_files, dotted, module_of, name_of, tree_of

MODULES_MAX = 13
SMALL_LINES = 40
NAMED_OTHERWISE = {
    "taskqd.supervisor.endpoints.server": "it serves them all",
}
"""Modules whose one class has another name than theirs, and why."""
KINDS = ("worker/slots/", *(f"taskqd/storage/{name}/" for name in ("memory", "sqlite", "redis")))
"""Here a file stands for a kind of worker or a section of the contract, however short it is."""
STORAGES = tuple(f"taskqd/storage/{name}/" for name in ("memory", "sqlite", "redis"))
"""They tell the same contract three times, so their classes may share names with each other."""
LAW = re.compile(r"\blaw: ")
HOLDER = re.compile(r"\b(test_\w+)(?=[,)])")


def folders() -> dict[str, list[Path]]:
    found = defaultdict(list)
    for file in code_files():
        if not file.name.startswith("__"):
            found[name_of(file.parent)].append(file)
    return found


def classes() -> Iterator[tuple[str, Path]]:
    for file in code_files():
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.ClassDef):
                yield node.name, file


@cache
def importers() -> dict[str, set[str]]:
    """Module -> the modules that import it or something from it."""
    modules = {module_of(file) for file in code_files()}
    found: dict[str, set[str]] = defaultdict(set)
    for file in code_files():
        for module, name in _imported(file):
            for target in (f"{module}.{name}", module):
                if target in modules:
                    found[target].add(module_of(file))
                    break
    return found


def _imported(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of all that `file` imports, with whole names of modules."""
    own = module_of(file)
    package = own if file.name == "__init__.py" else own.rpartition(".")[0]
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name.rpartition(".")[::2] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, (package if node.level else "", node.module)))
            yield from ((base, alias.name) for alias in node.names)


def contracts(kind: str) -> list[dict[str, object]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return [each for each in settings["contracts"] if each["type"] == kind]


def test_a_folder_holds_no_more_modules_than_one_looks_through() -> None:
    assert not {name: len(files) for name, files in folders().items() if len(files) > MODULES_MAX}


@pytest.mark.parametrize("container", ["taskqd", "taskqd.supervisor", "taskqd.worker"])
def test_packages_of_a_wing_form_floors(container: str) -> None:
    [contract] = [each for each in contracts("layers") if each["containers"] == [container]]
    assert contract["exhaustive"], "a new module has to say where it belongs"


def test_purity_is_a_property_of_a_folder() -> None:
    [contract] = [each for each in contracts("forbidden") if str(each["name"]).startswith("Values")]
    pure = {"taskqd.jobs", "taskqd.supervisor.policy", "taskqd.supervisor.state"}
    assert pure <= {*contract["source_modules"]}  # type: ignore[misc]
    assert {"os", "signal", "socket", "time"} <= {*contract["forbidden_modules"]}  # type: ignore[misc]


def test_no_two_classes_share_a_name() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for name, file in classes():
        homes[name].append(name_of(file))
    shared = {name: files for name, files in homes.items() if len(files) > 1}
    assert not {name: files for name, files in shared.items() if not _one_per_storage(files)}


def _one_per_storage(files: list[str]) -> bool:
    storages = [next((s for s in STORAGES if file.startswith(s)), file) for file in files]
    return {*storages} <= {*STORAGES} and len({*storages}) == len(storages)


def test_a_small_module_serves_several_or_is_a_rule_with_tests_of_its_own() -> None:
    tested = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    lonely = [
        name_of(file)
        for files in folders().values()
        for file in files
        if len(file.read_text().splitlines()) < SMALL_LINES
        and not name_of(file).startswith(KINDS)
        and len(importers()[module_of(file)]) < 2
        and f"test_{file.name}" not in tested
    ]
    assert not lonely, "merge it into the one that imports it"


def test_a_file_is_named_after_what_others_import_from_it() -> None:
    """Held where others take a single class from a module: file and class share a word."""
    taken: dict[str, set[str]] = defaultdict(set)
    modules = {module_of(file): file for file in code_files()}
    whole = set()
    for file in code_files():
        for module, name in _imported(file):
            if f"{module}.{name}" in modules:
                whole.add(f"{module}.{name}")
            elif module in modules and not modules[module].name.startswith("__"):
                taken[module].add(name)
    single = {m: names.pop() for m, names in taken.items() if len(names) == 1 and m not in whole}
    found = {m: name for m, name in single.items() if name[0].isupper() and not name.isupper()}
    assert len(found) > 30
    strangers = {m: name for m, name in found.items() if not _words(m) & _words(name)}
    assert strangers.keys() == NAMED_OTHERWISE.keys(), strangers


def _words(name: str) -> set[str]:
    """Return the first four letters of each word of the last part of a name."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(".")[2]).lower()
    return {word[:4] for word in snake.split("_")}


def test_unit_tests_stand_where_the_code_stands_that_they_test() -> None:
    tops = {"supervisor": "supervisor", "worker": "worker", "config": "config"}
    unit = ROOT / "tests/unit"
    strays = []
    for file in unit.rglob("test_*.py"):
        folder = file.relative_to(unit).parent
        if folder.parts and folder.parts not in {(wing,) for wing in tops}:
            home = ROOT.joinpath(tops.get(folder.parts[0], "taskqd"))
            rest = folder.parts[1:] if folder.parts[0] in tops else folder.parts
            if not _has_module(home.joinpath(*rest), file.stem.removeprefix("test_")):
                strays.append(name_of(file))
    assert not strays


def _has_module(folder: Path, name: str) -> bool:
    """Return whether `name` is a module or package in `folder`, or a part of what such a one does."""
    words = name.split("_")
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    return any((folder / f"{each}.py").exists() or (folder / each).is_dir() for each in names)


def test_no_code_knows_a_file_of_ours_by_name() -> None:
    """What must know where a module is asks its `__file__`: a name in a string is not moved along."""
    ours = {file.name for file in code_files() if not file.name.startswith("__")}
    strays = [
        f"{name_of(file)}:{node.lineno} {node.value}"
        for file in code_files()
        for node in _constants(file)
        if node.value.rpartition("/")[2] in ours and " " not in node.value
    ]
    assert not strays


def _constants(file: Path) -> Iterator[ast.Constant]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node


def laws() -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every law, which ends with its paragraph."""
    scripts = [p for p in (ROOT / "taskqd").rglob("*.lua") if "__" not in p.name]
    for file in [*code_files(), *(p for p in scripts if not _linked(p))]:
        lines = file.read_text().splitlines()
        for number, line in enumerate(lines):
            if LAW.search(line):
                yield f"{name_of(file)}:{number + 1}", " ".join(_paragraph(lines, number))


def _linked(file: Path) -> bool:
    return any(parent.is_symlink() for parent in file.parents)


def _paragraph(lines: list[str], number: int) -> Iterator[str]:
    for line in lines[number:]:
        text = line.strip().strip('"').lstrip("#-").strip()
        if not text:
            return
        yield text
        if HOLDER.search(text) or line.rstrip().endswith('"""'):
            return


@cache
def names_of_tests() -> set[str]:
    return {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_law_names_the_test_that_holds_it() -> None:
    found = [*laws()]
    assert len(found) > 30, "the laws of the code have gone: look for how they are written now"
    free = [place for place, text in found if not {*HOLDER.findall(text)} & names_of_tests()]
    assert not free


def test_the_master_s_parts_have_no_callback_that_is_bound_later() -> None:
    """An attribute that somebody else sets hides who calls whom from every tool."""
    strays = [
        f"{name_of(file)}:{node.lineno} {ast.unparse(node)}"
        for file in code_files()
        if name_of(file).startswith("supervisor/")
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Assign | ast.AnnAssign) and _binds_later(node)
    ]
    assert not strays


def _binds_later(node: ast.Assign | ast.AnnAssign) -> bool:
    """Return whether this sets a function of another's, or makes room for one with a lambda."""
    [target, *_] = node.targets if isinstance(node, ast.Assign) else [node.target]
    if not isinstance(target, ast.Attribute) or node.value is None:
        return False
    if target.attr.startswith("on_"):
        return isinstance(node.value, ast.Lambda | ast.Attribute)
    if isinstance(target.value, ast.Attribute) and isinstance(node.value, ast.Attribute):
        return dotted(node.value).startswith("self.")
    return isinstance(node.value, ast.Lambda)
