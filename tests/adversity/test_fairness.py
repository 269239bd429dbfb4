"""Where capacity is short each key gets its share of it, whoever came first and however many requests it has."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from router.config.keys import digest
from tests.adversity.client import Ask, ask, chat
from tests.adversity.test_waiting import ONE, PATIENT, enter, held_up, order, waiting
from tests.router_kit import Cloud, RunningRouter, router

NAMES = ("anna", "bert", "flood", "urgent")
SECRETS = {name: f"sk-ir-test-{name}" for name in NAMES}


def crowd(waits: Any = None, **more: Any) -> dict[str, Any]:
    """All of one workload, which is NORMAL; `more`: of the key it names."""
    keys = [
        {"name": name, "workload": "api", "sha256": digest(secret).hex(), "models": ["*"], **more.get(name, {})}
        for name, secret in SECRETS.items()
    ]
    rule = {"placement": {"rule": "exclusive", "cloud": "azure"}, "max_wait_ms": 8000}
    return {"timeouts": PATIENT, "workloads": {"api": rule}, "keys": keys, "limits": waits or {}}


def of(name: str, **fields: Any) -> Ask:
    return chat(key=SECRETS[name], **fields)


async def served(r: RunningRouter, *names: str) -> list[str]:
    """Of requests that wait behind one, in this order, who is served when."""
    async with AsyncExitStack() as stack:
        async with held_up(r, of("bert")) as first:
            tasks = [await enter(r, stack, of(name)) for name in names]
            first.let_go()
            replies = await asyncio.gather(*tasks)
        assert {reply.status for reply in replies} == {200}
        await r.until(lambda: len(order(r)) == len(names))
        return order(r)


async def test_a_key_that_comes_late_does_not_wait_for_all_of_one_that_came_first() -> None:
    async with router(Cloud("first", **ONE), **crowd()) as r:
        names = await served(r, *["flood"] * 5, "anna", "anna")
    assert names == ["flood", "anna", "flood", "anna", "flood", "flood", "flood"]


async def test_a_heavier_key_has_more_turns() -> None:
    async with router(Cloud("first", **ONE), **crowd(flood={"weight": 3})) as r:
        names = await served(r, *["anna"] * 4, *["flood"] * 4)
    assert names[:5].count("flood") in (3, 4)
    assert names[-1] == "anna"


async def test_a_key_may_be_more_important_than_its_workload() -> None:
    async with router(Cloud("first", **ONE), **crowd(urgent={"priority": "high"}, flood={"priority": "low"})) as r:
        names = await served(r, "flood", "anna", "urgent")
    assert names == ["urgent", "anna", "flood"]


async def test_a_flood_gives_its_places_to_others() -> None:
    """Ten places, eight of them for what is no more than normal."""
    async with router(Cloud("first", **ONE), **crowd({"waiting_max": 10})) as r, AsyncExitStack() as stack:
        async with held_up(r, of("bert")) as first:
            flood = [await enter(r, stack, of("flood")) for _ in range(8)]
            assert (await ask(r, of("flood"))).code == "no_capacity", "it has the most already"
            others = [asyncio.create_task(ask(r, of("anna"))) for _ in range(4)]
            await r.until(lambda: sum(task.done() for task in flood) == 4)
            assert waiting(r) == 8
            assert (await ask(r, of("anna"))).code == "no_capacity", "now both have four"
            first.let_go()
            assert {(await task).status for task in others} == {200}
            replies = [await task for task in flood]
        assert [reply.status for reply in replies] == [200] * 4 + [503] * 4, "the last that came have left"
        assert all(reply.headers["retry-after-ms"] for reply in replies[4:])


async def test_what_was_estimated_too_much_is_made_good() -> None:
    """Answers have a few tokens, whatever was asked for: both keys take turns."""
    async with router(Cloud("first", **ONE), **crowd()) as r, AsyncExitStack() as stack:
        async with held_up(r, of("bert")) as first:
            tasks = []
            for _ in range(4):
                tasks.append(await enter(r, stack, of("flood", max_tokens=4000)))
                tasks.append(await enter(r, stack, of("anna", max_tokens=5)))
            first.let_go()
            assert {(await task).status for task in tasks} == {200}
        await r.until(lambda: len(order(r)) == 8)
        assert order(r)[:6].count("flood") >= 2
