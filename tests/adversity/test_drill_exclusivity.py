"""The drill of the contract at a small scale."""

from loadtests.drills import chaos
from loadtests.drills.outcome import Scale


async def test_the_contract_holds_under_every_fault_at_once() -> None:
    outcome = await chaos.chaos(Scale(rate=50, before_s=0, fault_s=7))

    assert outcome.kept, ([bar for bar in outcome.bars if not bar.kept], outcome.figures)
    assert outcome.figures["internal_elsewhere"] >= 5, "holders refused"
    assert len(outcome.figures["faults_met"]) >= 8
    assert sum(outcome.figures["reloads"].values()) >= 3
