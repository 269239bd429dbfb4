"""When a model's room fills, the least important are refused first, at once, and hear when to come again."""

import asyncio
from contextlib import AsyncExitStack

from tests.adversity.client import ask
from tests.adversity.test_waiting import ONE, crowd, enter, held_up, of, waiting
from tests.adversity.test_waits import wait_ms
from tests.router_kit import Cloud, router


async def test_the_least_important_are_shed_while_the_more_important_wait() -> None:
    """All workloads of a model count: half of the places taken shed LOW, four fifths NORMAL, and HIGH has them all."""
    async with router(Cloud("first", **ONE), **crowd(limits={"waiting_max": 5})) as r, AsyncExitStack() as stack:
        first = await stack.enter_async_context(held_up(r, of("normal")))
        tasks = [await enter(r, stack, of("high")) for _ in range(3)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        low = await ask(r, of("low"))
        assert loop.time() - began < 1.0, "at once, and not after its wait"
        assert (low.status, low.code) == (503, "no_capacity")
        assert wait_ms(low) == 1000
        tasks.append(await enter(r, stack, of("normal")))
        assert (await ask(r, of("normal"))).status == 503
        tasks.append(await enter(r, stack, of("high")))
        assert waiting(r) == 5
        first.let_go()
        assert {(await task).status for task in tasks} == {200}


async def test_nobody_is_shed_while_something_is_free() -> None:
    """However many come: with a free deployment there is nothing to wait for."""
    async with router(Cloud("first"), **crowd(limits={"waiting_max": 1})) as r:
        replies = await asyncio.gather(*(ask(r, of(name)) for name in ("low", "normal", "high") for _ in range(15)))
        assert {reply.status for reply in replies} == {200}
        await r.until(lambda: len(r.records()) == 45)
        assert not any(record["queued_ms"] for record in r.records())


async def test_what_is_shed_costs_no_deployment_anything() -> None:
    async with router(Cloud("first", **ONE), **crowd(limits={"waiting_max": 0})) as r:
        async with held_up(r, of("normal")):
            replies = await asyncio.gather(*(ask(r, of("low")) for _ in range(20)))
            assert {(reply.status, reply.code) for reply in replies} == {(503, "no_capacity")}
        assert r.clouds["first"].received.requests == 1
        verdict = r.backend("first").verdict(r.worker.assembly.loop.time())
        assert verdict.state.value in ("unknown", "up"), "no ill health"
        await r.until(lambda: len(r.records()) == 21)
        shed = [record for record in r.records() if record["status"] == 503]
        assert all(record["refusals"] == [["first/gpt-4o-dep", "azure", "busy"]] for record in shed)
