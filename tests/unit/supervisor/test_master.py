"""The parts of the master know each other by their constructors alone."""

from __future__ import annotations

import ast
from pathlib import Path

from taskqd.supervisor import master


def test_the_master_sets_no_callback_of_a_part_after_it_was_made() -> None:
    strays = [
        f"{file.name}:{node.lineno} {ast.unparse(target)}"
        for file in Path(master.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute)
        and isinstance(node.value, ast.Lambda | ast.Attribute)
        and (isinstance(node.value, ast.Lambda) or isinstance(target.value, ast.Attribute))
        and ("on_" in target.attr or isinstance(node.value, ast.Lambda))
    ]
    assert not strays
