"""What a router must last through, at a small scale; and that the kills could tell if they hurt others."""

import pytest

from loadtests.drills.load import Shot, Traffic
from loadtests.drills.outcome import Outcome
from loadtests.lasting import kills, spread
from loadtests.lasting.kills import Kill

TRAFFIC = Traffic("kept", "key", 1.0, stream_every=0)


def shot(port: int, begun: float, ended: float, *, ok: bool = True, process: str = "req_a") -> Shot:
    found = Shot(TRAFFIC, 0, begun)
    found.port, found.begun, found.first, found.ended = port, begun, ended, ended
    found.status, found.done, found.request_id = (200, ok, f"{process}-1") if ok else (0, False, "")
    return found


def judged(*shots: Shot) -> Outcome:
    outcome = Outcome()
    kills.judge(outcome, [Kill(10.0, 0, frozenset({1}))], shots)
    return outcome


def test_a_failure_counts_unless_it_was_on_the_killed_ones_connection_at_that_moment() -> None:
    back = shot(3, 10.1, 10.3, process="req_b")
    assert judged(shot(1, 9.0, 10.0, ok=False), back).kept
    assert not judged(shot(2, 9.0, 10.0, ok=False), back).kept, "another worker's connection"
    assert not judged(shot(1, 8.0, 9.5, ok=False), back).kept, "before the kill"
    assert not judged(shot(1, 11.0, 12.0, ok=False), back).kept, "the port of a connection that came later"


def test_it_is_back_with_the_first_answer_of_a_new_process() -> None:
    old = shot(2, 8.0, 9.0)
    assert judged(old, shot(2, 10.1, 10.2), shot(3, 10.1, 10.9, process="req_b")).kept
    assert not judged(old, shot(2, 10.1, 10.2), shot(3, 10.1, 11.1, process="req_b")).kept
    assert not judged(old, shot(2, 10.1, 10.2)).kept


@pytest.mark.timed
async def test_kills_cost_the_requests_of_the_killed_and_no_others() -> None:
    outcome = await kills.kills(kills.DRILL.quick)

    assert outcome.kept, outcome
    assert outcome.figures["kills"] == 3


@pytest.mark.timed
async def test_connections_come_to_lie_evenly() -> None:
    outcome = await spread.spread(spread.DRILL.quick)

    assert outcome.kept, outcome
