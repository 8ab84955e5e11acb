"""Print the group `dev` of pyproject.toml, one requirement a line."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
print(*project["dependency-groups"]["dev"], sep="\n")
