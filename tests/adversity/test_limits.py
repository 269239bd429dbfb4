"""What keys, workloads and models may use, as clients meet it: refusals with true waits, and nothing that stays taken."""

import asyncio
from typing import Any

import pytest

from router.config.keys import digest
from router.emulator import Distribution, Settings
from router.proxy.limiting import Limiting
from tests.adversity.client import Ask, ask, chat, sent
from tests.adversity.test_attempts import QUICK
from tests.adversity.test_leaks import KINDS, clouds
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, RunningRouter, router

PACED = Settings(tokens=Distribution(6.0), token_gap_ms=Distribution(40.0))
PRICE = {"price": {"prompt_usd_per_mtok": 1000, "completion_usd_per_mtok": 1000}}  # 0.001 $ a token


def keys(**of_api: Any) -> list[dict[str, Any]]:
    """`of_api`: more of the key that asks for Azure alone."""
    return [
        {"name": "api", "workload": "api", "sha256": digest(API_KEY).hex(), "models": ["*"], **of_api},
        {"name": "internal", "workload": "internal", "sha256": digest(INTERNAL_KEY).hex(), "models": ["*"]},
    ]


def limits(r: RunningRouter) -> Limiting:
    return r.worker.assembly.runtime.limits


def left(r: RunningRouter, limit_id: str) -> float:
    return limits(r).gates[limit_id].left(asyncio.get_running_loop().time())


async def test_requests_beyond_the_burst_are_refused_with_a_true_wait() -> None:
    async with router(Cloud("azure"), keys=keys(limits={"rpm": 60, "burst_share": 0.05})) as r:
        replies = [await ask(r, chat()) for _ in range(3)]
        refused = await ask(r, chat(stream=True))

        assert [reply.status for reply in replies] == [200, 200, 200]
        remaining = [int(reply.headers["x-ratelimit-remaining-requests"]) for reply in replies]
        assert remaining == [2, 1, 0]
        assert refused.status == 429
        assert refused.json["error"] == {
            "message": "The limit of requests a minute of this key is reached. Retry after the wait.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        wait_ms = int(refused.headers["retry-after-ms"])
        assert 0 < wait_ms <= 1000
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["x-ratelimit-limit-requests"] == "60"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert "x-ratelimit-limit-tokens" not in refused.headers
        assert (await ask(r, chat(key=INTERNAL_KEY))).status == 200, "another key has limits of its own"
        await asyncio.sleep(wait_ms / 1000)
        assert (await ask(r, chat())).status == 200, "the wait was true"
        await r.until(lambda: len(r.records()) == 6)
        (record,) = (record for record in r.records() if record["status"] == 429)
        assert (record["outcome"], record["code"]) == ("client_error", "rate_limit_exceeded")
        assert r.clouds["azure"].received.requests == 5
