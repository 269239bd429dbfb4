"""What a deployment's limits would refuse is sent elsewhere before it does: one by one, in a burst, and over a pool."""

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from router.emulator import Distribution, EmulatedCloud, Settings
from router.emulator.settings import Deployment
from tests.adversity.client import Ask, Reply, ask, chat
from tests.adversity.test_attempts import QUICK
from tests.router_kit import CANARY, INTERNAL_KEY, Cloud, RunningRouter, held, router

PATIENT = {**QUICK, "commit_json_s": 10, "commit_stream_s": 10}


class Limited(Cloud):
    """A cloud that enforces what its deployments are configured with."""

    def emulated(self) -> EmulatedCloud:
        cloud = super().emulated()
        limits = {key: self.deployment_extra.get(key) for key in ("tpm", "rpm", "quota_pool")}
        deployments = tuple(Deployment(name, model, **limits) for name, model in self.deployments.items())
        return EmulatedCloud(replace(cloud.endpoint, deployments=deployments))


def internal(**fields: Any) -> Ask:
    return chat(key=INTERNAL_KEY, **fields)


def throttles(r: RunningRouter) -> int:
    return sum(attempt["outcome"] == "throttled" for record in r.records() for attempt in record.get("attempts", []))


async def burst(r: RunningRouter, count: int, **fields: Any) -> list[Reply]:
    replies = await asyncio.gather(*(ask(r, internal(**fields)) for _ in range(count)))
    await r.until(lambda: len(r.records()) >= count)
    return replies


@pytest.mark.parametrize("warm", [False, True], ids=["connections to be made", "connections kept"])
async def test_a_burst_is_divided_before_the_quota_is_passed(warm: bool) -> None:
    """All at once, so that none has been sent when the last is placed."""
    settings = Settings(quota=True, head_ms=Distribution(30.0))
    clouds = [
        Limited("azure-a", settings=settings, deployment_extra={"tpm": 6000}),
        Cloud("cw", "coreweave", "openai"),
    ]
    async with router(*clouds, timeouts=PATIENT, workloads=held()) as r:
        if warm:
            await asyncio.gather(*(ask(r, chat(max_tokens=1)) for _ in range(20)))
        before = r.clouds["azure-a"].received.requests

        replies = await burst(r, 40, max_tokens=900)

        assert {reply.status for reply in replies} == {200}
        sent = r.clouds["azure-a"].received.requests - before
        assert 4 <= sent <= 7, "six at most are within the minute's tokens"
        assert throttles(r) <= 1
        assert await r.metric("router_quota_avoided_total", deployment="azure-a/gpt-4o-dep") > 0


async def test_siblings_draw_on_one_quota() -> None:
    pool = {"tpm": 3000, "quota_pool": "shared"}
    clouds = [Cloud("azure-a", deployment_extra=pool), Cloud("azure-b", deployment_extra=pool)]
    async with router(*clouds, Cloud("cw", "coreweave", "openai"), timeouts=PATIENT, workloads=held()) as r:
        for _ in range(6):
            assert (await ask(r, internal(max_tokens=900))).status == 200
        sent = {name: cloud.received.requests for name, cloud in r.clouds.items()}
        assert sent["azure-a"] + sent["azure-b"] == 3
        assert sent["cw"] == 3
        await r.until(lambda: len(r.records()) == 6)
        assert {outcome for _, _, outcome in r.records()[-1]["refusals"]} == {"over_quota"}


async def test_a_quota_that_others_use_too_is_learned_from_its_headers() -> None:
    """A client that we do not see has used it up: the first answer says so, and the next request goes elsewhere."""
    clouds = [Limited("azure-a", settings=Settings(quota=True), deployment_extra={"tpm": 10_000})]
    async with router(*clouds, Cloud("cw", "coreweave", "openai"), timeouts=PATIENT, workloads=held()) as r:
        await unseen(r, tokens=9000)
        for _ in range(6):
            assert (await ask(r, internal(max_tokens=300))).status == 200
        await r.until(lambda: len(r.records()) == 6)
        assert throttles(r) <= 1
        assert r.clouds["cw"].received.requests >= 2


async def unseen(r: RunningRouter, *, tokens: int) -> None:
    """Another client of the same deployment, who does not ask us."""
    url = f"{r.clouds['azure-a'].base_url}/openai/v1/chat/completions"
    body = {"model": "gpt-4o-dep", "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers={"api-key": CANARY}) as answer:
        assert answer.status == 200


async def test_where_every_reason_is_quota_it_is_a_429_with_a_true_wait() -> None:
    async with router(Cloud("azure-a", deployment_extra={"tpm": 1000}), timeouts=PATIENT) as r:
        assert (await ask(r, chat(max_tokens=900))).status == 200
        reply = await ask(r, chat(max_tokens=900))
        assert (reply.status, reply.code) == (429, "rate_limit_exceeded")
        assert 1000 < int(reply.headers["retry-after-ms"]) <= 61_000
        assert r.clouds["azure-a"].received.requests == 1


async def test_without_the_twin_a_429_says_so() -> None:
    clouds = [Limited("azure-a", settings=Settings(quota=True), deployment_extra={"tpm": 1000})]
    off = {"quota_twin": False}
    async with router(*clouds, Cloud("cw", "coreweave", "openai"), timeouts=PATIENT, workloads=held(), limits=off) as r:
        for _ in range(3):
            assert (await ask(r, internal(max_tokens=900))).status == 200
        await r.until(lambda: len(r.records()) == 3)
        assert throttles(r) == 1, "and whoever comes next goes elsewhere at once"
        assert await r.metric("router_quota_avoided_total") == 0
