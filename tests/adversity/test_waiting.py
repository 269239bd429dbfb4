"""When nothing is free a request waits: in order, not for long, and never for what others may have at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from router.config.keys import digest
from router.emulator import Distribution, Settings
from tests.adversity.client import Ask, Call, Reply, ask, chat, sent
from tests.adversity.test_attempts import QUICK
from tests.adversity.test_waits import wait_ms
from tests.router_kit import INTERNAL_KEY, Cloud, RunningRouter, held, router

KEYS = {name: f"sk-ir-test-{name}" for name in ("low", "normal", "urgent", "high")}
ONE: dict[str, Any] = {"deployment_extra": {"concurrent": 1}}
# Long enough for a machine that is busy with something else.
PATIENT = {**QUICK, "commit_json_s": 10, "commit_stream_s": 10, "idle_s": 10}


def workloads(**more: Any) -> dict[str, Any]:
    """Spread over azure: by priority, and `urgent`, which is like `normal` but waits less long."""
    spread = {"placement": {"rule": "spread", "clouds": ["azure"]}, "max_wait_ms": 8000, **more}
    return {
        "low": {**spread, "priority": "low"},
        "normal": spread,
        "urgent": {**spread, "max_wait_ms": 5000},
        "high": {**spread, "priority": "high"},
    }


def keys(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "workload": name, "sha256": digest(KEYS[name]).hex(), "models": ["*"]} for name in names]


def crowd(**more: Any) -> dict[str, Any]:
    return {"timeouts": PATIENT, "workloads": workloads(**more.pop("waits", {})), "keys": keys(*KEYS), **more}


def of(name: str, **fields: Any) -> Ask:
    return chat(key=KEYS[name], **fields)


def waiting(r: RunningRouter) -> int:
    return r.worker.assembly.runtime.waiting.count


class Holding:
    """One that keeps the only slot of a deployment until it is let go."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def let_go(self) -> None:
        self.call.hang_up()


@asynccontextmanager
async def held_up(r: RunningRouter, request: Ask, cloud: str = "first") -> AsyncIterator[Holding]:
    """A stream that began and goes on: what it takes is free when it is let go."""
    r.clouds[cloud].faults.add("stall_mid_stream", after_events=3, times=1)
    async with sent(r, replace(request, body=orjson.dumps({**orjson.loads(request.body), "stream": True}))) as call:
        await asyncio.wait_for(call.some(b'"content":'), 5)
        yield Holding(call)


async def enter(r: RunningRouter, stack: AsyncExitStack, request: Ask) -> "asyncio.Task[Reply]":
    """A request that waits in the room when this returns."""
    before = waiting(r)
    task = asyncio.create_task(ask(r, request))
    stack.callback(task.cancel)
    await r.until(lambda: waiting(r) == before + 1)
    return task


def order(r: RunningRouter) -> list[str]:
    """Who was served by then, in the order of their ends."""
    return [record["key"] for record in r.records() if record["outcome"] == "ok"]


async def test_the_more_important_and_then_the_more_urgent_goes_first() -> None:
    async with router(Cloud("first", **ONE), **crowd()) as r, AsyncExitStack() as stack:
        async with held_up(r, of("normal")) as first:
            tasks = [await enter(r, stack, of(name)) for name in ("low", "normal", "urgent", "normal", "high")]
            first.let_go()
            replies = await asyncio.gather(*tasks)

        assert {reply.status for reply in replies} == {200}
        await r.until(lambda: len(order(r)) == 5)
        assert order(r) == ["high", "urgent", "normal", "normal", "low"]
        waited = [record for record in r.records() if record["outcome"] == "ok"]
        assert all(record["queued_ms"] > 0 for record in waited)


