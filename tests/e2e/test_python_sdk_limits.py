"""The limits of a key as the real Python SDKs meet them: their own class of error, and headers that they can read."""

import time
from typing import Any

import pytest
from openai import APIStatusError, RateLimitError

from tests.adversity.test_limits import PRICE, keys
from tests.e2e.kit import CHAT, RESPONSES, SAY_HI, azure, every_sdk, openai_sdk
from tests.router_kit import router

FIGURES = {f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")}


async def refusal(client: Any, **arguments: Any) -> APIStatusError:
    with pytest.raises(APIStatusError) as caught:
        await client.call(CHAT, **SAY_HI, **arguments)
    return caught.value


async def test_a_reached_limit_is_a_rate_limit_error_with_true_figures() -> None:
    limited = keys(limits={"rpm": 2, "tpm": 6_000_000})
    async with router(azure(), keys=limited) as r, every_sdk(r) as clients:
        first = await clients[0].call("chat.completions.with_raw_response.create", **SAY_HI)
        assert first.parse().choices
        assert set(first.headers) >= FIGURES
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "0"
        for client in clients:
            for stream in (False, True):
                error = await refusal(client, stream=stream)
                assert type(error) is RateLimitError
                assert (error.code, error.type) == ("rate_limit_exceeded", "rate_limit_error")
                assert error.request_id is not None
                headers = error.response.headers
                assert set(headers) >= FIGURES
                assert 0 < int(headers["retry-after-ms"]) <= 1000 * int(headers["retry-after"])


async def test_streams_carry_the_figures_too() -> None:
    async with router(azure(), keys=keys(limits={"rpm": 600, "tpm": 600_000})) as r, openai_sdk(r) as client:
        for method, body in ((CHAT, SAY_HI), (RESPONSES, {"model": "gpt-4o", "input": "hi"})):
            raw = method.replace(".create", ".with_raw_response.create")
            answer = await client.call(raw, stream=True, **body)
            assert set(answer.headers) >= FIGURES
            assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 0
            assert answer.headers["x-ratelimit-reset-requests"].endswith("ms")
            assert [event async for event in answer.parse()]


async def test_an_sdk_that_waits_as_it_is_told_is_served() -> None:
    limited = keys(limits={"rpm": 120, "burst_share": 0.01})
    async with router(azure(), keys=limited) as r, openai_sdk(r, max_retries=1) as client:
        began = time.monotonic()
        for _ in range(3):
            await client.call(CHAT, **SAY_HI)

        assert time.monotonic() - began >= 0.8, "two waits of half a second, less the time between"


async def test_a_spent_budget_is_not_retried() -> None:
    cloud = azure(deployment_extra=PRICE)
    async with router(cloud, keys=keys(budget={"month_usd": 0.000001})) as r, openai_sdk(r, max_retries=2) as client:
        error = await refusal(client)

        assert type(error) is RateLimitError
        assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota")
        assert error.response.headers["x-should-retry"] == "false"
        await r.until(lambda: len(r.records()) == 1)
