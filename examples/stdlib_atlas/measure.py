"""Measure one source file; fold many measurements into an atlas.  Pure, apart from reading the file."""

from __future__ import annotations

import ast
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

Function = ast.FunctionDef | ast.AsyncFunctionDef
TOP = 5


class Longest(msgspec.Struct, frozen=True, order=True):
    """A function by its length."""

    lines: int
    name: str
    path: str


class FileFacts(msgspec.Struct, frozen=True):
    """What is known of one file."""

    path: str
    lines: int = 0
    classes: int = 0
    functions: int = 0
    longest: Longest | None = None
    imports: tuple[str, ...] = ()
    """Top-level modules, sorted, each once."""
    problem: str = ""
    """Why it could not be parsed: the standard library tests its parser with broken files."""


class Atlas(msgspec.Struct, frozen=True):
    """All files together."""

    files: int
    lines: int
    classes: int
    functions: int
    longest: list[Longest]
    biggest: list[tuple[int, str]]
    """(lines, path)"""
    imported: list[tuple[int, str]]
    """(files that import it, module)"""
    broken: list[tuple[str, str]]
    """(path, problem)"""


def measure_file(path: str) -> FileFacts:
    """Raises OSError where the file cannot be read; a file that does not parse is a fact."""
    try:
        with tokenize.open(path) as file:
            source = file.read()
        tree = ast.parse(source, path)
    except (SyntaxError, ValueError) as error:
        return FileFacts(path, problem=f"{type(error).__name__}: {error}"[:200])
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, Function)]
    return FileFacts(
        path,
        lines=source.count("\n"),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        functions=len(functions),
        longest=max((_length(node, path) for node in functions), default=None),
        imports=tuple(sorted(set(_imports(nodes)))),
    )


def _length(function: Function, path: str) -> Longest:
    return Longest((function.end_lineno or 0) - function.lineno + 1, function.name, path)


def _imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def fold(facts: list[FileFacts]) -> Atlas:
    whole = [fact for fact in facts if not fact.problem]
    imported = Counter(module for fact in whole for module in fact.imports)
    return Atlas(
        files=len(facts),
        lines=sum(fact.lines for fact in whole),
        classes=sum(fact.classes for fact in whole),
        functions=sum(fact.functions for fact in whole),
        longest=sorted((fact.longest for fact in whole if fact.longest), reverse=True)[:TOP],
        biggest=sorted(((fact.lines, fact.path) for fact in whole), reverse=True)[:TOP],
        imported=[(files, module) for module, files in imported.most_common(2 * TOP)],
        broken=sorted((fact.path, fact.problem) for fact in facts if fact.problem),
    )