async def test_a_newcomer_does_not_overtake_and_a_more_important_one_does() -> None:
    """A slot is free, and those who wait have not been told yet: that moment is held on to."""
    async with router(Cloud("first", **ONE), **crowd()) as r, AsyncExitStack() as stack:
        queues: Any = r.worker.assembly.runtime.waiting
        first = await stack.enter_async_context(held_up(r, of("normal")))
        early = await enter(r, stack, of("normal"))
        tell, look = queues.capacity_came, queues.on_time
        queues.capacity_came, queues.on_time = lambda _: None, lambda now: now + 0.05
        first.let_go()
        await r.until(lambda: not r.backend("first").in_flight)

        late = await enter(r, stack, of("normal"))
        assert (await ask(r, of("high"))).status == 200
        assert waiting(r) == 2

        queues.capacity_came, queues.on_time = tell, look
        assert {(await task).status for task in (early, late)} == {200}
        await r.until(lambda: len(order(r)) == 3)
        served = [int(record["id"].rsplit("-", 1)[1]) for record in r.records() if record["outcome"] == "ok"]
        assert served == [4, 2, 3], "by arrival: the one that keeps the slot, early, late, and the important one"


@pytest.mark.parametrize(("name", "places"), [("low", 2), ("normal", 4), ("high", 5)])
async def test_a_room_is_bounded_and_low_priority_is_shed_first(name: str, places: int) -> None:
    """Of a room of five: half of it for the least important, four fifths for most, all for the most important."""
    async with router(Cloud("first", **ONE), **crowd(limits={"waiting_max": 5})) as r, AsyncExitStack() as stack:
        first = await stack.enter_async_context(held_up(r, of("normal")))
        tasks = [await enter(r, stack, of(name)) for _ in range(places + (name == "low"))]
        refused = await ask(r, of(name))
        assert (refused.status, refused.code) == (503, "no_capacity")
        assert wait_ms(refused) == 1000
        assert "1 busy" in refused.json["error"]["message"]
        first.let_go()
        assert {(await task).status for task in tasks} == {200}


async def test_a_client_that_leaves_while_it_waits_leaves_nothing() -> None:
    async with router(Cloud("first", **ONE), **crowd()) as r, AsyncExitStack() as stack:
        async with held_up(r, of("normal")) as first:
            async with sent(r, of("high")):
                await r.until(lambda: waiting(r) == 1)
            await r.until(lambda: waiting(r) == 0)
            follower = await enter(r, stack, of("low"))
            first.let_go()
            assert (await follower).status == 200
        await r.until(lambda: any(record["outcome"] == "client_gone" and record["queued_ms"] for record in r.records()))
        assert r.clouds["first"].received.requests == 2
        assert await r.metric("router_waiting_requests") == 0


async def test_the_wait_ends_in_time_and_none_is_no_wait() -> None:
    loop = asyncio.get_running_loop()
    async with router(Cloud("first", **ONE), **crowd(waits={"max_wait_ms": 150})) as r, held_up(r, of("normal")):
        began = loop.time()
        reply = await ask(r, of("normal"))
        took_s = loop.time() - began
        assert (reply.status, reply.code) == (503, "no_capacity")
        assert wait_ms(reply) == 1000
        assert 0.15 <= took_s < 1.0
    async with router(Cloud("first", **ONE), **crowd(waits={"max_wait_ms": 0})) as r, held_up(r, of("normal")):
        assert (await ask(r, of("normal"))).status == 503
        await r.until(lambda: any(record["status"] == 503 for record in r.records()))
        (record,) = (record for record in r.records() if record["status"] == 503)
        assert not record["queued_ms"]
        assert record["refusals"] == [["first/gpt-4o-dep", "azure", "busy"]]


