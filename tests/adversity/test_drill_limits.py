"""The measurement of how exactly limits are kept, at a small scale; and that it could tell if they were not."""

import pytest

from loadtests.drills.outcome import Scale
from loadtests.limits import accuracy
from loadtests.limits.accuracy import most_in_a_window


def at(*moments: float) -> list[tuple[float, float]]:
    return [(moment, moment) for moment in moments]


def test_a_burst_counts_whole_and_what_time_brought_does_not() -> None:
    assert most_in_a_window(at(5.0, 5.0, 5.0), rate=10.0) == 3
    assert most_in_a_window(at(*(5.0 + tick / 10 for tick in range(100))), rate=10.0) == pytest.approx(1.0)


def test_the_worst_window_is_found_wherever_it_is() -> None:
    quiet = [tick / 2 for tick in range(20)]
    assert most_in_a_window(at(*quiet, *[6.0] * 4), rate=2.0) == pytest.approx(5.0)
    assert most_in_a_window(at(*quiet, *(6.0 + tick / 100 for tick in range(50))), rate=2.0) > 45.0


def test_only_what_is_sure_counts() -> None:
    """Two that were under way for a second may have been taken a second apart."""
    assert most_in_a_window([(5.0, 6.0), (5.0, 6.0)], rate=1.0) == 1.0
    assert most_in_a_window([(5.0, 7.0), (5.5, 5.6)], rate=1.0) == pytest.approx(0.9)


@pytest.mark.timed
async def test_four_workers_pass_no_limit_and_use_it() -> None:
    outcome = await accuracy.accuracy(Scale(rate=435, before_s=0, fault_s=5))

    beyond, used, _, others = outcome.bars
    assert beyond.kept, outcome.figures
    assert others.kept, outcome.figures
    assert float(used.figure) >= 0.96, "a second in which a small machine was away is a twentieth of the rate"
    assert outcome.figures["requests_that_waited_for_the_supervisor"] > 0


@pytest.mark.timed
async def test_a_killed_worker_leaves_nothing_that_is_spent_twice() -> None:
    outcome = await accuracy.killed(Scale(rate=435, before_s=0, fault_s=5))

    assert outcome.bars[0].kept, outcome.figures
    assert outcome.figures["broken_by_the_kills"] > 0, "somebody was there"
