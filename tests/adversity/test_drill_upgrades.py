"""Upgrades under load, at a small scale."""

import pytest

from loadtests.lasting import upgrades


@pytest.mark.timed
async def test_two_upgrades_under_open_streams_cost_nobody_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrades, "STREAM_S", 4)
    monkeypatch.setattr(upgrades, "IDLE_S", 5)
    outcome = await upgrades.upgrades(upgrades.DRILL.quick)

    assert outcome.kept, outcome
    assert outcome.figures["upgrades"] == 2
    assert outcome.figures["streams_open"] >= 45
