"""A daemon whose log is a pipe that somebody has stopped to read."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from pathlib import Path

from tests.support.apps import shop as tasks
from tests.support.rigs.shop_daemon import Shop, open_shop
from tests.support.waiting import HANG_S


def test_a_log_that_nobody_reads_holds_up_no_job_and_no_stop(tmp_path: Path) -> None:
    with open_shop(tmp_path, f"sqlite:///{tmp_path}/shop.db") as shop:
        daemon = shop.daemon(workers={"count": 2}, log={"format": "json", "level": "debug"})
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        # Not by `start`: that one writes the log to a file.
        daemon.process = subprocess.Popen(
            daemon._argv,
            cwd=daemon.folder,
            env=daemon._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writer,
            start_new_session=True,
        )
        os.close(writer)
        try:
            results = list(tasks.quick.map((number,) for number in range(200)))
            assert [result.get(timeout=HANG_S) for result in results] == list(range(200))
            assert daemon.stop() == 0
        finally:
            leftovers = daemon._end()
        with os.fdopen(reader) as pipe:
            lines = [json.loads(line) for line in pipe]
        assert lines[0]["event"] == "master.started"
        assert not leftovers


def test_a_job_that_enqueues_another_one_is_told_at_debug(shop: Shop) -> None:
    with shop.open() as daemon:
        assert tasks.chain(7).get(timeout=HANG_S) == 7
        told = daemon.wait("job.enqueued", task=tasks.quick.name)
        daemon.wait("job.done", job_id=told["job_id"])
        assert told["role"] == "worker"
        assert daemon.stop() == 0
