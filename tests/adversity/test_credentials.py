"""A refused credential takes its endpoint out, loudly and without a loop; a breaker lets one request find out."""

import asyncio
from typing import Any

import pytest

from router.emulator import Distribution, Settings
from router.proxy import runtime
from tests.adversity.client import ask, chat
from tests.adversity.test_attempts import QUICK
from tests.router_kit import INTERNAL_KEY, Cloud, RunningRouter, held, router

TWO_MODELS = {"gpt-4o-dep": "gpt-4o", "mini-dep": "gpt-4o-mini"}
GENEROUS = {"budget_floor_per_s": 100}
PATIENT = {**QUICK, "commit_json_s": 10, "commit_stream_s": 10}


def sends(r: RunningRouter, name: str) -> int:
    return r.clouds[name].received.requests


def refusals(r: RunningRouter) -> dict[str, str]:
    now = r.worker.assembly.loop.time()
    return {name: backend.refusal(now) for name, backend in r.worker.assembly.fleet.backends.items()}


@pytest.mark.parametrize(("status", "body"), [(401, "unauthorized"), (403, "forbidden"), (401, "unauthorized_token")])
async def test_an_endpoint_that_refuses_our_credential_goes_as_a_whole(status: int, body: str) -> None:
    clouds = [Cloud("bad", deployments=TWO_MODELS), Cloud("good", deployments=TWO_MODELS, tier=1)]
    async with router(*clouds, timeouts=QUICK, resilience=GENEROUS) as r:
        r.clouds["bad"].faults.add("status", status=status, body=body)

        replies = await asyncio.gather(*(ask(r, chat()) for _ in range(4)))
        replies += [await ask(r, chat(model=model)) for model in TWO_MODELS.values() for _ in range(10)]

        assert {reply.status for reply in replies} == {200}
        assert sends(r, "bad") <= 4, "those that were under way, and none after them"
        assert refusals(r)["bad/gpt-4o-dep"] == refusals(r)["bad/mini-dep"] == "unhealthy"
        assert r.clouds["bad"].received.by_deployment["mini-dep"] == 0
        failures = await r.metric("router_credential_failures_total", endpoint="bad")
        assert failures == sends(r, "bad")
        assert await r.metric("router_credential_failures_total", endpoint="good") == 0
        await r.until(lambda: any(event["event"] == "credential_refused" for event in r.events()))
        verdict = r.worker.assembly.fleet.backends["bad/mini-dep"].verdict(r.worker.assembly.loop.time())
        assert (verdict.state.value, verdict.reason) == ("ejected", "credential")


async def test_the_clients_never_hear_of_our_credential() -> None:
    async with router(Cloud("bad"), timeouts=QUICK) as r:
        r.clouds["bad"].faults.add("status", status=401)
        first = await ask(r, chat())
        assert first.status == 502
        for _ in range(10):
            reply = await ask(r, chat(stream=True))
            assert reply.status == 503
            assert "key" not in reply.json["error"]["message"]
        assert sends(r, "bad") == 1


async def test_it_comes_back_by_one_try_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "CREDENTIAL_OUT_S", 0.2)
    clouds = [Cloud("bad", settings=Settings(head_ms=Distribution(50.0))), Cloud("good", tier=1)]
    async with router(*clouds, timeouts=QUICK, health={"slow_start_s": 0}, resilience=GENEROUS) as r:
        r.clouds["bad"].faults.add("status", status=401, times=2)
        assert (await ask(r, chat())).status == 200
        for tries in (2, 3):
            await r.until(lambda: not refusals(r)["bad/gpt-4o-dep"])
            replies = await asyncio.gather(*(ask(r, chat()) for _ in range(8)))
            assert {reply.status for reply in replies} == {200}
            assert sends(r, "bad") == tries
        assert not r.backend("bad").health.out
        for _ in range(5):
            assert (await ask(r, chat())).status == 200
        assert sends(r, "bad") == 8
        assert await r.metric("router_credential_failures_total", endpoint="bad") == 2


async def test_a_holder_whose_credential_fails_has_refused() -> None:
    clouds = [Cloud("bad"), Cloud("cw", "coreweave", "openai")]
    async with router(*clouds, timeouts=QUICK, workloads=held()) as r:
        r.clouds["bad"].faults.add("status", status=401)
        for _ in range(3):
            assert (await ask(r, chat(key=INTERNAL_KEY))).status == 200
        assert sends(r, "bad") == 1
        await r.until(lambda: len(r.records()) == 3)
        assert [record["refusals"][0][2] for record in r.records()] == ["failed", "unhealthy", "unhealthy"]


