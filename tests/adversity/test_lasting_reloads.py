"""Reloads under load, good and bad, with one worker and with two, at a small scale."""

import pytest

from loadtests.lasting import reloads


@pytest.mark.timed
async def test_reloads_cost_no_request_and_are_answered_as_their_files_deserve() -> None:
    outcome = await reloads.reloads(reloads.DRILL.quick)

    assert len(outcome.bars) == 6
    # The p99 of so few requests is their slowest one, and says nothing.
    assert all(bar.kept for bar in outcome.bars if "p99" not in bar.what), outcome
    assert all(outcome.figures[f"workers_{workers}"]["refused"] == 1 for workers in (1, 2))
