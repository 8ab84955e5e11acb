"""The pure rules of the supervisor: stop timeline, back-off, verdicts, out of memory, the board."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.ipc import board
from taskqd.ipc.board import Board, SlotView
from taskqd.supervisor.host.cgroup import OomCounter
from taskqd.supervisor.policy import respawn, verdict
from taskqd.supervisor.state import observation, timeline
from taskqd.supervisor.state.fleet import Child, Fleet, Observation, Post

NOW = 500.0
GRACES = st.floats(0.0, 100_000.0)


# -- what is owed -----------------------------------------------------------------------------------


def view(token: int) -> SlotView:
    return SlotView(0, token, 1_000_000_000, 3_500_000_000, f"job-{token}", "shop.slow")


KILLED = verdict.judge(-9, killed_for="timeout of shop.slow")


def test_the_job_that_was_late_counts_a_timeout_and_one_that_came_after_it_does_not() -> None:
    late = (view(7),)
    assert verdict.recovery_of(KILLED, [*late], late, interrupted=False) == (
        "timeout",
        "TaskTimeout: ran longer than 2.5 s",
        (),
    )
    assert verdict.recovery_of(KILLED, [view(6), *late], late, interrupted=False) == (
        "interrupted",
        "TaskTimeout: ran longer than 2.5 s",
        (7,),
    )
    assert verdict.recovery_of(KILLED, [view(8)], late, interrupted=False)[0] == "interrupted"


def test_jobs_of_a_worker_that_died_by_itself_are_orphaned() -> None:
    assert verdict.recovery_of(KILLED, [view(7)], (), interrupted=False)[0] == "orphaned"
    assert verdict.recovery_of(KILLED, [view(7)], (), interrupted=True)[0] == "interrupted"


# -- the timeline of a stop ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grace_s", "drain_s"),
    [(25, 20), (60, 55), (10, 5), (6, 3), (1, 0.5), (0, 0)],
)
def test_jobs_are_left_alone_until_five_seconds_before_the_end_or_half_of_a_short_grace(
    grace_s: float,
    drain_s: float,
) -> None:
    assert timeline.drain_s(grace_s) == drain_s


@given(GRACES)
def test_the_steps_of_a_stop_follow_each_other_within_the_grace(grace_s: float) -> None:
    line = timeline.begin(NOW, grace_s)
    assert list(line) == sorted(line)
    assert line.end_s <= NOW + max(grace_s, timeline.LEAST_TAIL_S)


@given(GRACES, st.floats(0.0, 200_000.0))
def test_hurrying_never_makes_a_stop_longer(grace_s: float, after_s: float) -> None:
    line = timeline.begin(NOW, grace_s)
    now_s = NOW + after_s
    for sooner in (
        timeline.hasten(line, now_s),
        timeline.cut(line, now_s),
        timeline.cut(timeline.hasten(line, now_s), now_s),
    ):
        assert all(new <= old + 1e-6 for new, old in zip(sooner, line, strict=True))
        assert list(sooner) == sorted(sooner)


def test_a_hastened_stop_keeps_its_tail() -> None:
    line = timeline.hasten(timeline.begin(NOW, 600), NOW + 10)
    assert line.interrupt_s == NOW + 10
    assert line.end_s == pytest.approx(NOW + 10 + 0.92 * 5)


def test_a_cut_takes_back_before_it_kills() -> None:
    line = timeline.cut(timeline.begin(NOW, 600), NOW + 10)
    assert line.recover_s == NOW + 10 < line.kill_s < line.retire_s < line.end_s <= NOW + 13


# -- back-off --------------------------------------------------------------------------------------


def test_the_first_crash_of_a_worker_that_served_is_answered_at_once() -> None:
    failures = respawn.failures_after(0, proven=False)
    assert respawn.delay_s(failures, 1.0, served=True) == 0


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_delay_is_between_nothing_and_half_a_minute(failures: int, chance: float) -> None:
    for served in (True, False):
        assert 0 <= respawn.delay_s(failures, chance, served=served) <= respawn.LONGEST_S


def test_a_child_that_never_served_waits_at_least_the_shortest_time() -> None:
    assert respawn.delay_s(1, 0.0, served=False) == respawn.FIRST_S


def test_delays_double_up_to_the_longest() -> None:
    longest = [respawn.delay_s(n, 1.0, served=False) for n in range(1, 12)]
    assert longest[:4] == [0.1, 0.2, 0.4, 0.8]
    assert longest[-1] == respawn.LONGEST_S


def test_kills_of_workers_that_served_never_add_up() -> None:
    failures = 0
    for _ in range(20):
        failures = respawn.failures_after(failures, proven=respawn.proven(1, 0.2))
        assert respawn.delay_s(failures, 1.0, served=True) == 0
    assert respawn.proven(0, respawn.PROVEN_S)
    assert not respawn.proven(0, respawn.PROVEN_S - 0.1)
    assert not respawn.proven(0, None)
    assert respawn.failures_after(7, proven=False) == 8


# -- verdicts --------------------------------------------------------------------------------------


def test_a_signal_is_named() -> None:
    found = verdict.judge(-11)
    assert (found.cause, found.signal, found.exit_code) == ("signal", "SIGSEGV", None)
    assert found.crashed


def test_sigkill_is_out_of_memory_only_where_the_kernel_says_so() -> None:
    assert verdict.judge(-9).cause == "signal"
    assert verdict.judge(-9, oom_kills=1).cause == "oom"
    assert verdict.judge(-15, oom_kills=1).cause == "signal"


def test_an_exit_that_nobody_asked_for_is_a_crash_even_with_0() -> None:
    found = verdict.judge(0)
    assert found.crashed
    assert "without having been told" in found.text


def test_a_worker_that_had_to_end_without_its_storage_was_said_to_have_ended_unasked() -> None:
    found = verdict.judge(verdict.UNSETTLED, stopping=True)
    assert found.text == "exited with 75: the storage was lost when it had to end"
    assert "without having been told" in verdict.judge(verdict.UNSETTLED).text


def test_a_drained_child_is_no_crash() -> None:
    assert not verdict.judge(0, drained=True).crashed


def test_a_killed_child_says_why_and_is_no_crash_during_a_stop() -> None:
    found = verdict.judge(-9, killed_for="hung: no beat for 11 s")
    assert found.text == "hung: no beat for 11 s: killed by SIGKILL"
    assert found.crashed
    assert not verdict.judge(-9, killed_for="stop: its grace is over", stopping=True).crashed


def test_a_failed_boot_keeps_its_reason() -> None:
    assert "no such table" in verdict.judge(70, boot_error="no such table").text


def test_the_verdict_on_jobs_says_how_many_ran_beside() -> None:
    views = [SlotView(n, n, 0, 0, f"j{n}", "t") for n in (1, 2, 3)]
    assert verdict.on_jobs(verdict.judge(-9), views[:1]) == "worker killed by SIGKILL"
    assert verdict.on_jobs(verdict.judge(-9), views).endswith("with 3 jobs running")


# -- out of memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "file", "used"),
    [
        (
            "4:memory:/pod\n0::/\n",
            "sys/fs/cgroup/memory/pod/memory.oom_control",
            "memory.usage_in_bytes",
        ),
        ("0::/pod\n", "sys/fs/cgroup/pod/memory.events", "memory.current"),
        ("0::/host/path/of/pod\n", "sys/fs/cgroup/memory.events", "memory.current"),
    ],
    ids=["v1", "v2", "v2 in a container"],
)
def test_kills_are_counted_since_the_last_look(
    tmp_path: Path, group: str, file: str, used: str
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(group)
    counter_file = tmp_path / file
    counter_file.parent.mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").touch()
    (counter_file.parent / used).touch()
    counter_file.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    counter = OomCounter(tmp_path)
    assert counter.take() == 0
    counter_file.write_text("low 0\noom 5\noom_kill 3\n")
    assert counter.take() == 1
    assert counter.take() == 0


def test_where_the_kernel_does_not_tell_nothing_is_counted(tmp_path: Path) -> None:
    assert OomCounter(tmp_path).take() == 0


# -- the board -------------------------------------------------------------------------------------


def board_and_fleet() -> tuple[Board, Fleet, Child]:
    rows = Board(memoryview(bytearray(board.size(2, 1))), 2, 1)
    child = Child("n.1", "worker", 0, 1, 0.0)
    posts = [Post(0, "worker", active=True, child=child)]
    fleet = Fleet(posts, Post(1, "scheduler"), 25.0, 30.0, kills_overdue=True)
    return rows, fleet, child


S = 1_000_000_000


def test_a_beat_is_aged_and_its_absence_is_no_age() -> None:
    rows, fleet, _ = board_and_fleet()
    assert (
        observation.look(fleet.children(), fleet.observations, rows, 10 * S)["n.1"].beat_age_s
        is None
    )
    rows.row(0).set(board.BEAT, 7 * S)
    assert (
        observation.look(fleet.children(), fleet.observations, rows, 10 * S)["n.1"].beat_age_s
        == 3.0
    )


def test_a_beat_from_after_the_look_began_has_no_negative_age() -> None:
    rows, fleet, _ = board_and_fleet()
    rows.row(0).set(board.BEAT, 11 * S)
    assert (
        observation.look(fleet.children(), fleet.observations, rows, 10 * S)["n.1"].beat_age_s == 0
    )


def test_a_job_is_overdue_when_it_is_seen_late_twice() -> None:
    rows, fleet, _ = board_and_fleet()
    rows.row(0).begin(0, 7, 1 * S, 5 * S, "job-7", "shop.slow")
    for _ in range(2):
        fleet.observations = observation.look(fleet.children(), fleet.observations, rows, 10 * S)
    late = fleet.observations["n.1"].overdue
    assert late is not None
    assert late.job_id == "job-7"


def test_another_job_in_the_same_slot_is_not_blamed_for_the_one_before() -> None:
    rows, fleet, _ = board_and_fleet()
    rows.row(0).begin(0, 7, 1 * S, 5 * S, "job-7", "shop.slow")
    fleet.observations = observation.look(fleet.children(), fleet.observations, rows, 10 * S)
    rows.row(0).begin(0, 8, 1 * S, 5 * S, "job-8", "shop.slow")
    fleet.observations = observation.look(fleet.children(), fleet.observations, rows, 10 * S)
    assert fleet.observations["n.1"].overdue is None


def test_a_job_without_a_deadline_is_never_late() -> None:
    rows, fleet, _ = board_and_fleet()
    rows.row(0).begin(0, 7, 1 * S, 0, "job-7", "shop.slow")
    assert (
        observation.look(fleet.children(), fleet.observations, rows, 10**6 * S)["n.1"].late is None
    )


def weighed(child: Child, late_s: float, at_s: float, cpu_s: float) -> bool:
    seen = Observation(late_s, [], (0, 0, 0, 0))
    observation.weigh(child, seen, at_s, lambda _pid: cpu_s)
    return child.load.computes


def test_a_worker_that_computes_is_told_from_one_that_is_stuck() -> None:
    child = Child("n.1", "worker", 0, 1, 0.0)
    assert not weighed(child, 4.0, 100.0, cpu_s=50.0)
    assert not weighed(child, 4.5, 101.0, cpu_s=51.0)  # too soon to say
    assert weighed(child, 6.0, 102.0, cpu_s=50.1)
    assert not weighed(child, 8.0, 104.0, cpu_s=50.1)
    assert weighed(child, 10.0, 106.0, cpu_s=52.0)
    assert not weighed(child, 0.1, 106.1, cpu_s=52.1)  # it beats again


# -- answers of the storage ------------------------------------------------------------------------


def steady_s(*heard_s: float) -> float:
    """Return for how long answers have come without a gap, after looks each second."""
    memory = memoryview(bytearray(board.size(1, 1)))
    rows = Board(memory, 1, 1)
    post = Post(0, "worker", active=True)
    post.child = Child("n.0", "worker", 0, 1, 0.0)
    fleet = Fleet([post], Post(1, "scheduler"), 25.0, 30.0, True)
    for now_s in range(1, 101):
        times = [time for time in heard_s if time <= now_s]
        rows.row(0).set(board.HEARD, round(max(times, default=0) * 1e9))
        fleet.observations = observation.look(
            fleet.children(), fleet.observations, rows, now_s * 10**9
        )
    return fleet.observations["n.0"].steady_s


def test_answers_count_as_steady_until_there_is_a_gap() -> None:
    assert steady_s(*range(1, 100, 10)) == 90.0
    assert steady_s(10, 20, 30, 70, 80, 90) == 20.0
    assert steady_s(50) == 0.0
    assert steady_s() == 0.0
