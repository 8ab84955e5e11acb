"""Jobs that break their worker from within: each gets a definite end, and the others go on."""

from __future__ import annotations

from typing import Any

import pytest

from taskqd.errors import JobDead, TaskFailed
from tests.support.apps import rude
from tests.support.apps import shop as tasks
from tests.support.rigs.shop_daemon import Shop
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
APP = "tests.support.apps.rude:app"


def _workers(kind: str) -> dict[str, Any]:
    return {"app": APP, "workers": {"count": 1, "type": kind, "concurrency": 1}}


@pytest.mark.parametrize("kind", ["process", "thread", "asyncio"])
def test_a_forked_child_that_came_back_went_on_as_the_worker(shop: Shop, kind: str) -> None:
    """It ended the job's place on the board, so nothing stopped the parent that waited for it."""
    with shop.open(**_workers(kind)) as daemon:
        codes = [rude.fork(how).get(timeout=HANG_S) for how in ("returns", "raises", "exits")]
        assert codes == [0, 1, 7]
        assert daemon.stop() == 0
    text = daemon.log_path.read_text()
    assert "LookupError: in the child" in text
    assert "worker.crashed" not in text


@pytest.mark.parametrize("kind", ["process", "thread", "asyncio"])
def test_a_job_that_broke_its_worker_once_it_had_returned_ran_again_without_end(
    shop: Shop, kind: str
) -> None:
    with shop.open(**_workers(kind)) as daemon:
        with pytest.raises(JobDead, match="poisoned"):
            rude.close_files().get(timeout=HANG_S)
        assert quick(1) == 1
        assert daemon.stop() == 0


@pytest.mark.parametrize("kind", ["asyncio", "greenlet"])
def test_a_worker_whose_loop_a_job_had_stopped_stayed_up_and_ran_nothing(
    shop: Shop, kind: str
) -> None:
    if kind == "greenlet":
        pytest.importorskip("gevent")
    with shop.open(**_workers(kind)) as daemon:
        with pytest.raises(JobDead, match="poisoned"):
            rude.stop_loop().get(timeout=HANG_S)
        assert quick(2) == 2
        assert daemon.stop() == 0


def test_a_coroutine_that_called_exit_ended_its_greenlet_worker(shop: Shop) -> None:
    pytest.importorskip("gevent")
    with shop.open(**_workers("greenlet")) as daemon:
        with pytest.raises(TaskFailed, match="SystemExit: 3"):
            rude.leave().get(timeout=HANG_S)
        assert daemon.stop() == 0
    assert "worker.crashed" not in daemon.log_path.read_text()


def test_an_error_that_names_a_file_outside_of_utf8_ended_its_worker(shop: Shop) -> None:
    with shop.open(**_workers("process")) as daemon:
        with pytest.raises(TaskFailed, match=r"FileNotFoundError: caf\\udce9"):
            rude.complain().get(timeout=HANG_S)
        assert daemon.stop() == 0
    assert "worker.crashed" not in daemon.log_path.read_text()


def test_an_import_that_names_a_file_outside_of_utf8_was_told_as_a_death(shop: Shop) -> None:
    with shop.daemon(env={"RUDE_IMPORT": "1"}, **_workers("process")) as daemon:
        assert daemon.exit_code() == 78
        assert "caf\\udce9" in daemon.events("app.rejected")[0]["error"]


def quick(n: int) -> int:
    return tasks.quick(n).get(timeout=HANG_S)
