"""The drills of outages at a small scale: what is sent into one, how soon it is over, and who else notices."""

import asyncio

import pytest

from loadtests.drills import outages
from loadtests.drills.outcome import Scale

pytestmark = pytest.mark.timed

# Short beside the outage: what is sent before the first timeouts can tell anything must not be most of what is counted.
TIMEOUTS = {**outages.TIMEOUTS, "connect_s": 0.5, "commit_stream_s": 0.5, "commit_json_s": 0.5}
NOISE = 3.0  # a p99 of a hundred requests on a machine that does other work


async def test_an_outage_is_not_made_worse_and_ends_with_its_cause() -> None:
    """All kinds at a time, each with clouds and a router of its own: most of it is waiting."""
    scale = Scale(rate=50, before_s=0.3, fault_s=8, after_s=11)
    outcomes = await asyncio.gather(*(outages.total(scale, [kind], TIMEOUTS) for kind in outages.KINDS))

    for outcome in outcomes:
        assert all(bar.kept for bar in outcome.bars), (outcome.bars, outcome.figures)


@pytest.mark.parametrize("kind", outages.HOLES)
async def test_a_black_hole_costs_the_others_nothing(kind: str) -> None:
    outcome = await outages.bulkhead(Scale(rate=90, before_s=1, fault_s=3.5), [kind])

    for bar in outcome.bars:
        assert bar.kept or "p99" in bar.what, (bar, outcome.figures)
    for before, during in outcome.figures[kind]["p99_first_ms"].values():
        assert during < NOISE * before
    assert outcome.figures[kind]["failures_of_its_own"], "the hole was one"
