"""The drill of the quota twin at a small scale: limits of a second, which a few seconds show."""

import pytest

from loadtests.drills import quota
from loadtests.drills.outcome import Scale

pytestmark = pytest.mark.timed


async def test_the_twin_sees_a_429_coming() -> None:
    outcome = await quota.quota(Scale(rate=80, before_s=0, fault_s=6), ["rpm"])

    refused = {
        name: (each["with"]["throttled"], each["without"]["throttled"]) for name, each in outcome.figures.items()
    }
    with_twin, without = (sum(column) for column in zip(*refused.values(), strict=True))
    assert without >= 10, "the quota was one"
    assert with_twin <= without / 2, refused
    assert outcome.bars[-1].kept, outcome.figures
