"""What operators are shown moves when, and only when, the thing itself happens: each metric through a whole router."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from router.emulator import Distribution, Settings
from router.health.breaker import Phase
from router.health.verdict import State
from router.telemetry.names import METRICS, Kind
from tests.adversity.client import ask, chat, sent
from tests.adversity.test_attempts import QUICK
from tests.adversity.test_hedging import GENEROUS
from tests.adversity.test_quota import PATIENT, Limited
from tests.router_kit import INTERNAL_KEY, Cloud, RunningRouter, held, router

DEPLOYMENT = "azure-a/gpt-4o-dep"
AZURE = {"workload": "api", "cloud": "azure"}
GPT = {**AZURE, "model": "gpt-4o"}
# Dollars a million tokens, far apart, so that no two can be taken for each other.
PRICE = {"prompt_usd_per_mtok": 10.0, "completion_usd_per_mtok": 1000.0}


async def settled(r: RunningRouter, count: int) -> None:
    """Until so many requests have ended: the client sees the last byte before the books do."""
    await r.until(lambda: len(r.records()) >= count)


async def served(r: RunningRouter, count: int = 1, **fields: Any) -> None:
    before = len(r.records())
    for _ in range(count):
        assert (await ask(r, chat(**fields))).status == 200
    await settled(r, before + count)


async def bucket(r: RunningRouter, name: str, le: str, **labels: str) -> float:
    return await r.metric(f"{name}_bucket", le=le, **labels)


async def test_a_served_request_is_seen_by_whom_and_how() -> None:
    async with router(Cloud("azure-a", deployment_extra={"price": PRICE})) as r:
        await served(r, 2)
        record = r.records()[-1]

        labels = {**GPT, "operation": "chat", "endpoint": "azure-a", "outcome": "ok"}
        assert await r.metric("router_requests_total", **labels) == 2
        assert await r.metric("router_attempts_total", deployment=DEPLOYMENT, cloud="azure", outcome="served") == 2
        assert await r.metric("router_offers_total", **AZURE, outcome="accepted") == 2
        for name, where in (
            ("router_request_seconds", {"workload": "api", "operation": "chat"}),
            ("router_first_byte_seconds", AZURE),
            ("router_overhead_seconds", {}),
            ("router_attempt_first_byte_seconds", {"deployment": DEPLOYMENT}),
        ):
            assert await r.metric(f"{name}_count", **where) == 2
            assert 0.0 < await r.metric(f"{name}_sum", **where) < 2.0
            assert await bucket(r, name, "+Inf", **where) == 2
        assert await r.metric("router_first_token_seconds_count") == 0, "it was no stream"
        assert await r.metric("router_chunk_gap_seconds_count") == 0
        assert await r.metric("router_waited_seconds_count") == 0

        usage = record["usage"]
        assert await r.metric("router_tokens_total", **GPT, kind="completion") == 2 * usage["completion_tokens"]
        cost = (10.0 * usage["prompt_tokens"] + 1000.0 * usage["completion_tokens"]) / 1e6
        assert record["cost_nano_usd"] == round(cost * 1e9)
        assert await r.metric("router_cost_usd_total", **GPT) == pytest.approx(2 * cost)
        assert await r.metric("router_decision_log_records_total") >= 2


async def test_one_connection_is_dialled_and_used_again() -> None:
    async with router(Cloud("azure-a"), Cloud("azure-b", tier=1)) as r:
        await served(r, 3)
        for name, here, there in (
            ("router_upstream_dials_total", 1, 0),
            ("router_upstream_reuses_total", 2, 0),
            ("router_upstream_connect_seconds_count", 1, 0),
            ("router_upstream_tls_seconds_count", 0, 0),
        ):
            assert await r.metric(name, deployment=DEPLOYMENT) == here
            assert await r.metric(name, deployment="azure-b/gpt-4o-dep") == there
        assert await r.metric("router_upstream_connections", deployment=DEPLOYMENT, state="idle") == 1
        assert await r.metric("router_upstream_connections", state="busy") == 0
        attempts = [record["attempts"][0] for record in r.records()]
        assert [attempt.get("connect_ms", 0.0) > 0.0 for attempt in attempts] == [True, False, False]


async def test_a_stream_is_seen_by_its_first_token_and_its_gaps() -> None:
    settings = Settings(first_token_ms=Distribution(60.0), token_gap_ms=Distribution(30.0), tokens=Distribution(8.0))
    async with router(Cloud("azure-a", settings=settings)) as r:
        await served(r, stream=True)
        record = r.records()[-1]

        first_token_s = await r.metric("router_first_token_seconds_sum", **GPT)
        assert await r.metric("router_first_token_seconds_count", **GPT) == 1
        assert first_token_s == pytest.approx(record["first_token_ms"] / 1000)
        assert 0.06 <= first_token_s < record["total_ms"] / 1000

        gaps = await r.metric("router_chunk_gap_seconds_count", **AZURE)
        gaps_s = await r.metric("router_chunk_gap_seconds_sum", **AZURE)
        assert gaps >= 8
        assert gaps_s == pytest.approx(record["total_ms"] / 1000 - first_token_s, abs=0.02)
        assert gaps_s >= 7 * 0.03, "seven words follow the first"
        assert await bucket(r, "router_chunk_gap_seconds", "0.025", **AZURE) <= gaps - 7


async def test_a_silent_stream_has_its_first_byte_before_its_first_token() -> None:
    times = {**PATIENT, "commit_after_ms": 50}
    async with router(Cloud("azure-a"), timeouts=times) as r:
        r.clouds["azure-a"].faults.add("stall_mid_stream", after_events=1, delay_ms=200)
        await served(r, stream=True)

        assert 0.05 <= await r.metric("router_first_byte_seconds_sum", **AZURE) < 0.2
        assert 0.2 <= await r.metric("router_first_token_seconds_sum", **GPT) < 2.0


async def test_ends_before_the_end_are_seen_by_whose_they_are() -> None:
    async with router(Cloud("azure-a"), timeouts=PATIENT) as r:
        r.clouds["azure-a"].faults.add("early_close", after_events=3, times=1)
        assert not (await ask(r, chat(stream=True))).complete
        await settled(r, 1)
        assert await r.metric("router_truncated_streams_total", **AZURE) == 1
        assert await r.metric("router_client_disconnects_total") == 0

        r.clouds["azure-a"].faults.add("stall_before_head", times=1)
        async with sent(r, chat()):
            await r.until(lambda: r.clouds["azure-a"].received.requests == 2)
            assert await r.metric("router_requests_in_flight", workload="api") == 1
            assert await r.metric("router_attempts_in_flight", deployment=DEPLOYMENT) == 1
            assert await r.metric("router_client_connections") == 1
            assert await r.metric("router_buffered_bytes") > 0
        await settled(r, 2)
        assert await r.metric("router_client_disconnects_total", workload="api") == 1
        assert await r.metric("router_truncated_streams_total") == 1
        assert await r.metric("router_requests_in_flight") == await r.metric("router_buffered_bytes") == 0


async def test_a_failure_is_seen_in_attempts_retries_and_the_breaker() -> None:
    clouds = [Cloud("azure-a"), Cloud("azure-b", tier=1)]
    health = {"consecutive_failures": 2}
    async with router(*clouds, timeouts=QUICK, resilience=GENEROUS, health=health) as r:
        state = {"deployment": DEPLOYMENT, "cloud": "azure"}

        async def breaker() -> dict[str, float]:
            return {p.value: await r.metric("router_breaker_state", **state, state=p.value) for p in Phase}

        assert await breaker() == {"closed": 1, "open": 0, "probing": 0, "recovering": 0}
        assert await r.metric("router_deployment_available", **state) == 1

        r.clouds["azure-a"].faults.add("status", status=500)
        budget = await r.metric("router_retry_budget_left", workload="api")
        await served(r, 2)

        assert await breaker() == {"closed": 0, "open": 1, "probing": 0, "recovering": 0}
        assert await r.metric("router_deployment_available", **state) == 0
        assert await r.metric("router_deployment_verdict", **state, state="ejected") == 1
        assert await r.metric("router_deployment_verdict", **state) == 1, "one state at a time"
        assert await r.metric("router_attempts_total", **state, outcome="server_error") == 2
        assert await r.metric("router_retries_total", workload="api") == 2
        assert await r.metric("router_retry_budget_left", workload="api") < budget
        assert await r.metric("router_offers_total", **AZURE, outcome="failed") == 2
        assert await r.metric("router_requests_total", **GPT, endpoint="azure-b", outcome="ok") == 2


async def test_a_request_that_waits_is_seen_while_it_does_and_after() -> None:
    one: dict[str, Any] = {"deployment_extra": {"concurrent": 1}}
    workloads = {"api": {"placement": {"rule": "exclusive", "cloud": "azure"}, "max_wait_ms": 8000}, **_internal()}
    settings = Settings(head_ms=Distribution(150.0))
    async with router(Cloud("azure-a", settings=settings, **one), timeouts=PATIENT, workloads=workloads) as r:
        assert await r.metric("router_attempts_in_flight_max", deployment=DEPLOYMENT) == 1
        both = asyncio.gather(ask(r, chat()), ask(r, chat()))
        await r.until(lambda: r.worker.assembly.runtime.waiting.count)
        assert await r.metric("router_waiting_requests", model="gpt-4o") == 1
        assert {reply.status for reply in await both} == {200}
        await settled(r, 2)

        assert await r.metric("router_waiting_requests") == 0
        assert await r.metric("router_waited_seconds_count", workload="api") == 1
        assert 0.05 <= await r.metric("router_waited_seconds_sum", workload="api") < 5.0


def _internal() -> dict[str, Any]:
    return {"internal": {"placement": {"rule": "spread", "clouds": ["azure"]}}}


async def test_what_is_left_of_a_quota_falls_as_it_is_used() -> None:
    async with router(Limited("azure-a", deployment_extra={"tpm": 6000, "rpm": 60}), timeouts=PATIENT) as r:

        async def left(limit: str) -> float:
            return await r.metric("router_quota_left_ratio", deployment=DEPLOYMENT, limit=limit)

        before = [await left("tokens"), await left("requests")]
        assert before == [1.0, 1.0]
        await served(r, max_tokens=3000)
        assert 0.3 < await left("tokens") < 0.6
        assert await left("requests") < 1.0


async def test_a_request_that_leaves_the_holder_is_seen_as_a_departure() -> None:
    clouds = [Cloud("azure-a"), Cloud("cw", "coreweave", "openai")]
    async with router(*clouds, timeouts=QUICK, resilience=GENEROUS, workloads=held()) as r:
        r.clouds["azure-a"].faults.add("status", status=429, retry_after="30")
        await served(r, key=INTERNAL_KEY)

        internal = {"workload": "internal"}
        assert await r.metric("router_departures_total", **internal, cloud="coreweave") == 1
        assert await r.metric("router_offers_total", **internal, cloud="azure", outcome="throttled") == 1
        assert await r.metric("router_offers_total", **internal, cloud="coreweave", outcome="accepted") == 1
        assert await r.metric("router_deployment_verdict", deployment=DEPLOYMENT, state="throttled") == 1
        assert await r.metric("router_placement_violations_total") == 0


async def test_a_reload_and_an_operator_s_word_are_seen() -> None:
    async with router(Cloud("azure-a"), Cloud("azure-b", tier=1)) as r:
        version = r.worker.assembly.runtime.snapshot.version
        assert await r.metric("router_config_info", version=version) == 1
        loaded = await r.metric("router_config_loaded_timestamp_seconds")
        assert abs(loaded - time.time()) < 30

        config = json.loads(r.file.read_text())
        config["aliases"] = {"gpt-4o-latest": "gpt-4o"}
        r.file.write_bytes(orjson.dumps(config))
        assert (await r.worker.reload()).ok
        r.file.write_text("{}")
        assert not (await r.worker.reload()).ok

        assert await r.metric("router_config_info", version=version) == 0
        assert await r.metric("router_config_info") == 1
        assert await r.metric("router_config_loaded_timestamp_seconds") > loaded
        assert await r.metric("router_reloads_total", result="ok") == 1
        assert await r.metric("router_reloads_total", result="refused") == 1

        await r.worker.set_drain(DEPLOYMENT, True)
        assert await r.metric("router_deployment_verdict", deployment=DEPLOYMENT, state="draining") == 1
        assert await r.metric("router_deployment_available", deployment=DEPLOYMENT) == 0


async def test_the_process_tells_of_itself() -> None:
    async with router(Cloud("azure-a")) as r:
        assert await r.metric("router_worker_up", worker="0") == 1
        assert await r.metric("router_worker_restarts_total", worker="0") == 0
        assert await r.metric("router_build_info") == 1
        assert await r.metric("router_draining") == 0
        assert await r.metric("process_resident_memory_bytes") > 1e7

        time.sleep(0.3)  # the loop is held up
        await asyncio.sleep(0.06)
        await asyncio.sleep(0.2)  # and free again
        lag_s = await r.metric("router_event_loop_lag_seconds", worker="0")
        assert 0.2 <= lag_s < 5.0, "the worst of the last seconds, not the last"
        assert await r.metric("router_event_loop_lag_seconds", worker="0") >= lag_s, "to ask does not forget it"


async def test_what_is_lost_or_held_back_is_told() -> None:
    """Counted where it happens, which tests of each log show; here it has only to reach the page."""
    async with router(Cloud("azure-a")) as r:
        assembly = r.worker.assembly
        assert await r.metric("router_log_buffered_bytes", log="decisions") > 0, "nothing was anchored yet"
        assembly.decisions.anchor()
        assert await r.metric("router_log_buffered_bytes", log="decisions") == 0
        for name, owner, attribute in (
            ("router_access_log_dropped_total", assembly.books.log, "dropped"),
            ("router_decision_log_dropped_total", assembly.decisions, "dropped"),
            ("router_decision_log_anchor_failures_total", assembly.jobs.anchoring, "failures"),
            ("router_placement_violations_total", assembly.runtime, "violations"),
        ):
            assert await r.metric(name) == 0
            setattr(owner, attribute, 3)
            assert await r.metric(name) == 3


async def busy_page(accept: str = "") -> str:
    """The page of a router that has served everything that comes easily."""
    clouds = [Cloud("azure-a", deployment_extra={"tpm": 60_000, "rpm": 600}), Cloud("cw", "coreweave", "openai")]
    models = {"gpt-4o": {"limits": {"concurrent": 100}}}
    async with router(
        *clouds, timeouts=QUICK, resilience=GENEROUS, ledger={"dir": "ledger"}, workloads=held(), models=models
    ) as r:
        await served(r)
        await served(r, stream=True)
        r.clouds["azure-a"].faults.add("status", status=500, times=1)
        await served(r, key=INTERNAL_KEY)
        assert (await ask(r, chat(model="unknown"))).status == 404
        assert (await ask(r, chat(key="wrong"))).status == 401
        await settled(r, 5)
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"{r.admin_url}/metrics", headers={"Accept": accept})
            return await answer.text()


async def test_no_client_can_make_a_series() -> None:
    """However many models, paths, keys and ids are made up: they share what is there, and none of them is shown."""
    async with router(Cloud("azure-a")) as r, aiohttp.ClientSession() as session:

        async def attempted(word: str) -> None:
            assert (await ask(r, chat(model=word))).status == 404
            assert (await ask(r, chat(key=word))).status == 401
            assert (await ask(r, replace(chat(), path=f"/v1/{word}"))).status == 404
            assert (await ask(r, replace(chat(), path=f"/openai/deployments/{word}/chat/completions"))).status == 404
            assert (
                await ask(r, replace(chat(user=word), headers=(("x-request-id", word), (word, word))))
            ).status == 200

        async def series() -> set[str]:
            async with session.get(f"{r.admin_url}/metrics") as answer:
                page = await answer.text()
            assert "madeup" not in page
            lines = (line for line in page.splitlines() if not line.startswith("#"))
            return {line.rpartition(" ")[0] for line in lines}

        await attempted("madeup")
        before = await series()
        for number in range(10):
            await attempted(f"madeup-{number}")
        assert await r.metric("router_requests_total") == 55
        assert await series() == before


async def test_every_metric_has_series_once_the_router_has_worked() -> None:
    page = await busy_page()
    seen = {line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if not line.startswith("#")}
    # Those that take TLS, a full room, a dial that fails, a session, another worker, or a Redis that routers share.
    rare = {"router_upstream_tls_seconds", "router_waited_seconds", "router_upstream_dial_failures_total"}
    rare |= {"router_certificate_left_seconds", "router_clients_arriving", "router_worker_news_age_seconds"}
    rare |= {"router_tls_handshakes_total", "router_proxy_headers_total"}
    rare |= {metric.name for metric in METRICS if metric.name.startswith(("router_redis_", "router_session"))}
    for metric in METRICS:
        name = f"{metric.name}_count" if metric.kind is Kind.HISTOGRAM else metric.name
        assert name in seen or metric.name in rare, metric.name
    states = {state.value for state in State}
    assert states == {line.split('state="')[1].split('"')[0] for line in page.splitlines() if "_verdict{" in line}


async def test_promtool_has_nothing_to_say_about_the_page() -> None:
    promtool = shutil.which("promtool")
    if promtool is None and not os.environ.get("CI"):
        pytest.skip("promtool is not installed: it is in Debian's package prometheus")
    assert promtool is not None
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=await busy_page(), capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