async def test_throttled_by_all_is_a_429_and_anything_else_a_503() -> None:
    both = [Cloud("first"), Cloud("second", **ONE)]
    async with router(*both, **crowd(waits={"max_wait_ms": 100})) as r:
        r.clouds["first"].faults.add("status", status=429, retry_after=20, times=1)
        while not r.backend("first").quota.cooldown.until:
            await ask(r, of("normal"))
        async with held_up(r, of("normal"), "second"):
            reply = await ask(r, of("normal"))
            assert (reply.status, reply.code) == (503, "no_capacity")
            assert wait_ms(reply) == 1000, "the busy one may be free any moment: that is sooner than 20 s"
        r.clouds["second"].faults.clear()
        r.clouds["second"].faults.add("status", status=429, retry_after=9, times=1)
        reply = await ask(r, of("normal"))
        assert (reply.status, reply.code) == (429, "rate_limit_exceeded")
        assert 8000 < wait_ms(reply) <= 9000


async def test_a_short_throttle_is_waited_out() -> None:
    async with router(Cloud("first"), Cloud("second"), **crowd()) as r:
        for cloud in r.clouds.values():
            cloud.faults.add("status", status=429, retry_after_ms=300, times=1)
        refused = await ask(r, of("normal"))  # both were asked, and neither is asked twice
        assert refused.status == 429

        reply = await ask(r, of("normal"))

        assert reply.status == 200
        await r.until(lambda: len(r.records()) == 2)
        assert r.records()[1]["queued_ms"] > 0
        assert sum(cloud.received.requests for cloud in r.clouds.values()) == 3


async def test_exclusive_traffic_waits_and_never_leaves() -> None:
    clouds = [Cloud("first", **ONE), Cloud("cw", "coreweave", "openai")]
    api = {"placement": {"rule": "exclusive", "cloud": "azure"}, "max_wait_ms": 5000}
    async with (
        router(*clouds, timeouts=PATIENT, workloads={**held(), "api": api}) as r,
        AsyncExitStack() as stack,
    ):
        async with held_up(r, chat()) as first:
            tasks = [await enter(r, stack, chat(stream=number % 2 == 0)) for number in range(4)]
            first.let_go()
            assert {(await task).status for task in tasks} == {200}
        assert r.clouds["cw"].received.connections == 0


async def test_those_who_wait_for_one_cloud_hold_nobody_back_who_may_use_another() -> None:
    """What others wait for is refused as busy; the next tier is there at once."""
    clouds = [Cloud("first", **ONE), Cloud("cw", "coreweave", "openai")]
    api = {"placement": {"rule": "exclusive", "cloud": "azure"}, "max_wait_ms": 5000}
    async with (
        router(*clouds, timeouts=PATIENT, workloads={**held(), "api": api}) as r,
        AsyncExitStack() as stack,
        held_up(r, chat()) as first,
    ):
        waits = await enter(r, stack, chat())
        for _ in range(5):
            reply = await ask(r, chat(key=INTERNAL_KEY))
            assert reply.headers["x-router-served-by"] == "coreweave/cw/gpt-4o-dep"
        await r.until(lambda: len(r.records()) == 5)
        for record in r.records():
            assert record["refusals"] == [["first/gpt-4o-dep", "azure", "busy"]]
            assert not record["queued_ms"]
        assert not waits.done()
        first.let_go()
        assert (await waits).status == 200


class File:
    """The router's file, changed as an operator would."""

    def __init__(self, r: RunningRouter) -> None:
        self.r = r
        self.now: dict[str, Any] = orjson.loads(r.file.read_bytes())

    async def put(self) -> None:
        self.r.file.write_bytes(orjson.dumps(self.now))
        result = await self.r.worker.reload()
        assert result.ok, result.faults


async def test_a_key_that_is_taken_away_ends_its_wait() -> None:
    async with router(Cloud("first", **ONE), **crowd()) as r, AsyncExitStack() as stack:
        async with held_up(r, of("low")) as first:
            revoked, kept = await enter(r, stack, of("high")), await enter(r, stack, of("normal"))
            file = File(r)
            file.now["keys"] = keys("low", "normal", "urgent")
            await file.put()
            first.let_go()
            assert ((await revoked).status, (await revoked).code) == (401, "invalid_api_key")
            assert (await kept).status == 200
        assert r.clouds["first"].received.requests == 2


