"""Three barriers stand between an exclusive request and another cloud; any one of them alone holds.

The bug that is planted: the exclusive rule also returns the other clouds' deployments, and those come first.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import combinations

import aiohttp
import pytest

from router.config import check
from router.model.fleet import Deployment
from router.model.plan import Permit
from router.placement.rules import Exclusive
from router.transport import pool, upstream
from tests.adversity.client import ask, chat
from tests.router_kit import INTERNAL_KEY, Cloud, RunningRouter, router

OTHER = "other"


def plant_the_bug(patch: pytest.MonkeyPatch) -> None:
    def tiers(self: Exclusive, able: Sequence[Deployment]) -> tuple[tuple[Deployment, ...], ...]:
        strangers = tuple(one for one in able if one.cloud != self.cloud)
        own = tuple(one for one in able if one.cloud == self.cloud)
        return tuple(tier for tier in (strangers, own) if tier)

    patch.setattr(Exclusive, "tiers", tiers)


def remove_load(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(check, "verify_plans", lambda *_: None)


def remove_candidates(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Permit, "allows", lambda *_: True)


def remove_send(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(upstream, "require_permit", lambda *_: None)
    patch.setattr(pool, "require_permit", lambda *_: None)  # imported by name


BARRIERS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "load": remove_load,
    "candidates": remove_candidates,
    "send": remove_send,
}
SUBSETS = [subset for count in range(4) for subset in combinations(BARRIERS, count)]


async def metric(r: RunningRouter, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{r.admin_url}/metrics") as page:
        lines = (await page.text()).splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name)))


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "pooled"])
@pytest.mark.parametrize("removed", SUBSETS, ids=lambda subset: "+".join(subset) or "none")
async def test_any_barrier_holds_alone(removed: tuple[str, ...], warm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pooled`: a connection to the other cloud is open and idle, made by traffic that may use it."""
    async with router(Cloud("azure"), Cloud(OTHER, "coreweave", "openai")) as r:
        if warm:
            while r.clouds[OTHER].received.requests == 0:
                await ask(r, chat(key=INTERNAL_KEY))
        received, served = r.clouds[OTHER].received, r.clouds["azure"].received
        received.reset()
        served.reset()
        plant_the_bug(monkeypatch)
        for barrier in removed:
            BARRIERS[barrier](monkeypatch)

        result = await r.worker.reload()
        assert result.ok == ("load" in removed)
        if not result.ok:
            assert any("azure" in str(fault) and OTHER in str(fault) for fault in result.faults)
        replies = [await ask(r, chat(stream=number % 2 == 0)) for number in range(6)]

        violations = await metric(r, "router_placement_violations_total")
        seen = (received.requests, received.connections, received.bytes)
        if set(removed) == set(BARRIERS):
            assert received.requests == 6, "the bug is one: without barriers the other cloud is reached"
        elif {"load", "candidates"} <= set(removed):
            assert seen == (0, 0, 0)
            assert violations == 6
            assert {(reply.status, reply.code) for reply in replies} == {(500, "placement_violation")}
            await r.until(lambda: len([e for e in r.events() if e["event"] == "placement_violation"]) == 6)
        else:
            assert seen == (0, 0, 0)
            assert violations == 0
            assert {reply.status for reply in replies} == {200}
            assert served.requests == 6


async def test_the_last_barrier_is_passed_by_every_take_dial_and_send() -> None:
    """None of the three writes, dials or hands out anything against a permit."""
    async with router(Cloud("azure"), Cloud(OTHER, "coreweave", "openai")) as r:
        backend = r.worker.assembly.fleet.backends[f"{OTHER}/gpt-4o-dep"]
        mine, foreign = (Permit("w", frozenset((cloud,)), "") for cloud in ("coreweave", "azure"))
        with pytest.raises(upstream.PlacementViolationError):
            backend.pool.dial(foreign, lambda: None)
        done = asyncio.Event()
        dial = backend.pool.dial(mine, done.set)
        await done.wait()
        connection = dial.connection
        assert connection is not None

        with pytest.raises(upstream.PlacementViolationError):
            connection.send(foreign, [b"GET / HTTP/1.1\r\n\r\n"], None)  # type: ignore[arg-type]
        backend.pool.give(connection)
        with pytest.raises(upstream.PlacementViolationError):
            backend.pool.take(foreign)

        assert backend.pool.take(mine) is connection
        backend.pool.give(connection)
        await asyncio.sleep(0.02)
        assert r.clouds[OTHER].received.bytes == 0
