"""Print a dependency group of pyproject.toml (default: dev), one requirement a line."""

import sys
import tomllib
from pathlib import Path

group = sys.argv[1] if len(sys.argv) > 1 else "dev"
project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
print(*project["dependency-groups"][group], sep="\n")
