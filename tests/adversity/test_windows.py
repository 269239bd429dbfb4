"""Rules that begin and end by the clock: between two requests, and in the middle of one."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from router.accounting.chain import Event
from router.emulator import Distribution, Settings
from router.model.decision import Decision
from tests.adversity.client import ask, chat, sent
from tests.adversity.test_attempts import QUICK
from tests.router_kit import INTERNAL_KEY, Cloud, RunningRouter, held, router

START = datetime(2031, 1, 31, 23, 0, tzinfo=UTC).timestamp()
UNTIL = "2031-02-01T00:00:00Z"
PATIENT = {**QUICK, "commit_json_s": 10, "commit_stream_s": 10, "idle_s": 10}


class Calendar:
    """Time as it passes, on another day, which a test can turn."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, wall_s: float = START) -> None:
        self.ahead_s = wall_s - time.time()

    def wall(self) -> float:
        return time.time() + self.ahead_s

    def turn(self, seconds: float) -> None:
        self.ahead_s += seconds


def windowed(before: dict[str, Any], after: dict[str, Any], *, until: str = UNTIL) -> dict[str, Any]:
    return {**held(), "internal": {"placement": {**before, "until": until, "then_rule": after}, "reveal": "upstream"}}


AZURE: dict[str, Any] = {"rule": "exclusive", "cloud": "azure"}
CW: dict[str, Any] = {"rule": "exclusive", "cloud": "coreweave"}
BOTH: dict[str, Any] = {"rule": "spread", "clouds": ["azure", "coreweave"]}
CLOUDS = (Cloud("a"), Cloud("cw", "coreweave", "openai"))


def internal(**fields: Any) -> Any:
    return chat(key=INTERNAL_KEY, **fields)


def served_by(r: RunningRouter) -> list[str]:
    return [record.cloud for record in r.decisions() if isinstance(record, Decision)]


async def test_a_window_ends_between_two_requests() -> None:
    clock = Calendar()
    async with router(*CLOUDS, clock=clock, timeouts=PATIENT, workloads=windowed(AZURE, CW)) as r:
        for _ in range(3):
            assert (await ask(r, internal())).status == 200
        clock.turn(3601)
        for _ in range(3):
            assert (await ask(r, internal())).status == 200

        assert served_by(r) == ["azure"] * 3 + ["coreweave"] * 3
        rules = [(record.rule, record.rule_version) for record in r.decisions() if isinstance(record, Decision)]
        assert len(set(rules[:3])) == len(set(rules[3:])) == 1
        assert rules[0][0] == "exclusive:azure"
        assert rules[3][0] == "exclusive:coreweave"
        assert rules[0][1] != rules[3][1]
        told = [record for record in r.decisions() if isinstance(record, Event) and record.event == "configuration"]
        assert len(told) == 2


async def test_a_window_ends_without_a_request() -> None:
    """The sweep notices: /explain and the log say so before anybody asks."""
    clock = Calendar()
    async with router(*CLOUDS, clock=clock, timeouts=PATIENT, workloads=windowed(AZURE, CW)) as r:
        clock.turn(3601)
        snapshot = r.worker.assembly.runtime
        await r.until(lambda: snapshot.snapshot.workloads["internal"].permit.clouds == frozenset({"coreweave"}))


async def test_what_waits_over_the_end_of_a_window_gets_what_both_rules_allow() -> None:
    """Allowed when it began: azure. Allowed now: coreweave. Both: nothing, so nothing is sent."""
    clock = Calendar()
    one = {"deployment_extra": {"concurrent": 1}}
    workloads = windowed(AZURE, CW)
    workloads["internal"]["max_wait_ms"] = 5000
    paced = Settings(tokens=Distribution(20.0), token_gap_ms=Distribution(5.0))
    async with router(
        Cloud("a", settings=paced, **one), Cloud("cw", "coreweave", "openai"), clock=clock, timeouts=PATIENT,
        workloads=workloads,
    ) as r:  # fmt: skip
        r.clouds["a"].faults.add("stall_mid_stream", after_events=3, times=1)
        async with sent(r, internal(stream=True)) as first:
            await first.some(b'"content":')
            waits = asyncio.create_task(ask(r, internal()))
            await r.until(lambda: r.worker.assembly.runtime.waiting.count)
            clock.turn(3601)
            first.hang_up()
            reply = await waits
        assert reply.status == 503
        assert r.clouds["a"].received.requests == 1
        assert r.clouds["cw"].received.connections == 0
        assert r.worker.assembly.runtime.violations == 0
        assert (await ask(r, internal())).status == 200
        assert r.clouds["cw"].received.requests == 1


