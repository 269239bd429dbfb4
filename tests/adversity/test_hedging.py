"""A second copy of a silent request: late, in the same tier, paid for, and ended the moment that the other answers."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from router.emulator import Distribution, Settings
from router.model.decision import Decision
from router.proxy.answer import Answer
from router.proxy.context import Attempt, Context
from router.transport.client_connection import Connection
from router.transport.fiber import Branch, Fiber
from router.transport.inbound import Inbound
from router.transport.pool import Dial
from tests.adversity.client import Ask, Reply, ask, chat, sent
from tests.adversity.test_attempts import QUICK
from tests.router_kit import INTERNAL_KEY, Cloud, RunningRouter, heal, held, router

AFTER_MS = 60
PATIENT = {**QUICK, "commit_json_s": 10, "commit_stream_s": 10, "idle_s": 10}
GENEROUS = {"budget_floor_per_s": 100}
HEDGE: dict[str, Any] = {"after_ms": AFTER_MS, "share_max": 1.0}


def settings(*, hedge: dict[str, Any] | None = None, timeouts: dict[str, Any] = PATIENT, **more: Any) -> dict[str, Any]:
    return {"timeouts": timeouts, "resilience": GENEROUS, "workloads": held(hedge=hedge or HEDGE), **more}


def fleet(**more: Any) -> list[Cloud]:
    """Two of the holder's in one tier, a third in the next, and another cloud."""
    return [
        Cloud("a", **more),
        Cloud("b", **more),
        Cloud("later", tier=1, **more),
        Cloud("cw", "coreweave", "openai", **more),
    ]


def internal(*, stream: bool = True) -> Ask:
    return chat(stream=stream, key=INTERNAL_KEY)


def sends(r: RunningRouter) -> dict[str, int]:
    return {name: cloud.received.requests for name, cloud in r.clouds.items() if cloud.received.requests}


def prefer(r: RunningRouter, first: str) -> None:
    """Makes `first` the one of its tier that is asked first: the other has a request more to work at."""
    for name in ("a", "b"):
        if name != first:
            r.backend(name).meter.begin(50_000.0)


async def served(r: RunningRouter, request: Ask) -> tuple[Reply, dict[str, Any]]:
    """One request and its record."""
    before = len(r.records())
    reply = await ask(r, request)
    await r.until(lambda: len(r.records()) == before + 1)
    return reply, r.records()[-1]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_a_silent_copy_is_overtaken_and_ended_at_once(stream: bool) -> None:
    loop = asyncio.get_running_loop()
    async with router(*fleet(), **settings()) as r:
        prefer(r, "a")
        r.clouds["a"].faults.add("stall_before_head")

        began = loop.time()
        reply, record = await served(r, internal(stream=stream))
        took_s = loop.time() - began

        assert (reply.status, reply.whole) == (200, True)
        assert reply.headers["x-router-served-by"] == "azure/b/gpt-4o-dep"
        assert took_s >= AFTER_MS / 1000
        assert sends(r) == {"a": 1, "b": 1}
        a = r.clouds["a"].received
        await r.until(lambda: a.aborted == 1)
        assert a.last_aborted_at is not None
        assert a.last_aborted_at - began < took_s + 0.1
        outcomes = [(each["deployment"][0], each["outcome"], each.get("hedge", False)) for each in record["attempts"]]
        assert outcomes == [("a", "hedge_lost", False), ("b", "served", True)]
        lost, won = record["attempts"]
        assert lost["estimated"], "it had read the prompt, and nobody will hear what it billed"
        assert lost["cost_nano_usd"] > 0
        assert "estimated" not in won
        assert record["cost_nano_usd"] == won["cost_nano_usd"], "the client is charged for the one that served"
        assert "refusals" not in record
        assert await r.metric("router_hedges_total", workload="internal") == 1
        assert await r.metric("router_retries_total", workload="internal") == 0
        decided = [each for each in r.decisions() if isinstance(each, Decision)][-1]
        assert [(offer.deployment, offer.outcome) for offer in decided.offers] == [("b/gpt-4o-dep", "accepted")]


