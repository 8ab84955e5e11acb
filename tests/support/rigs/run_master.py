"""Runs a master over the fake zygote: `run_master.py SETTINGS-AS-JSON`."""

from __future__ import annotations

import sys

from taskqd.supervisor.host import signals

signals.install()

from taskqd import settings  # noqa: E402
from taskqd.logs import setup as log  # noqa: E402
from taskqd.supervisor.master import Master  # noqa: E402

if __name__ == "__main__":
    chosen = settings.decode(sys.argv[1])
    out = log.configure(role="master", level="debug", format="json", file=chosen.log.file)
    argv = [sys.executable, "-m", "tests.support.rigs.fake_zygote"]
    sys.exit(Master(chosen, log=out, zygote_argv=argv).run())