async def test_a_retry_over_the_end_of_a_window_keeps_to_what_both_rules_allow() -> None:
    clock = Calendar()
    async with router(*CLOUDS, clock=clock, timeouts=PATIENT, workloads=windowed(BOTH, AZURE)) as r:
        await r.worker.set_drain("cw/gpt-4o-dep", True)
        r.clouds["a"].faults.add("slow_head", delay_ms=200)
        r.clouds["a"].faults.add("reset_after_head")
        request = asyncio.create_task(ask(r, internal()))
        await r.until(lambda: r.clouds["a"].received.requests == 1)
        r.clouds["a"].faults.clear()
        await r.worker.set_drain("cw/gpt-4o-dep", False)
        clock.turn(3601)
        assert (await request).status == 200
        for _ in range(10):
            assert (await ask(r, internal())).status == 200
        assert r.clouds["cw"].received.connections == 0


async def test_a_rule_widened_by_time_does_not_widen_a_request_that_runs() -> None:
    """Half of its body came in the old window: it stays where it was allowed then."""
    clock = Calendar()
    async with router(*CLOUDS, clock=clock, timeouts=PATIENT, workloads=windowed(AZURE, BOTH)) as r:
        await r.worker.set_drain("a/gpt-4o-dep", True)
        async with sent(r, internal(), halves=True) as call:
            await r.until(lambda: r.worker.assembly.runtime.in_flight.get("internal"))
            clock.turn(3601)
            await r.until(lambda: len(r.worker.assembly.runtime.snapshot.workloads["internal"].permit.clouds) == 2)
            call.send_rest()
            reply = await asyncio.wait_for(call.rest(), 5)
        assert reply.status == 503
        assert r.clouds["cw"].received.connections == 0
        assert (await ask(r, internal())).status == 200
        assert r.clouds["cw"].received.requests == 1


async def test_a_stream_that_began_in_the_window_ends_after_it() -> None:
    """What was sent was allowed: its answer is the client's."""
    clock = Calendar()
    paced = Settings(tokens=Distribution(20.0), token_gap_ms=Distribution(10.0))
    async with router(
        Cloud("a", settings=paced), CLOUDS[1], clock=clock, timeouts=PATIENT, workloads=windowed(AZURE, CW)
    ) as r:
        async with sent(r, internal(stream=True)) as call:
            await call.some(b'"content":')
            clock.turn(3601)
            await r.until(lambda: r.worker.assembly.runtime.snapshot.since > START)
            assert (await asyncio.wait_for(call.rest(), 5)).complete
        assert served_by(r) == ["azure"]


async def test_a_declared_condition_ends_a_rule_and_is_on_record() -> None:
    clock = Calendar()
    declared = [{"name": "clause", "declared": UNTIL, "by": "legal"}]
    workloads = windowed(AZURE, BOTH, until="clause")
    async with router(*CLOUDS, clock=clock, timeouts=PATIENT, workloads=workloads, conditions=declared) as r:
        await r.worker.set_drain("a/gpt-4o-dep", True)
        assert (await ask(r, internal())).status == 503
        clock.turn(3601)
        assert (await ask(r, internal())).status == 200
        assert served_by(r) == ["", "coreweave"]
        told = [record for record in r.decisions() if isinstance(record, Event) and record.event == "configuration"]
        assert "legal" in str(told[-1].fields)


async def test_a_reload_knows_the_time() -> None:
    clock = Calendar()
    async with router(*CLOUDS, clock=clock, timeouts=PATIENT, workloads=windowed(AZURE, CW)) as r:
        clock.turn(3601)
        assert (await r.worker.reload()).ok
        assert r.worker.assembly.runtime.snapshot.workloads["internal"].permit.clouds == frozenset({"coreweave"})
        assert (await ask(r, internal())).status == 200
        assert served_by(r) == ["coreweave"]
