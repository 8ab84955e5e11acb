"""`python -m taskqd` is the `taskqd` command."""

from __future__ import annotations

from taskqd.supervisor.cli.main import main

main()
