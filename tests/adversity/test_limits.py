"""What keys, workloads and models may use, as clients meet it: refusals with true waits, and nothing stays taken."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.base.clock import ManualClock
from router.config.keys import digest
from router.emulator import Distribution, Settings
from router.proxy.limiting import Limiting
from tests.adversity.client import ask, chat, sent
from tests.adversity.test_attempts import QUICK
from tests.adversity.test_leaks import KINDS, clouds
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, RunningRouter, router

PACED = Settings(tokens=Distribution(60.0), token_gap_ms=Distribution(30.0))  # a stream of two seconds
PRICE = {"price": {"prompt_usd_per_mtok": 1000, "completion_usd_per_mtok": 1000}}  # a million nano-dollars a token
TOKEN_NANO_USD = 1_000_000
API = {"placement": {"rule": "exclusive", "cloud": "azure"}}


def keys(**of_api: Any) -> list[dict[str, Any]]:
    """`of_api`: more of the key that asks for Azure alone."""
    return [
        {"name": "api", "workload": "api", "sha256": digest(API_KEY).hex(), "models": ["*"], **of_api},
        {"name": "internal", "workload": "internal", "sha256": digest(INTERNAL_KEY).hex(), "models": ["*"]},
    ]


def both_in_api(**of_first: Any) -> list[dict[str, Any]]:
    """Two keys of one workload."""
    first, second = keys(**of_first)
    return [first, {**second, "workload": "api"}]


def limits(r: RunningRouter) -> Limiting:
    return r.worker.assembly.runtime.limits


def left(r: RunningRouter, limit_id: str) -> float:
    return limits(r).gates[limit_id].left(asyncio.get_running_loop().time())


def refused(r: RunningRouter, limit_id: str) -> int:
    return limits(r).gates[limit_id].refused


async def ended(r: RunningRouter, count: int) -> None:
    """Until so many requests have ended for the router too."""
    await r.until(lambda: len(r.records()) >= count)


def used_by(record: dict[str, Any]) -> int:
    """Tokens of all its attempts."""
    usages = [attempt.get("usage") or {} for attempt in record["attempts"]]
    return sum(usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0) for usage in usages)


async def test_requests_beyond_the_burst_are_refused_with_a_true_wait() -> None:
    async with router(Cloud("azure"), keys=keys(limits={"rpm": 20, "burst_share": 0.15})) as r:
        replies = [await ask(r, chat()) for _ in range(3)]
        turned_away = await ask(r, chat(stream=True))

        assert [reply.status for reply in replies] == [200, 200, 200]
        remaining = [int(reply.headers["x-ratelimit-remaining-requests"]) for reply in replies]
        assert remaining == [2, 1, 0]
        assert turned_away.status == 429
        wait_ms = int(turned_away.headers["retry-after-ms"])
        assert turned_away.json["error"] == {
            "message": f"The limit of 20 requests a minute of this key is reached. Try again in {wait_ms / 1000:g} s.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        assert 0 < wait_ms <= 3000
        assert int(turned_away.headers["retry-after"]) == -(-wait_ms // 1000)
        assert turned_away.headers["x-ratelimit-limit-requests"] == "20"
        assert turned_away.headers["x-ratelimit-remaining-requests"] == "0"
        assert "x-ratelimit-limit-tokens" not in turned_away.headers
        assert (await ask(r, chat(key=INTERNAL_KEY))).status == 200, "another key has limits of its own"
        await asyncio.sleep(wait_ms / 1000)
        assert (await ask(r, chat())).status == 200, "the wait was true"
        await r.until(lambda: len(r.records()) == 6)
        (record,) = (record for record in r.records() if record["status"] == 429)
        assert (record["outcome"], record["code"]) == ("client_error", "rate_limit_exceeded")
        assert r.clouds["azure"].received.requests == 5


async def test_tokens_are_reserved_on_arrival_and_settled_by_what_was_used() -> None:
    """A stream that may have 500 tokens holds them until it ends, and gives back what it did not use."""
    limited = keys(limits={"tpm": 600, "burst_share": 1})
    async with router(Cloud("azure", settings=PACED), keys=limited) as r:
        began = asyncio.get_running_loop().time()
        async with sent(r, chat(stream=True, max_tokens=500)) as call:
            await call.some(b'"content":')
            head = call.reply.headers
            assert int(head["x-ratelimit-limit-tokens"]) == 600
            assert int(head["x-ratelimit-remaining-tokens"]) < 100
            turned_away = await ask(r, chat(max_tokens=100))
            assert (turned_away.status, turned_away.code) == (429, "rate_limit_exceeded")
            assert "tokens a minute of this key" in turned_away.json["error"]["message"]
            assert (await call.rest()).complete
        await ended(r, 2)

        (record,) = (record for record in r.records() if record["status"] == 200)
        by_time = 10 * (asyncio.get_running_loop().time() - began)
        assert 600 - used_by(record) <= left(r, "key/api/tpm") <= min(600, 600 - used_by(record) + by_time)
        assert (await ask(r, chat(max_tokens=100))).status == 200


async def test_a_request_that_used_more_than_was_reserved_leaves_a_debt() -> None:
    generous = Settings(tokens=Distribution(400.0))
    async with router(Cloud("azure", settings=generous), keys=keys(limits={"tpm": 300, "burst_share": 1})) as r:
        assert (await ask(r, chat())).status == 200, "nobody said that its answer would be that long"
        await ended(r, 1)
        assert left(r, "key/api/tpm") < 0

        turned_away = await ask(r, chat())
        assert turned_away.status == 429
        assert int(turned_away.headers["retry-after"]) > 20
        assert turned_away.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_a_cut_stream_is_settled_by_what_it_most_likely_used() -> None:
    async with router(
        Cloud("azure", settings=PACED), keys=keys(limits={"tpm": 600, "concurrent": 1, "burst_share": 1})
    ) as r:
        async with sent(r, chat(stream=True, max_tokens=400)) as call:
            await call.some(b'"content":')
            assert left(r, "key/api/tpm") <= 200
        await ended(r, 1)

        (record,) = r.records()
        assert record["outcome"] == "client_gone"
        assert 0 < used_by(record) < 100
        assert left(r, "key/api/tpm") >= 600 - used_by(record)
        assert left(r, "key/api/concurrent") == 1


async def test_what_is_larger_than_the_burst_passes_once_it_is_whole_and_never_beyond_a_minute() -> None:
    async with router(Cloud("azure"), keys=keys(limits={"tpm": 6000})) as r:
        assert (await ask(r, chat(max_tokens=2000))).status == 200
        never = await ask(r, chat(max_tokens=7000))

        assert never.status == 429
        told = "The request is larger than the limit of 6,000 tokens a minute of this key ever lets through."
        assert never.json["error"]["message"] == told
        assert never.headers["x-should-retry"] == "false"
        assert "retry-after" not in never.headers


async def test_requests_at_one_time_are_bounded_and_places_come_back() -> None:
    async with router(Cloud("azure", settings=PACED), keys=keys(limits={"concurrent": 2})) as r:
        async with sent(r, chat(stream=True)) as one, sent(r, chat(stream=True)) as two:
            await asyncio.gather(one.some(b'"content":'), two.some(b'"content":'))
            third = await ask(r, chat())
            assert third.status == 429
            assert "requests at one time of this key" in third.json["error"]["message"]
            assert int(third.headers["retry-after-ms"]) <= 1000
            assert not [name for name in third.headers if name.startswith("x-ratelimit")], "of rates alone"
            assert (await one.rest()).complete
            await ended(r, 2)
            assert (await ask(r, chat(max_tokens=1))).status == 200
        await r.until(lambda: left(r, "key/api/concurrent") == 2)


ALL = {
    "limits": {"rpm": 100_000, "tpm": 100_000_000, "concurrent": 50},
    "budget": {"day_usd": 1_000_000, "month_usd": 1_000_000},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_however_a_request_ends_it_gives_everything_back_once(kind: str) -> None:
    """Places exactly; of tokens and money all but what the records say was used."""
    limited = [{**key, **ALL} for key in keys()]
    wide = {"limits": {"concurrent": 60}, "budget": {"month_usd": 1_000_000}}
    workloads = {name: {"placement": {"rule": "spread", "clouds": ["azure"]}, **wide} for name in ("api", "internal")}
    workloads["internal"]["reveal"] = "upstream"
    described = clouds()
    for cloud in described:
        cloud.deployment_extra = PRICE
    config = {"keys": limited, "workloads": workloads, "models": {"gpt-4o": {**ALL, "limits": {"concurrent": 70}}}}
    async with router(*described, timeouts={**QUICK, "commit_json_s": 0.1}, **config) as r:
        for _ in range(3):
            await KINDS[kind](r)
        await r.until(lambda: not r.worker.assembly.gateway.server.connections)
        await r.assert_nothing_is_left()

        gates = limits(r).gates.values()
        assert {gate.id: gate.left(0.0) for gate in gates if gate.limit == "concurrent"} == {
            gate.id: gate.full for gate in gates if gate.limit == "concurrent"
        }

        def cost(key: str) -> int:
            attempts = [
                attempt for record in r.records() if record.get("key") == key for attempt in record.get("attempts", ())
            ]
            return sum(attempt.get("cost_nano_usd", 0) for attempt in attempts)

        for gate in gates:
            if gate.scope == "key" and gate.limit == "month_usd":
                await r.until(lambda gate=gate: gate.full - gate.left(0.0) == cost(gate.name))


async def test_a_refusal_takes_nothing() -> None:
    """Where one limit refuses, what the others had given already is back."""
    limited = both_in_api(limits={"rpm": 60, "tpm": 600, "concurrent": 3, "burst_share": 1})
    workloads = {"api": {**API, "limits": {"concurrent": 4}}}
    wordy = Cloud("azure", settings=Settings(tokens=Distribution(500.0)))
    async with router(wordy, keys=limited, workloads=workloads) as r:
        assert (await ask(r, chat(max_tokens=500))).status == 200
        await ended(r, 1)
        before = left(r, "key/api/rpm")
        for _ in range(20):
            assert (await ask(r, chat(max_tokens=560))).status == 429

        assert left(r, "key/api/rpm") >= before
        assert left(r, "key/api/concurrent") == 3
        assert left(r, "workload/api/concurrent") == 4


async def test_keys_of_a_workload_and_all_who_ask_for_a_model_share_their_limits() -> None:
    workloads = {"api": {**API, "limits": {"rpm": 12, "burst_share": 0.25}}}
    models = {"gpt-4o": {"limits": {"rpm": 10}}}
    two = {"gpt-4o-dep": "gpt-4o", "mini-dep": "mini"}
    config = {"keys": both_in_api(), "workloads": workloads, "models": models}
    async with router(Cloud("azure", deployments=two), **config) as r:
        assert (await ask(r, chat())).status == 200
        of_model = await ask(r, chat(key=INTERNAL_KEY))
        assert of_model.status == 429
        assert "of the model `gpt-4o` is reached" in of_model.json["error"]["message"]
        assert "x-ratelimit-limit-requests" not in of_model.headers, "the figures are the key's own"
        assert (await ask(r, chat(model="mini", key=INTERNAL_KEY))).status == 200
        assert (await ask(r, chat(model="mini"))).status == 200
        of_workload = await ask(r, chat(model="mini"))

        assert of_workload.status == 429
        assert "of all keys of its kind" in of_workload.json["error"]["message"]
        assert (refused(r, "model/gpt-4o/rpm"), refused(r, "workload/api/rpm")) == (1, 1)


async def test_a_spent_budget_serves_nobody_until_its_period_is_over() -> None:
    start = datetime(2027, 3, 31, 23, 59, tzinfo=UTC).timestamp()
    clock = ManualClock(wall_s=start)
    cloud = Cloud("azure", settings=Settings(tokens=Distribution(50.0)), deployment_extra=PRICE)
    async with router(cloud, keys=keys(budget={"day_usd": 0.1, "month_usd": 0.2}), clock=clock) as r:
        served = 0
        while (reply := await ask(r, chat())).status == 200:
            served += 1
            await ended(r, served)

        spent = sum(attempt["cost_nano_usd"] for record in r.records() for attempt in record.get("attempts", []))
        assert 2 <= served <= 3
        assert spent >= 100_000_000 - 60 * TOKEN_NANO_USD
        assert reply.status == 429
        assert reply.json["error"]["type"] == reply.json["error"]["code"] == "insufficient_quota"
        assert (
            reply.json["error"]["message"]
            == "The budget of this key for this day has too little left for this request."
        )
        assert 0 < int(reply.headers["retry-after"]) <= 60
        clock.advance(-3600)  # a clock that is set back begins no day anew
        await asyncio.sleep(1.2)
        assert (await ask(r, chat())).status == 429
        clock.advance(3600 + 61)
        await r.until(lambda: left(r, "key/api/day_usd") == 100_000_000, within_s=5)
        assert (await ask(r, chat())).status == 200, "a new day and a new month"
        assert r.clouds["azure"].received.requests == served + 1


async def test_what_the_ledger_knows_to_be_spent_is_spent() -> None:
    cloud = Cloud("azure", deployment_extra=PRICE)
    async with router(cloud, keys=keys(budget={"month_usd": 1})) as r:
        r.worker.assembly.supply.begin({"key/api/month_usd": 1_000_000_000, "key/gone/day_usd": 7})
        reply = await ask(r, chat())

        assert (reply.status, reply.code) == (429, "insufficient_quota")
        assert reply.headers["x-should-retry"] == "false", "nobody waits for the next month"


async def test_a_limit_in_shadow_counts_and_refuses_nobody() -> None:
    limited = keys(
        limits={"rpm": 20, "tpm": 60_000, "concurrent": 1, "burst_share": 0.05, "shadow": ["rpm", "concurrent"]}
    )
    async with router(Cloud("azure", settings=PACED), keys=limited) as r:
        async with sent(r, chat(stream=True, max_tokens=2)) as one:
            await one.some(b'"content":')
            beside = await ask(r, chat(max_tokens=1))
            assert beside.status == 200
            assert "x-ratelimit-limit-requests" not in beside.headers, "nobody should slow down for it"
            assert "x-ratelimit-limit-tokens" in beside.headers
            await one.rest()
        await r.until(lambda: left(r, "key/api/concurrent") == 1)

        counted = {gate.limit: (gate.shadowed, gate.refused) for gate in limits(r).gates.values()}
        assert counted["concurrent"] == (1, 0)
        assert (await r.metric("router_limit_shadowed_total", scope="key", limit="concurrent")) == 1
        for _ in range(4):
            await ask(r, chat(max_tokens=1))
        assert limits(r).gates["key/api/rpm"].shadowed >= 1
        assert limits(r).gates["key/api/rpm"].refused == 0


async def reload(r: RunningRouter, **config: Any) -> None:
    """Writes other top-level keys into the file, and has them put in force."""
    written = orjson.loads(r.file.read_bytes())
    r.file.write_bytes(orjson.dumps({**written, **config}))
    result = await r.worker.reload()
    assert result.ok, result.faults


async def test_a_reload_changes_limits_and_forgets_nothing_that_is_used() -> None:
    async with router(Cloud("azure", settings=PACED), keys=keys(limits={"rpm": 600, "concurrent": 2})) as r:
        async with sent(r, chat(stream=True)) as one:
            await one.some(b'"content":')
            await reload(r, keys=keys(limits={"rpm": 60, "concurrent": 1, "burst_share": 0.05}))
            turned_away = await ask(r, chat())
            assert "at one time" in turned_away.json["error"]["message"], "the one that runs has the only place"
            assert turned_away.headers["x-ratelimit-limit-requests"] == "60"
            assert left(r, "key/api/rpm") <= 3
            await reload(r, keys=keys(limits={"concurrent": 3}))
            assert (await ask(r, chat(max_tokens=1))).status == 200
            assert "key/api/rpm" not in limits(r).gates
            assert (await one.rest()).complete
        await r.until(lambda: left(r, "key/api/concurrent") == 3)
        await reload(r, keys=keys())
        assert (await ask(r, chat())).status == 200
        assert not limits(r).gates


async def test_a_limit_that_goes_while_a_body_comes_refuses_nobody() -> None:
    """The request began under it, and has taken its place; then all limits change before its tokens are known."""
    limited = keys(limits={"tpm": 60, "concurrent": 1, "burst_share": 1})
    async with router(Cloud("azure"), keys=limited) as r:
        async with sent(r, chat(max_tokens=1000), halves=True) as call:
            await r.until(lambda: bool(limits(r).gates) and left(r, "key/api/concurrent") == 0)
            await reload(r, keys=keys(limits={"rpm": 600, "concurrent": 2}))
            assert left(r, "key/api/concurrent") == 1
            call.send_rest()
            assert (await call.rest()).status == 200
        await r.until(lambda: left(r, "key/api/concurrent") == 2)


async def test_numbers_of_limits_move_with_them() -> None:
    labels = {"scope": "key", "limit": "rpm"}
    async with router(Cloud("azure"), keys=keys(limits={"rpm": 6, "burst_share": 0.5})) as r:
        assert await r.metric("router_limit_refusals_total") == 0
        assert (await ask(r, chat())).status == 200
        assert 0.6 < await r.metric("router_limit_left_ratio", **labels) <= 0.75
        while (await ask(r, chat())).status == 200:
            pass
        assert await r.metric("router_limit_refusals_total", **labels) == 1
        assert await r.metric("router_limit_left_ratio", **labels) < 0.34
        assert await r.metric("router_limit_lease_waits_total") == 0, "nobody is above"


async def test_a_restart_forgets_no_budget_that_the_ledger_has(tmp_path: Path) -> None:
    cloud = Cloud("azure", settings=Settings(tokens=Distribution(50.0)), deployment_extra=PRICE)
    config: dict[str, Any] = {"keys": keys(budget={"month_usd": 0.06}), "ledger": {"dir": str(tmp_path / "ledger")}}
    async with router(cloud, **config) as r:
        assert (await ask(r, chat())).status == 200
        spent = left(r, "key/api/month_usd")
        assert spent < 60 * TOKEN_NANO_USD
    async with router(cloud, **config) as r:
        accounts = r.worker.assembly.accounts
        assert accounts is not None
        await r.until(lambda: accounts.budgets_known, within_s=60)
        assert (await ask(r, chat())).status == 429
        assert left(r, "key/api/month_usd") == spent