async def test_who_answers_in_time_has_no_copy() -> None:
    async with router(*fleet(settings=Settings(head_ms=Distribution(5.0))), **settings(hedge={"after_ms": 2000})) as r:
        for number in range(20):
            assert (await ask(r, internal(stream=number % 2 == 0))).status == 200
        assert sum(sends(r).values()) == 20
        assert await r.metric("router_hedges_total") == 0


async def test_the_first_may_still_win() -> None:
    async with router(*fleet(), **settings()) as r:
        prefer(r, "a")
        r.clouds["a"].faults.add("slow_head", delay_ms=300)
        r.clouds["b"].faults.add("stall_before_head")

        reply, record = await served(r, internal())

        assert reply.complete
        assert reply.headers["x-router-served-by"] == "azure/a/gpt-4o-dep"
        outcomes = [(each["deployment"][0], each["outcome"], each.get("hedge", False)) for each in record["attempts"]]
        assert outcomes == [("b", "hedge_lost", True), ("a", "served", False)]
        await r.until(lambda: r.clouds["b"].received.aborted == 1)


@pytest.mark.parametrize("failing", ["a", "b"], ids=["the first", "the second"])
async def test_where_one_copy_fails_the_other_goes_on(failing: str) -> None:
    other = "b" if failing == "a" else "a"
    async with router(*fleet(settings=Settings(head_ms=Distribution(150.0))), **settings()) as r:
        prefer(r, "a")
        r.clouds[failing].faults.add("reset_after_head")
        r.clouds[other].faults.add("slow_head", delay_ms=500)

        reply, record = await served(r, internal())

        assert reply.complete
        assert reply.headers["x-router-served-by"] == f"azure/{other}/gpt-4o-dep"
        outcomes = [(each["deployment"][0], each["outcome"], each.get("hedge", False)) for each in record["attempts"]]
        assert outcomes == [(failing, "broken", failing == "b"), (other, "served", other == "b")]
        assert record["refusals"] == [[f"{failing}/gpt-4o-dep", "azure", "failed"]]
        assert sends(r) == {"a": 1, "b": 1}
        assert await r.metric("router_hedges_total") == 1


async def test_where_both_fail_the_next_tier_serves() -> None:
    quick = {**PATIENT, "commit_stream_s": 0.4}
    async with router(*fleet(), **settings(timeouts=quick)) as r:
        for name in ("a", "b"):
            r.clouds[name].faults.add("stall_before_head")

        reply, record = await served(r, internal())

        assert reply.complete
        # Two failed sends are all that the holder has: the next tier of it counts as failed.
        assert reply.headers["x-router-served-by"] == "coreweave/cw/gpt-4o-dep"
        assert sends(r) == {"a": 1, "b": 1, "cw": 1}
        assert [each["outcome"] for each in record["attempts"]] == ["timeout", "timeout", "served"]
        refused = {deployment: why for deployment, _, why in record["refusals"]}
        assert refused == {"a/gpt-4o-dep": "failed", "b/gpt-4o-dep": "failed", "later/gpt-4o-dep": "failed"}


async def test_a_copy_stays_in_its_tier() -> None:
    alone = [Cloud("a"), Cloud("later", tier=1), Cloud("cw", "coreweave", "openai")]
    async with router(*alone, **settings()) as r:
        r.clouds["a"].faults.add("slow_head", delay_ms=300)

        reply, _ = await served(r, internal())

        assert reply.headers["x-router-served-by"] == "azure/a/gpt-4o-dep"
        assert sends(r) == {"a": 1}
        assert r.clouds["cw"].received.connections == 0


async def test_exclusive_traffic_has_no_copies() -> None:
    async with router(*fleet(), **settings()) as r:
        for cloud in ("a", "b"):
            r.clouds[cloud].faults.add("slow_head", delay_ms=200)
        for stream in (False, True):
            assert (await ask(r, chat(stream=stream))).status == 200
        assert sum(sends(r).values()) == 2


async def test_what_is_stored_is_never_sent_twice() -> None:
    async with router(*fleet(), **settings()) as r:
        for cloud in ("a", "b"):
            r.clouds[cloud].faults.add("slow_head", delay_ms=200)
        assert (await ask(r, chat(key=INTERNAL_KEY, store=True))).status == 200
        assert sum(sends(r).values()) == 1


