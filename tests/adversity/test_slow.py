"""A stream that is slower than its workload's objective is given up where another may be asked, and nowhere else."""

import asyncio
from typing import Any

import pytest

from router.emulator import Distribution, Settings
from tests.adversity.client import Ask, Reply, ask, chat
from tests.adversity.test_attempts import QUICK
from tests.router_kit import INTERNAL_KEY, Cloud, RunningRouter, held, router

PATIENT = {**QUICK, "commit_json_s": 10, "commit_stream_s": 10, "idle_s": 10}
OBJECTIVE_MS = 150
SLOW_MS = 700
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "before the head": ("slow_head", {"delay_ms": SLOW_MS}),
    "behind the head": ("stall_mid_stream", {"after_events": 0, "delay_ms": SLOW_MS}),
    "behind the empty chunk": ("stall_mid_stream", {"after_events": 1, "delay_ms": SLOW_MS}),
}


def settings(**internal: Any) -> dict[str, Any]:
    return {
        "timeouts": PATIENT,
        "resilience": {"budget_floor_per_s": 100},
        "workloads": held(ttft_objective_ms=OBJECTIVE_MS, **internal),
    }


def fleet(*azure: str) -> list[Cloud]:
    return [*(Cloud(name, tier=tier) for tier, name in enumerate(azure)), Cloud("cw", "coreweave", "openai")]


def internal(*, stream: bool = True, **fields: Any) -> Ask:
    return chat(stream=stream, key=INTERNAL_KEY, **fields)


async def served(r: RunningRouter, request: Ask) -> tuple[Reply, dict[str, Any], float]:
    """The answer, its record, and how long it took, in seconds."""
    before, loop = len(r.records()), asyncio.get_running_loop()
    began = loop.time()
    reply = await ask(r, request)
    took_s = loop.time() - began
    await r.until(lambda: len(r.records()) == before + 1)
    return reply, r.records()[-1], took_s


def by(reply: Reply) -> str:
    return reply.headers["x-router-served-by"].split("/")[1]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_slow_stream_is_given_up_for_another(fault: str) -> None:
    kind, values = FAULTS[fault]
    async with router(*fleet("a", "b"), **settings()) as r:
        r.clouds["a"].faults.add(kind, **values)

        reply, record, took_s = await served(r, internal())

        assert reply.complete
        assert by(reply) == "b"
        assert OBJECTIVE_MS / 1000 <= took_s < SLOW_MS / 1000
        assert [each["outcome"] for each in record["attempts"]] == ["slow", "served"]
        assert record["refusals"] == [["a/gpt-4o-dep", "azure", "slow"]]
        assert "left_holder" not in record
        await r.until(lambda: r.clouds["a"].received.aborted == 1)
        assert not r.backend("a").refusal(r.worker.assembly.loop.time()), "its health is judged by the sweep alone"


async def test_the_holders_slowness_is_a_refusal() -> None:
    async with router(*fleet("a"), **settings()) as r:
        r.clouds["a"].faults.add("slow_head", delay_ms=SLOW_MS)
        reply, record, _ = await served(r, internal())
        assert reply.complete
        assert by(reply) == "cw"
        assert record["refusals"] == [["a/gpt-4o-dep", "azure", "slow"]]
        assert record["left_holder"]


async def test_the_last_one_is_waited_for() -> None:
    """Also where the others are out, throttled or were asked in vain."""
    async with router(*fleet("a", "b"), **settings()) as r:
        await r.worker.set_drain("b/gpt-4o-dep", True)
        r.clouds["a"].faults.add("slow_head", delay_ms=SLOW_MS)
        r.clouds["cw"].faults.add("slow_head", delay_ms=SLOW_MS)

        reply, record, took_s = await served(r, internal())

        assert reply.complete
        assert by(reply) == "cw"
        assert took_s >= (OBJECTIVE_MS + SLOW_MS) / 1000
        assert [each["outcome"] for each in record["attempts"]] == ["slow", "served"]
        assert r.clouds["cw"].received.aborted == 0


async def test_the_holders_last_attempt_is_waited_for_where_nobody_else_is_there() -> None:
    """A third deployment of the holder would count as failed: it is nobody to give this one up for."""
    async with router(*fleet("a", "b", "c"), **settings(holder_attempts=2)) as r:
        await r.worker.set_drain("cw/gpt-4o-dep", True)
        r.clouds["a"].faults.add("status", status=500)
        r.clouds["b"].faults.add("slow_head", delay_ms=SLOW_MS)

        reply, record, _ = await served(r, internal())

        assert reply.complete
        assert by(reply) == "b"
        assert [each["outcome"] for each in record["attempts"]] == ["server_error", "served"]


@pytest.mark.parametrize(
    "request_of",
    [internal(store=True), internal(stream=False), chat(stream=True)],
    ids=["stored", "no stream", "another workload"],
)
async def test_what_has_no_objective_is_waited_for(request_of: Ask) -> None:
    async with router(*fleet("a", "b"), **settings()) as r:
        r.clouds["a"].faults.add("slow_head", delay_ms=400)
        reply, record, took_s = await served(r, request_of)
        assert reply.status == 200
        assert took_s >= 0.4
        assert [each["deployment"] for each in record["attempts"]] == ["a/gpt-4o-dep"]
        assert r.clouds["b"].received.requests == 0


async def test_giving_up_is_paid_from_the_retry_budget() -> None:
    none = {"budget_share": 0, "budget_floor_per_s": 0}
    async with router(*fleet("a", "b"), **{**settings(), "resilience": none}) as r:
        r.clouds["a"].faults.add("slow_head", delay_ms=400)
        reply, record, _ = await served(r, internal())
        assert reply.complete
        assert [each["outcome"] for each in record["attempts"]] == ["served"]


async def test_what_has_begun_is_not_given_up() -> None:
    """The objective is for the first event: a stream that speaks slowly is served to its end."""
    slow = Settings(tokens=Distribution(6.0), token_gap_ms=Distribution(80.0))
    async with router(Cloud("a", settings=slow), Cloud("cw", "coreweave", "openai"), **settings()) as r:
        reply, record, took_s = await served(r, internal())
        assert reply.complete
        assert took_s > OBJECTIVE_MS / 1000
        assert [each["outcome"] for each in record["attempts"]] == ["served"]


async def test_of_two_copies_none_is_given_up_for_the_other() -> None:
    """A copy that runs is nobody to be asked instead: where both are slow and nobody else is there, both go on."""
    pair = [Cloud("a"), Cloud("b")]
    workloads = held("azure", ttft_objective_ms=OBJECTIVE_MS, hedge={"after_ms": 30, "share_max": 1.0})
    workloads["internal"]["placement"] = {"rule": "spread", "clouds": ["azure"]}
    async with router(*pair, **{**settings(), "workloads": workloads}) as r:
        for name in ("a", "b"):
            r.clouds[name].faults.add("slow_head", delay_ms=SLOW_MS)
        reply, record, _ = await served(r, internal())
        assert reply.complete
        assert sorted(each["outcome"] for each in record["attempts"]) == ["hedge_lost", "served"]
