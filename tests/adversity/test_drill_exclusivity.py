"""The drill of the contract at a small scale."""

import pytest

from loadtests.drills import chaos
from loadtests.drills.outcome import Scale

pytestmark = pytest.mark.timed

# Those that leave Azure the right of first refusal: a few seconds have no time for the others.
RELOADS = (
    "the same",
    "broken",
    "a region goes",
    "Azure comes last by tier",
    "another order",
    "fewer clouds",
    "no hedges",
)


async def test_the_contract_holds_under_every_fault_at_once() -> None:
    outcome = await chaos.chaos(Scale(rate=50, before_s=0, fault_s=7), RELOADS)

    assert outcome.kept, ([bar for bar in outcome.bars if not bar.kept], outcome.figures)
    assert outcome.figures["internal_elsewhere"] >= 5, "holders refused"
    assert len(outcome.figures["faults_met"]) >= 8
    assert sum(outcome.figures["reloads"].values()) >= 3