async def test_a_rule_that_is_narrowed_holds_for_those_who_wait() -> None:
    clouds = [Cloud("first", **ONE), Cloud("cw", "coreweave", "openai", **ONE)]
    rule = {"placement": {"rule": "spread", "clouds": ["azure", "coreweave"]}, "max_wait_ms": 2000}
    async with (
        router(*clouds, timeouts=PATIENT, workloads={**held(), "internal": rule}) as r,
        AsyncExitStack() as stack,
    ):
        async with held_up(r, chat()) as azure:
            await r.worker.set_drain("first/gpt-4o-dep", True)
            r.clouds["cw"].faults.add("stall_mid_stream", after_events=3, times=1)
            async with sent(r, chat(stream=True, key=INTERNAL_KEY)) as other:
                await other.some(b'"content":')
                await r.worker.set_drain("first/gpt-4o-dep", False)
                waits = await enter(r, stack, chat(key=INTERNAL_KEY))
                file = File(r)
                file.now["workloads"]["internal"]["placement"]["clouds"] = ["azure"]
                await file.put()
                other.hang_up()
                await r.until(lambda: not r.backend("cw").in_flight)
                await asyncio.sleep(0.12)  # looked at again meanwhile, and left alone
                assert not waits.done()
                azure.let_go()
                assert (await waits).status == 200
        assert r.clouds["cw"].received.requests == 1
        assert r.worker.assembly.runtime.violations == 0


async def test_the_room_is_kept_over_a_reload() -> None:
    async with router(Cloud("first", **ONE), **crowd()) as r, AsyncExitStack() as stack:
        async with held_up(r, of("normal")) as first:
            tasks = [await enter(r, stack, of(name)) for name in ("low", "normal")]
            file = File(r)
            file.now["aliases"] = {"gpt": "gpt-4o"}
            await file.put()
            tasks.append(await enter(r, stack, of("high", model="gpt")))
            assert await r.metric("router_waiting_requests", model="gpt-4o") == 3
            first.let_go()
            assert {(await task).status for task in tasks} == {200}
        await r.until(lambda: len(order(r)) == 3)
        assert order(r) == ["high", "normal", "low"]


async def test_who_meets_a_probe_waits_for_its_verdict() -> None:
    """A recovering deployment is asked by one at a time; the others wait instead of being turned away."""
    settings = Settings(head_ms=Distribution(120.0))
    health = {"consecutive_failures": 1, "open_s": 0.1, "open_s_max": 0.1, "slow_start_s": 0}
    async with router(Cloud("first", settings=settings), **crowd(health=health)) as r:
        r.clouds["first"].faults.add("status", status=500, times=1)
        assert (await ask(r, of("normal"))).status == 500
        assert r.backend("first").health.out
        await asyncio.sleep(0.12)

        replies = await asyncio.gather(*(ask(r, of("normal")) for _ in range(6)))

        assert {reply.status for reply in replies} == {200}
        await r.until(lambda: len(r.records()) == 7)
        assert sum(record["queued_ms"] > 0 for record in r.records()) == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_start_is_no_wait(stream: bool) -> None:
    """Ramping up is no reason to tell a client to stay away for as long as the ramp lasts."""
    health = {"consecutive_failures": 1, "open_s": 0.05, "open_s_max": 0.05, "slow_start_s": 30}
    async with router(
        Cloud("first"), **crowd(health=health, limits={"concurrency_start": 4}, waits={"max_wait_ms": 50})
    ) as r:
        r.clouds["first"].faults.add("status", status=500, times=1)
        assert (await ask(r, of("normal"))).status == 500
        await asyncio.sleep(0.1)
        assert (await ask(r, of("normal"))).status == 200
        async with held_up(r, of("normal")):  # one of four: a tenth, and at least one
            reply = await ask(r, of("normal", stream=stream))
            assert reply.status == 503
            assert wait_ms(reply) == 1000
