"""A child's state has one writer."""

from __future__ import annotations

import ast
from pathlib import Path

from taskqd.supervisor.state import child

FOLDER = Path(child.__file__).parents[1]


def test_a_childs_state_changes_by_the_table_and_by_nothing_else() -> None:
    writers = [
        f"{file.name}:{node.lineno} {ast.unparse(target)}"
        for file in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Assign)
        for found in node.targets
        for target in (found.elts if isinstance(found, ast.Tuple) else [found])
        if isinstance(target, ast.Attribute)
        if target.attr == "state" and ast.unparse(target.value) != "zygote"
    ]
    assert [place.split()[1] for place in writers] == ["self.state"]
    assert writers[0].startswith("child.py")
