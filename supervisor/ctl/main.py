"""The entry point of `taskqctl`, which talks to a running daemon or to the storage.

Exit codes: 0 done, 1 refused, not found or not ready, 64 usage, 69 no daemon or no storage there, 78
configuration.

law: nothing but the standard library is imported for a probe; the rest is loaded after that.
(test_a_probe_imports_the_standard_library_only)
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
"""A constant of our own, as in `taskqd`, so that a probe need not import `typing`."""

if TYPE_CHECKING:
    from .options import Configured, Options


def main() -> None:
    """Entry point of `taskqctl`."""
    argv = sys.argv[1:]
    if argv[:1] == ["probe"]:
        from .probe import probe

        sys.exit(probe(argv[1:], os.environ))
    from .commands import run

    sys.exit(run(argv, os.environ, read_config))


def read_config(options: Options) -> Configured:
    """Return the configuration of file, environment and flags, with the origin of each value.

    Raises Fail with every error."""
    from pathlib import Path

    from taskqd.config import ConfigErrors, load
    from taskqd.config.keys import KEYS
    from taskqd.config.table import as_written
    from taskqd.supervisor.cli.common import CONFIG, Fail

    from .options import Configured

    file = Path(options.config) if options.config else None
    flags = {"storage.url": options.storage, "name": options.name, "app": options.app}
    try:
        loaded = load(file=file, env=options.env, flags=flags)
    except ConfigErrors as error:
        raise Fail(CONFIG, str(error)) from None
    rows = [
        {"key": path, "value": as_written(loaded.settings, key), "origin": loaded.origins[path]}
        for path, key in KEYS.items()
    ]
    return Configured(loaded.settings, rows, loaded.warnings)
