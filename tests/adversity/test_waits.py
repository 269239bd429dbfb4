"""What a deployment says of waiting is obeyed, shared where the quota is, and told to the client as it is."""

import pytest

from tests.adversity.client import Reply, ask, chat
from tests.adversity.test_attempts import QUICK, attempts, finished, requests, tiers
from tests.router_kit import Cloud, RunningRouter, router


def wait_ms(reply: Reply) -> int:
    """What an SDK waits, once both headers agree."""
    ms = int(reply.headers["retry-after-ms"])
    assert int(reply.headers["retry-after"]) == -(-ms // 1000)
    return ms


def refusals(r: RunningRouter) -> dict[str, str]:
    now = r.worker.assembly.loop.time()
    return {name.split("/")[0]: backend.refusal(now) for name, backend in r.worker.assembly.fleet.backends.items()}


async def test_a_throttled_deployment_is_left_alone_until_its_wait_is_over() -> None:
    async with router(*tiers(2), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("status", status=429, retry_after_ms=300, times=1)
        for _ in range(5):
            assert (await ask(r, chat())).status == 200
        assert requests(r) == [1, 5]

        backend = r.worker.assembly.fleet.backends["first/gpt-4o-dep"]
        await r.until(lambda: not backend.refusal(r.worker.assembly.loop.time()))
        assert (await ask(r, chat())).status == 200
        assert requests(r) == [2, 5]


@pytest.mark.parametrize(
    ("said", "least_s", "most_s"),
    [
        ({"retry_after": "7"}, 6.5, 7.0),
        ({"retry_after": "7", "retry_after_ms": "1500"}, 1.0, 1.5),
        ({"retry_after": "86400"}, 59.0, 60.0),
        ({"retry_after": "-5"}, 0.5, 60.0),
        ({"retry_after": "soon", "body": "empty"}, 1.0, 2.0),
        ({"retry_after": "0"}, 0.0, 0.05),
    ],
    ids=str,
)
async def test_odd_waits_are_clamped(said: dict[str, str], least_s: float, most_s: float) -> None:
    async with router(*tiers(2), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("status", status=429, **said)
        await ask(r, chat())

        left_s = r.worker.assembly.fleet.backends["first/gpt-4o-dep"].quota.cooldown.left_s(
            r.worker.assembly.loop.time()
        )
        assert least_s <= left_s <= most_s + 0.05  # the loop's clock stands during an iteration


async def test_deployments_of_one_quota_cool_down_together() -> None:
    pooled = {"deployment_extra": {"quota_pool": "shared"}}
    clouds = [
        Cloud("first", tier=0, **pooled),
        Cloud("second", tier=1, **pooled),
        Cloud("third", tier=2),
    ]
    async with router(*clouds, timeouts=QUICK) as r:
        r.clouds["first"].faults.add("status", status=429, retry_after=5)

        assert (await ask(r, chat())).status == 200

        assert requests(r) == [1, 0, 1], "the sibling is not asked in the same request either"
        assert refusals(r) == {"first": "throttled", "second": "throttled", "third": ""}


async def test_all_throttled_is_a_429_with_the_smallest_true_wait() -> None:
    async with router(*tiers(3), timeouts=QUICK) as r:
        for name, wait in (("first", 9), ("second", 4), ("third", 30)):
            r.clouds[name].faults.add("status", status=429, retry_after=wait)

        told = await ask(r, chat())
        again = await ask(r, chat(stream=True))

        for reply in (told, again):
            assert (reply.status, reply.code) == (429, "rate_limit_exceeded")
            assert 3500 < wait_ms(reply) <= 4000
            assert "x-should-retry" not in reply.headers
        assert requests(r) == [1, 1, 1], "who said when is not asked before"
        await finished(r, 2)
        assert attempts(r) == []
        assert r.records()[-1]["outcome"] == "refused"


async def test_one_that_is_out_for_another_reason_makes_it_a_503() -> None:
    async with router(*tiers(2), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("status", status=429, retry_after=9)
        await r.worker.set_drain("second/gpt-4o-dep", True)

        for _ in range(2):
            reply = await ask(r, chat())
            assert (reply.status, reply.code) == (503, "no_capacity")
            assert 8000 < wait_ms(reply) <= 9000
        assert requests(r) == [1, 0]


async def test_a_failure_without_a_word_does_not_take_the_last_deployment_away() -> None:
    async with router(*tiers(1), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("status", status=500, times=1)

        assert (await ask(r, chat())).status == 500
        assert (await ask(r, chat())).status == 200


async def test_who_failed_a_moment_ago_is_the_last_choice_of_its_tier() -> None:
    async with router(Cloud("first"), Cloud("second"), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("status", status=500)
        for _ in range(12):
            assert (await ask(r, chat())).status == 200
        assert r.clouds["first"].received.requests <= 1


async def test_a_retry_after_of_an_answer_reaches_the_client() -> None:
    """A 503 of the only deployment carries the wait that it named."""
    async with router(*tiers(1), timeouts=QUICK) as r:
        r.clouds["first"].faults.add("status", status=503, retry_after=6)

        first = await ask(r, chat())
        second = await ask(r, chat())

        for reply in (first, second):
            assert reply.status == 503
            assert 5000 < wait_ms(reply) <= 6000
        assert requests(r) == [1]


@pytest.mark.parametrize("kind", ["refuse", "reset_before_head", "stall_before_head"])
async def test_an_error_of_ours_says_when_to_come_again(kind: str) -> None:
    async with router(*tiers(2), timeouts=QUICK) as r:
        for cloud in r.clouds.values():
            cloud.faults.add(kind)

        reply = await ask(r, chat())

        assert reply.status in (502, 503, 504)
        assert wait_ms(reply) <= 60_000
