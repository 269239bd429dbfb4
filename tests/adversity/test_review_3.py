"""What a hostile client, a restricted key or a poisoned request could once do to everybody else."""

import tracemalloc

import pytest

from router.jobs.outlook import Outlook
from router.jobs.probes import ProbeResult
from router.model.operation import CHAT
from router.proxy.facts import json_facts
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
