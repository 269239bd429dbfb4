"""The drills of regions at a small scale: as strict on counts as in full, generous on times as a busy machine needs."""

import pytest

from loadtests.drills import regions
from loadtests.drills.outcome import Outcome, Scale

pytestmark = pytest.mark.timed

FORGIVEN_S = 9.0  # one that failed fast is asked about once in seven seconds; its fault here began 1.5 s before its end
NOISE = 3.0  # a p99 of a hundred requests on a machine that does other work


def figure(outcome: Outcome, name: str) -> float:
    return float(outcome.figures[name])


def kept(outcome: Outcome, *starts: str) -> None:
    """Asserts that the bars that begin so are there, and are kept."""
    for start in starts:
        (bar,) = [bar for bar in outcome.bars if bar.what.startswith(start)]
        assert bar.kept, (bar, outcome.figures)


async def test_a_killed_region_costs_no_request_its_answer() -> None:
    outcome = await regions.killed(Scale(rate=50, before_s=1.5, fault_s=4))

    kept(outcome, "errors before the commit point")
    assert figure(outcome, "p99_first_ms_from_2_s") < NOISE * figure(outcome, "p99_first_ms_before")


async def test_a_region_that_slows_loses_its_share() -> None:
    outcome = await regions.slow(Scale(rate=50, before_s=1, fault_s=6))

    kept(outcome, "its share from 5 s", "errors")
    assert outcome.figures["share_below_5_percent_after_s"] <= 5.0


async def test_a_recovered_region_gets_its_share_back_and_no_herd() -> None:
    health = {"slow_start_s": 1.5, "open_s": 0.5, "open_s_max": 1.0}
    # Two failed dials open no breaker: what keeps it last is its penalty, which fades in up to seven seconds.
    outcome = await regions.recovery(Scale(rate=50, before_s=0.5, fault_s=1.5, after_s=12), health)

    kept(outcome, "429s from its first request on", "errors before the commit point")
    assert figure(outcome, "first_request_after_s") < FORGIVEN_S
    assert figure(outcome, "share_after") > 0.2, "of the third that is its own"


async def test_a_fast_failer_is_not_taken_for_an_idle_one() -> None:
    outcome = await regions.fast_failer(Scale(rate=50, before_s=1.5, fault_s=5))

    kept(outcome, "requests to the failing one", "errors that clients saw")