async def test_copies_keep_to_their_share() -> None:
    """A fifth of a minute's requests: with everything slow at once, four of five stay alone."""
    async with router(*fleet(), **settings(hedge={"after_ms": AFTER_MS, "share_max": 0.2})) as r:
        for cloud in ("a", "b"):
            r.clouds[cloud].faults.add("slow_head", delay_ms=250)
        replies = await asyncio.gather(*(ask(r, internal(stream=number % 2 == 0)) for number in range(30)))
        assert {reply.status for reply in replies} == {200}
        assert 0 < await r.metric("router_hedges_total") <= 6
        assert sum(sends(r).values()) <= 36


async def test_copies_are_paid_from_the_retry_budget() -> None:
    few = {"budget_share": 0.1, "budget_floor_per_s": 0, "budget_window_s": 60}
    async with router(*fleet(), **{**settings(), "resilience": few}) as r:
        for cloud in ("a", "b"):
            r.clouds[cloud].faults.add("slow_head", delay_ms=250)
        await asyncio.gather(*(ask(r, internal()) for _ in range(20)))
        assert await r.metric("router_hedges_total") == 2
        assert await r.metric("router_retry_budget_left", workload="internal") == 0


async def test_a_client_that_leaves_ends_both_copies() -> None:
    async with router(*fleet(), **settings()) as r:
        for cloud in ("a", "b"):
            r.clouds[cloud].faults.add("stall_before_head")
        async with sent(r, internal()):
            await r.until(lambda: sends(r) == {"a": 1, "b": 1})
        left_at = asyncio.get_running_loop().time()
        received = [r.clouds[name].received for name in ("a", "b")]
        await r.until(lambda: all(each.aborted == 1 for each in received))
        assert all((each.last_aborted_at or 0.0) - left_at < 0.1 for each in received)
        await r.until(lambda: r.records())
        record = r.records()[0]
        assert record["outcome"] == "client_gone"
        assert [each["outcome"] for each in record["attempts"]] == ["client_gone", "client_gone"]
        await r.assert_nothing_is_left()
        assert all(backend.health.verdict(0.0).state.value == "unknown" for backend in map(r.backend, "ab"))


OF_A_REQUEST = (Context, Inbound, Answer, Attempt, Fiber, Dial, Branch, Connection)


def alive() -> Counter[str]:
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, OF_A_REQUEST))


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("end", ["the second wins", "the first wins", "one fails", "both fail", "the client leaves"])
async def test_a_race_is_freed_without_the_collector(end: str, no_collector: None) -> None:
    quick = {**PATIENT, "commit_stream_s": 0.2}

    async def race(r: RunningRouter) -> None:
        for backend in map(r.backend, ("a", "b", "later", "cw")):
            heal(backend)
        for cloud in r.clouds.values():
            cloud.faults.clear()
        a, b = r.clouds["a"].faults, r.clouds["b"].faults
        if end == "the second wins":
            a.add("stall_before_head", times=1)
            b.add("stall_before_head", times=1, skip=1)
        elif end == "the first wins":
            for each in (a, b):
                each.add("slow_head", delay_ms=110)
        elif end == "one fails":
            a.add("slow_head", delay_ms=110)
            b.add("reset_before_head")
        else:
            for each in (a, b):
                each.add("stall_before_head")
        if end == "the client leaves":
            async with sent(r, internal()):
                await r.until(lambda: r.backend("a").in_flight and r.backend("b").in_flight)
        else:
            assert (await ask(r, internal())).complete

    async with router(*fleet(), **settings(timeouts=quick)) as r:
        server = r.worker.assembly.gateway.server
        await race(r)  # the first of its kind fills caches
        await r.until(lambda: not server.connections)
        await r.assert_nothing_is_left()
        before = alive()

        for _ in range(3):
            await race(r)
        await r.until(lambda: not server.connections)
        await r.assert_nothing_is_left()

        assert alive() <= before
        assert alive()["Context"] == alive()["Branch"] == 0
