"""What the board says of a child."""

from __future__ import annotations

from taskqd.ipc import board
from taskqd.ipc.board import Board
from taskqd.supervisor.state import observation
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Fleet, Post
from taskqd.supervisor.state.observation import Observation


def board_and_fleet() -> tuple[Board, Fleet, Child]:
    rows = Board(memoryview(bytearray(board.size(2, 1))), 2, 1)
    child = Child("n.1", "worker", 0, 1, 0.0)
    posts = [Post(0, "worker", active=True, child=child)]
    fleet = Fleet(posts, Post(1, "scheduler"), 25.0, 30.0, kills_overdue=True)
    return rows, fleet, child


S = 1_000_000_000


def weighed(child: Child, late_s: float, at_s: float, cpu_s: float) -> bool:
    seen = Observation(late_s, [], (0, 0, 0, 0))
    observation.weigh(child, seen, at_s, lambda _pid: cpu_s)
    return child.load.computes


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


def test_a_worker_that_computes_is_told_from_one_that_is_stuck() -> None:
    child = Child("n.1", "worker", 0, 1, 0.0)
    assert not weighed(child, 4.0, 100.0, cpu_s=50.0)
    assert not weighed(child, 4.5, 101.0, cpu_s=51.0)  # too soon to say
    assert weighed(child, 6.0, 102.0, cpu_s=50.1)
    assert not weighed(child, 8.0, 104.0, cpu_s=50.1)
    assert weighed(child, 10.0, 106.0, cpu_s=52.0)
    assert not weighed(child, 0.1, 106.1, cpu_s=52.1)  # it beats again


def test_answers_count_as_steady_until_there_is_a_gap() -> None:
    assert steady_s(*range(1, 100, 10)) == 90.0
    assert steady_s(10, 20, 30, 70, 80, 90) == 20.0
    assert steady_s(50) == 0.0
    assert steady_s() == 0.0
