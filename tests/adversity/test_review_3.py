"""What a hostile client, a restricted key or a poisoned request could once do to everybody else."""

import asyncio
import json
import tracemalloc
from typing import Any, cast

import pytest

from router.jobs.outlook import Outlook
from router.jobs.probes import ProbeResult
from router.model.operation import CHAT
from router.proxy.facts import json_facts
from router.transport.names import Names
from tests.adversity.client import ask, chat
from tests.router_kit import Cloud, router

MIB = 1 << 20


@pytest.mark.parametrize(
    "field",
    ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "prompt_cache_key", "conversation"],
)
def test_a_field_that_is_only_looked_at_is_never_made_into_objects(field: str) -> None:
    """A million empty objects held the loop for a second, and took a hundred times the body's memory."""
    body = b'{"model":"m","messages":[],"%s":[%s{}]}' % (field.encode(), b"{}," * (MIB // 3))
    tracemalloc.start()
    try:
        json_facts(body, CHAT, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(body)


async def test_a_request_that_is_refused_as_wrong_does_not_use_up_the_quota() -> None:
    """The cloud counts none of the two thousand million tokens that it refuses; they shut out everybody else."""
    cloud = Cloud("az", deployment_extra={"tpm": 100_000})
    async with router(cloud) as r:
        r.clouds["az"].faults.add("status", status=400, times=1)
        assert (await ask(r, chat(max_tokens=16_000_000, n=128))).status == 400
        assert (await ask(r, chat(max_tokens=10))).status == 200


async def test_what_was_never_sent_costs_no_tokens() -> None:
    async with router(Cloud("az", deployment_extra={"tpm": 100_000})) as r:
        twin = r.backend("az").quota.twin
        assert twin is not None
        await r.clouds["az"].close()
        now = r.worker.assembly.loop.time()
        before = twin.tokens_left(now)
        assert (await ask(r, chat(max_tokens=50_000))).status in (502, 503)
        assert twin.tokens_left(now) == pytest.approx(before)


async def test_one_request_that_is_forbidden_something_leaves_the_endpoint_to_the_others() -> None:
    """A 403 may be of a file that the client named; and once in half a minute it kept a whole endpoint out."""
    async with router(Cloud("az")) as r:
        assert (await ask(r, chat())).status == 200
        r.clouds["az"].faults.add("status", status=403, times=1)
        assert (await ask(r, chat())).status == 502
        assert (await ask(r, chat())).status == 200
        assert await r.metric("router_credential_failures_total", endpoint="az") == 1, "the operator hears of it"


async def test_forbidden_time_and_again_opens_the_breaker() -> None:
    async with router(Cloud("az")) as r:
        assert (await ask(r, chat())).status == 200
        r.clouds["az"].faults.add("status", status=403)
        for _ in range(5):
            assert (await ask(r, chat())).status == 502
        assert (await ask(r, chat())).status == 503


async def test_a_probe_whose_question_is_forbidden_does_not_shut_out_an_endpoint_that_serves() -> None:
    """A key may be good for completions only. Each probe put off the moment at which a request could have shown it."""
    async with router(Cloud("served"), Cloud("new", tier=1)) as r:
        assert (await ask(r, chat())).status == 200
        outlook = Outlook(r.worker.assembly.runtime)
        refused = ProbeResult(None, "credential", 403)
        outlook.probed("served", refused)
        assert not r.backend("served").health.out
        assert await r.metric("router_credential_failures_total", endpoint="served") == 1

        outlook.probed("new", refused)  # nobody knows better
        until = r.backend("new").health.until
        assert r.backend("new").health.out
        outlook.probed("new", refused)
        assert r.backend("new").health.until == until


async def test_one_that_is_too_large_for_what_is_left_of_a_quota_keeps_nobody_waiting() -> None:
    """It waits for the minute's end, and what others take until then it could not have had."""
    workloads = {
        "api": {"placement": {"rule": "exclusive", "cloud": "azure"}, "max_wait_ms": 90_000},
        "internal": {"placement": {"rule": "exclusive", "cloud": "azure"}},
    }
    async with router(Cloud("az", deployment_extra={"tpm": 100_000}), workloads=workloads) as r:
        assert (await ask(r, chat(max_tokens=10))).status == 200
        large = asyncio.create_task(ask(r, chat(max_tokens=99_000)))
        waiting = r.worker.assembly.runtime.waiting
        await r.until(lambda: waiting.count == 1)
        replies = await asyncio.wait_for(asyncio.gather(*(ask(r, chat(max_tokens=10)) for _ in range(5))), 2)
        assert {reply.status for reply in replies} == {200}
        assert waiting.count == 1
        large.cancel()
        await r.until(lambda: waiting.count == 0)


async def test_those_behind_one_that_is_too_large_get_what_comes_free() -> None:
    workloads = {
        "api": {"placement": {"rule": "exclusive", "cloud": "azure"}, "max_wait_ms": 90_000},
        "internal": {"placement": {"rule": "exclusive", "cloud": "azure"}},
    }
    cloud = Cloud("az", deployment_extra={"tpm": 100_000, "concurrent": 1})
    async with router(cloud, workloads=workloads) as r:
        waiting = r.worker.assembly.runtime.waiting
        r.clouds["az"].faults.add("slow_head", delay_ms=200)
        running = asyncio.create_task(ask(r, chat(max_tokens=10)))
        await r.until(lambda: r.backend("az").in_flight == 1)
        large = asyncio.create_task(ask(r, chat(max_tokens=99_000)))
        await r.until(lambda: waiting.count == 1)
        behind = [asyncio.create_task(ask(r, chat(max_tokens=10))) for _ in range(3)]
        await r.until(lambda: waiting.count == 4)
        replies = await asyncio.wait_for(asyncio.gather(running, *behind), 4)
        assert {reply.status for reply in replies} == {200}
        assert not large.done()
        large.cancel()
        await r.until(lambda: waiting.count == 0)


async def test_limits_act_on_a_reload() -> None:
    async with router(Cloud("az")) as r:
        assert r.backend("az").limit.limit == 1000
        config = json.loads(r.file.read_bytes())
        config["limits"] = {"concurrency_start": 7}
        r.file.write_text(json.dumps(config))
        assert (await r.worker.reload()).ok
        assert r.backend("az").limit.limit == 7
        learned = r.backend("az").limit
        assert (await r.worker.reload()).ok
        assert r.backend("az").limit is learned


async def test_a_clients_own_error_does_not_close_a_breaker() -> None:
    """What checks requests may be well where what answers them is dead: a 400 is no sign of life."""
    health = {"consecutive_failures": 1, "open_s": 0.1}
    async with router(Cloud("az"), health=health) as r:
        az = r.backend("az")
        r.clouds["az"].faults.add("status", status=500, times=1)
        assert (await ask(r, chat())).status >= 500
        assert az.health.out
        await r.until(lambda: not az.refusal(r.worker.assembly.loop.time()))
        r.clouds["az"].faults.add("status", status=400, times=1)
        assert (await ask(r, chat())).status == 400
        assert az.health.out
        assert (await ask(r, chat())).status == 200, "its slot is free for one who can tell"
        assert not az.health.out


async def test_who_joins_a_quota_pool_does_not_end_its_wait() -> None:
    pool = {"tpm": 100_000, "quota_pool": "shared"}
    async with router(Cloud("b", deployment_extra=pool)) as r:
        r.clouds["b"].faults.add("status", status=429, retry_after="20", times=1)
        assert (await ask(r, chat())).status == 429
        config = json.loads(r.file.read_bytes())
        section = config["endpoints"]["b"]
        joins = {**section, "deployments": [{**section["deployments"][0], "name": "joins"}]}
        config["endpoints"] = {"a": joins, "b": section}
        r.file.write_text(json.dumps(config))
        assert (await r.worker.reload()).ok
        now = r.worker.assembly.loop.time()
        assert [r.backend(name).refusal(now) for name in "ab"] == ["throttled", "throttled"]


class HangingResolver:
    """A loop whose resolver never answers."""

    def __init__(self) -> None:
        self.create_task = asyncio.get_running_loop().create_task
        self.asked = 0
        self.hung = asyncio.Event()

    async def getaddrinfo(self, *_args: object, **_more: object) -> list[Any]:
        self.asked += 1
        await self.hung.wait()
        raise OSError


async def test_a_name_that_hangs_is_asked_for_once() -> None:
    """Each dial that gave up left a thread behind, and the resolver has four for all clouds."""
    resolver = HangingResolver()
    names = Names(cast(asyncio.AbstractEventLoop, resolver))
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(names.addresses("dead.example", 443, private=False), 0.01)
    assert resolver.asked == 1
    resolver.hung.set()
