"""The drill of fairness at a small scale: as strict on answers as in full, on times as a busy machine allows."""

import pytest

from loadtests.drills import fairness
from loadtests.drills.outcome import Scale

pytestmark = pytest.mark.timed

NOISE = 2.0  # by arrival alone the others would wait for the whole second that they may


async def test_a_flood_is_no_news_to_who_stays_within_its_share() -> None:
    outcome = await fairness.slots(Scale(rate=60, before_s=2.5, fault_s=4))

    growth, _, errors, _ = outcome.bars
    assert errors.kept, outcome.figures
    assert outcome.figures["flood"]["served"] > 20, "and what they leave is used"
    assert float(growth.figure) < NOISE, outcome.figures