async def fail(r: RunningRouter, name: str) -> None:
    """Opens the breaker of a deployment."""
    fault = {"status": 500, "times": 1}
    r.clouds[name].faults.add("status", **fault)
    while not r.backend(name).health.out:
        await ask(r, chat())


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_one_probe_at_a_time(stream: bool) -> None:
    """Forty at once meet a half-open breaker: one of them finds out, the others are served elsewhere."""
    slow = Settings(head_ms=Distribution(1000.0))  # whoever came after its answer would be let in
    health = {"consecutive_failures": 1, "open_s": 0.1, "open_s_max": 0.1, "slow_start_s": 0}
    clouds = [Cloud("first", settings=slow), Cloud("second", tier=1)]
    async with router(*clouds, timeouts=PATIENT, health=health, resilience=GENEROUS) as r:
        await fail(r, "first")
        before = sends(r, "first")
        await r.until(lambda: not r.backend("first").refusal(r.worker.assembly.loop.time()))

        burst = [asyncio.create_task(ask(r, chat(stream=stream))) for _ in range(40)]
        await r.until(lambda: sends(r, "second") >= 38)
        assert sends(r, "first") == before + 1

        assert {(await task).status for task in burst} == {200}
        assert not r.backend("first").health.out


async def test_a_probe_that_fails_sends_nobody_after_it() -> None:
    health = {"consecutive_failures": 1, "open_s": 0.1, "open_s_max": 0.1}
    async with router(
        Cloud("first"), Cloud("second", tier=1), timeouts=PATIENT, health=health, resilience=GENEROUS
    ) as r:
        await fail(r, "first")
        r.clouds["first"].faults.add("status", status=500)
        before = sends(r, "first")
        loop = asyncio.get_running_loop()
        began = loop.time()
        served = 0
        while loop.time() - began < 0.6:
            replies = await asyncio.gather(*(ask(r, chat()) for _ in range(5)))
            assert {reply.status for reply in replies} == {200}
            served += len(replies)
        # Open for 50 ms at least, each time.
        assert 1 <= sends(r, "first") - before <= (loop.time() - began) / 0.05 + 1
        assert served > 3 * (sends(r, "first") - before)


async def test_a_recovered_deployment_gets_its_share_back_slowly() -> None:
    """Its concurrency limit is ramped, so a burst right after its recovery goes elsewhere but for a few."""
    slow = Settings(head_ms=Distribution(100.0))
    health: dict[str, Any] = {"consecutive_failures": 1, "open_s": 0.05, "open_s_max": 0.05, "slow_start_s": 2}
    clouds = [Cloud("first", settings=slow), Cloud("second", tier=1, settings=slow)]
    limits = {"concurrency_start": 20}
    async with router(*clouds, timeouts=PATIENT, health=health, limits=limits, resilience=GENEROUS) as r:
        await fail(r, "first")
        await r.until(lambda: not r.backend("first").refusal(r.worker.assembly.loop.time()))
        assert (await ask(r, chat())).status == 200  # the probe
        assert not r.backend("first").health.out
        before = sends(r, "first")
        burst = [asyncio.create_task(ask(r, chat())) for _ in range(20)]
        await r.until(lambda: r.backend("second").in_flight)
        early = r.backend("first").in_flight
        assert {(await task).status for task in burst} == {200}
        assert 1 <= early <= 6, "a tenth of twenty at the begin, all of them in two seconds"
        assert sends(r, "first") - before < 20

        await r.until(lambda: r.backend("first").health.clear)
        before = sends(r, "first")
        assert {reply.status for reply in await asyncio.gather(*(ask(r, chat()) for _ in range(15)))} == {200}
        assert sends(r, "first") == before + 15


async def test_a_refused_connect_tells_on_its_siblings() -> None:
    """What cannot be dialled cannot be dialled for another model either: its breaker opens with the first one's."""
    clouds = [Cloud("dead", deployments=TWO_MODELS), Cloud("good", deployments=TWO_MODELS, tier=1)]
    health = {"consecutive_failures": 2, "open_s": 30}
    async with router(*clouds, timeouts=QUICK, health=health, resilience=GENEROUS) as r:
        r.clouds["dead"].faults.add("refuse", for_s=30)
        for _ in range(2):
            assert (await ask(r, chat())).status == 200
        assert refusals(r)["dead/mini-dep"] == "unhealthy"
        assert (await ask(r, chat(model="gpt-4o-mini"))).status == 200
        await r.until(lambda: len(r.records()) == 3)
        assert len(r.records()[-1]["attempts"]) == 1
