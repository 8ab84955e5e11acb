"""Where measurements are written down: sections of docs/benchmarks.md, each rewritten alone."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import subprocess
from pathlib import Path

from .side import ROOT

DOCUMENT = ROOT / "docs/benchmarks.md"
PLOTS = ROOT / "docs"


def machine() -> str:
    """Return one line on where and when this was measured."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = cpu[1].strip() if cpu else platform.machine()
    return (
        f"{dt.date.today()}, {os.cpu_count()} cores ({name}),"
        f" Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def revision() -> str:
    """Return the commit that was measured, with a "+" where files have been changed since."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def write_section(name: str, text: str) -> None:
    """Replace what stands between the section's two marks; the section must be there."""
    before, after = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    document = DOCUMENT.read_text()
    start, end = document.index(before) + len(before), document.index(after)
    DOCUMENT.write_text(f"{document[:start]}\n{text.strip()}\n\n{document[end:]}")


def write_plot(name: str, svg: str) -> None:
    (PLOTS / f"{name}.svg").write_text(svg)
