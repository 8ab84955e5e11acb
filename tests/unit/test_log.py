"""The log's set-up: what it costs to import it, and what it leaves of that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def in_fresh_interpreter(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_master_imports_neither_asyncio_nor_ssl_nor_rich() -> None:
    loaded = in_fresh_interpreter(
        "import json, sys, taskqd.supervisor.cli, taskqd.supervisor.master;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    dear = {"asyncio", "ssl", "greenlet", "rich", "redis", "apsw", "psutil", "email", "http"}
    assert not dear & set(loaded)
    assert "structlog" in loaded


def test_the_master_s_imports_fit_in_25_megabytes() -> None:
    rss_kb = in_fresh_interpreter(
        "import json, taskqd.supervisor.cli, taskqd.supervisor.master;"
        "rss = [line for line in open('/proc/self/status') if line.startswith('VmRSS')][0];"
        "print(json.dumps(int(rss.split()[1])))"
    )
    assert rss_kb * 1024 <= 25e6


def test_asyncio_is_the_real_one_for_users_after_structlog_was_imported() -> None:
    code = """
import json, sys, taskqd.log
before = "asyncio" in sys.modules
import asyncio, structlog, structlog.stdlib
async def tell():
    await structlog.wrap_logger(structlog.ReturnLogger(), processors=[],
        wrapper_class=structlog.make_filtering_bound_logger(0)).ainfo("x")
    return type(structlog.stdlib.asyncio.get_running_loop()).__name__
loop = asyncio.run(tell())
print(json.dumps([before, asyncio.__file__.endswith("asyncio/__init__.py"), "Loop" in loop]))
"""
    assert in_fresh_interpreter(code) == [False, True, True]


def test_structlog_s_asyncio_works_where_nobody_else_has_imported_it() -> None:
    code = """
import json, sys, taskqd.log, structlog
get = structlog.stdlib.asyncio.get_running_loop
print(json.dumps([get.__name__, "asyncio" in sys.modules]))
"""
    assert in_fresh_interpreter(code) == ["get_running_loop", True]
