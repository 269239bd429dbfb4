"""Traces as a collector gets them: whole trees, ids that the clouds were sent as well, and never a word of a prompt."""

import asyncio
import re
import time
from typing import Any

import pytest

from router.emulator import Distribution, Settings
from tests.adversity.client import Ask, ask, chat, sent
from tests.adversity.collector import collector
from tests.adversity.test_attempts import QUICK
from tests.adversity.test_hedging import fleet, internal, prefer, settings
from tests.conformance.providers.kit import CASES
from tests.router_kit import API_KEY, CANARY, INTERNAL_KEY, Cloud, RunningRouter, held, router

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
PROMPT = "prompt-canary-4711"


def with_headers(request: Ask, **headers: str) -> Ask:
    return Ask(request.path, request.body, request.key, tuple(headers.items()))


def sent_up(r: RunningRouter, cloud: str, header: str = "traceparent") -> str | None:
    last = r.clouds[cloud].received.last
    assert last is not None
    return last.header(header)


def parent_sent(r: RunningRouter, cloud: str) -> tuple[str, str]:
    """Trace and span that a cloud was told to go on from."""
    found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[13]", sent_up(r, cloud) or "")
    assert found is not None
    return found[1], found[2]


async def recorded(r: RunningRouter, count: int = 1) -> dict[str, Any]:
    await r.until(lambda: len(r.records()) == count)
    return r.records()[-1]


async def test_a_request_is_a_tree_whose_leaf_the_cloud_was_told_of() -> None:
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section(service_name="gateway-1")) as r:
        reply = await ask(r, with_headers(chat(stream=True), traceparent=SAMPLED, tracestate="a=1,b=2"))
        assert reply.complete
        server, client = await seen.tree(2)
        record = await recorded(r)

        assert (server.trace_id, server.parent_id) == (TRACE, SPAN)
        assert parent_sent(r, "azure") == (TRACE, client.span_id)
        assert sent_up(r, "azure", "tracestate") == "a=1,b=2"
        assert record["trace_id"] == TRACE
        assert record["attempts"][0]["span_id"] == client.span_id
        assert "traceparent" not in reply.headers
        assert server.name == "POST /v1/chat/completions"
        expected = {
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "http.response.status_code": 200,
            "router.request_id": reply.headers["x-request-id"],
            "router.workload": "api",
            "router.key": "api",
            "router.cloud": "azure",
            "router.deployment": "azure/gpt-4o-dep",
            "router.outcome": "ok",
        }
        assert expected.items() <= server.attributes.items()
        assert client.name == "chat gpt-4o"
        endpoint = r.backend("azure").deployment.endpoint
        expected = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "azure.ai.openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.request.stream": True,
            "gen_ai.usage.input_tokens": record["usage"]["prompt_tokens"],
            "gen_ai.usage.output_tokens": record["usage"]["completion_tokens"],
            "server.address": "127.0.0.1",
            "server.port": endpoint.base_url.port,
            "http.response.status_code": 200,
            "router.outcome": "served",
        }
        assert expected.items() <= client.attributes.items()
        assert not server.failed
        assert not client.failed
        assert not {"error.type"} & {*server.attributes, *client.attributes}
        assert server.resource["service.name"] == "gateway-1"


async def test_without_a_parent_a_trace_begins_here() -> None:
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section()) as r:
        await ask(r, with_headers(chat(), tracestate="a=1"))
        server, client = await seen.tree(2)
        assert server.parent_id == ""
        assert parent_sent(r, "azure") == (server.trace_id, client.span_id)
        assert sent_up(r, "azure", "tracestate") is None, "a state of no trace"
        assert (await recorded(r))["trace_id"] == server.trace_id


async def test_each_attempt_is_a_span_and_the_one_that_failed_says_so() -> None:
    clouds = [Cloud("first"), Cloud("second", tier=1)]
    async with collector() as seen, router(*clouds, tracing=seen.section()) as r:
        r.clouds["first"].faults.add("status", status=500)
        assert (await ask(r, chat())).status == 200
        server, failed, served = await seen.tree(3)

        assert parent_sent(r, "first") == (server.trace_id, failed.span_id)
        assert parent_sent(r, "second") == (server.trace_id, served.span_id)
        assert failed.failed
        assert failed.attributes["error.type"] == "server_error"
        assert failed.attributes["http.response.status_code"] == 500
        assert "gen_ai.usage.input_tokens" not in failed.attributes
        assert served.attributes["http.request.resend_count"] == 1
        assert served.attributes["gen_ai.usage.input_tokens"] > 0
        assert (served.failed, server.failed) == (False, False)
        refusal = {"router.deployment": "first/gpt-4o-dep", "router.cloud": "azure", "router.reason": "failed"}
        assert server.events == [("router.refusal", refusal)]


async def test_both_copies_of_a_hedged_request_are_spans_that_overlap() -> None:
    async with collector() as seen, router(*fleet(), **settings(tracing=seen.section())) as r:
        prefer(r, "a")
        r.clouds["a"].faults.add("stall_before_head")
        assert (await ask(r, internal())).complete
        server, lost, won = await seen.tree(3)

        assert parent_sent(r, "a") == (server.trace_id, lost.span_id)
        assert parent_sent(r, "b") == (server.trace_id, won.span_id)
        assert (lost.attributes["router.outcome"], lost.failed) == ("hedge_lost", False)
        assert (won.attributes["router.hedge"], lost.attributes["router.hedge"]) == (True, False)
        assert won.times[0] < lost.times[1], "the second was sent while the first was silent"


async def test_a_departure_shows_why_the_holder_was_left() -> None:
    clouds = [Cloud("azure"), Cloud("cw", "coreweave", "openai")]
    async with collector() as seen, router(*clouds, workloads=held(), tracing=seen.section()) as r:
        await r.worker.set_drain("azure/gpt-4o-dep", True)
        assert (await ask(r, chat(key=INTERNAL_KEY))).status == 200
        server, client = await seen.tree(2)
        assert server.events == [
            (
                "router.refusal",
                {"router.deployment": "azure/gpt-4o-dep", "router.cloud": "azure", "router.reason": "draining"},
            )
        ]
        assert server.attributes["router.left_holder"] is True
        assert client.attributes["gen_ai.provider.name"] == "openai"


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        (("status", {"status": 500}), 500, "upstream_error"),
        (("reset_before_head", {}), 502, "upstream_error"),
        (("stall_before_head", {}), 504, "upstream_timeout"),
    ],
    ids=["500", "reset", "silent"],
)
async def test_where_nobody_serves_both_spans_are_in_error(
    fault: tuple[str, dict[str, Any]], status: int, error: str
) -> None:
    async with collector() as seen, router(Cloud("azure"), timeouts=QUICK, tracing=seen.section()) as r:
        r.clouds["azure"].faults.add(fault[0], **fault[1])
        assert (await ask(r, chat())).status == status
        server, client = await seen.tree(2)
        assert (server.failed, client.failed) == (True, True)
        assert server.attributes["error.type"] == error
        assert server.attributes["http.response.status_code"] == status


async def test_a_stream_that_breaks_is_in_error_whatever_its_status() -> None:
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section()) as r:
        r.clouds["azure"].faults.add("early_close", after_events=5)
        assert (await ask(r, chat(stream=True))).told_error
        server, client = await seen.tree(2)
        assert (server.failed, client.failed) == (True, True)
        assert (server.attributes["error.type"], client.attributes["error.type"]) == ("stream_broken", "broken")


async def test_what_the_client_got_wrong_or_gave_up_is_no_error_of_ours() -> None:
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section()) as r:
        assert (await ask(r, Ask("/v1/chat/completions", b'{"model":"no-such"}'))).status == 404
        (server,) = await seen.tree(1)
        assert (server.failed, server.attributes["error.type"]) == (False, "model_not_found")
        assert "gen_ai.request.model" not in server.attributes, "a client's free text"

        seen.spans.clear()
        r.clouds["azure"].faults.add("stall_before_head")
        async with sent(r, chat()):
            await r.until(lambda: r.clouds["azure"].received.requests == 1)
        server, client = await seen.tree(2)
        assert (server.failed, client.failed) == (False, False)
        assert "http.response.status_code" not in server.attributes
        assert client.attributes["router.outcome"] == "client_gone"


async def test_a_path_is_shown_without_what_the_client_wrote_in_it() -> None:
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section()) as r:
        path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
        assert (await ask(r, Ask(path, chat().body))).status == 200
        server, _ = await seen.tree(2)
        assert server.name == "POST /openai/deployments/{model}/chat/completions"


async def test_no_span_holds_a_prompt_an_answer_or_a_secret() -> None:
    async with (
        collector() as seen,
        router(Cloud("azure"), tracing=seen.section(headers={"authorization": "Bearer collector-canary"})) as r,
    ):
        body = chat(stream=True, messages=[{"role": "user", "content": PROMPT}], user=PROMPT, metadata={"x": PROMPT})
        reply = await ask(r, with_headers(body, tracestate=f"a={PROMPT}"))
        assert reply.said
        await seen.tree(2)
        for secret in (PROMPT, reply.said[:20], API_KEY, CANARY, "collector-canary"):
            assert secret.encode() not in seen.raw
        assert seen.headers[0]["authorization"] == "Bearer collector-canary"


# -- which requests are traced


@pytest.mark.parametrize("flag", [SAMPLED, NOT_SAMPLED])
async def test_what_is_not_traced_goes_up_as_it_came(flag: str) -> None:
    """A client's flag alone does not make a trace here."""
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section(sample=0)) as r:
        for _ in range(3):
            assert (await ask(r, with_headers(chat(), traceparent=flag, tracestate="a=1"))).status == 200
            assert sent_up(r, "azure") == flag
            assert sent_up(r, "azure", "tracestate") == "a=1"
        record = await recorded(r, 3)
        assert record["trace_id"] == TRACE, "the client's own, to be found by"
        assert "span_id" not in record["attempts"][0]
    assert not seen.headers, "the router has closed, and sent all that it had"


async def test_clients_of_a_respected_workload_decide_and_others_do_not() -> None:
    async with (
        collector() as seen,
        router(Cloud("azure"), tracing=seen.section(sample=0, respect_parent=["internal"])) as r,
    ):
        for key in (API_KEY, INTERNAL_KEY):
            for flag in (SAMPLED, NOT_SAMPLED):
                assert (await ask(r, with_headers(chat(key=key), traceparent=flag))).status == 200
        server, _ = await seen.tree(2)
        assert server.attributes["router.workload"] == "internal"
        assert server.parent_id == SPAN


async def test_a_reload_changes_who_is_traced_and_not_where_to() -> None:
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section(sample=0)) as r:
        assert (await ask(r, chat())).status == 200
        text = r.file.read_text()
        r.file.write_text(text.replace('"sample": 0', '"sample": 1'))
        assert (await r.worker.reload()).ok
        assert (await ask(r, chat())).status == 200
        server, _ = await seen.tree(2)
        assert server.attributes["router.request_id"] == (await recorded(r, 2))["id"]

        for old, new in ((f":{seen.port}/", ":9/"), ('"sample"', '"service_name": "other", "sample"')):
            r.file.write_text(text.replace(old, new))
            result = await r.worker.reload()
            assert [fault.path for fault in result.faults] == ["tracing"]
            assert "restart" in str(result.faults[0])


NO_TRACEPARENT = (
    "00-1",
    SAMPLED[:-1],
    SAMPLED + "0",
    SAMPLED + "-extra",
    SAMPLED.upper(),
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE}-{SPAN}-0g",
    SAMPLED.replace("-", "_"),
    f"{SAMPLED}, {SAMPLED}",
    "",
)


@pytest.mark.parametrize("sample", [0.0, 1.0])
async def test_what_is_no_traceparent_goes_nowhere(sample: float) -> None:
    """Neither on to the cloud nor into the log; where the request is traced, its trace begins here."""
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section(sample=sample)) as r:
        for count, value in enumerate(NO_TRACEPARENT, 1):
            reply = await ask(r, with_headers(chat(), traceparent=value, tracestate="a=1"))
            assert reply.status == 200, value
            assert sent_up(r, "azure", "tracestate") is None, value
            if sample:
                assert parent_sent(r, "azure")[0] != TRACE, value
            else:
                assert sent_up(r, "azure") is None, value
                assert "trace_id" not in await recorded(r, count), value
    servers = [span for span in seen.spans if span.kind == "SERVER"]
    assert [span.parent_id for span in servers] == [""] * len(NO_TRACEPARENT) * int(sample)


async def test_a_later_version_is_read_as_far_as_ours_goes() -> None:
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section()) as r:
        await ask(r, with_headers(chat(), traceparent=f"cc-{TRACE}-{SPAN}-03-what-comes-later"))
        server, client = await seen.tree(2)
        assert (server.trace_id, server.parent_id) == (TRACE, SPAN)
        assert sent_up(r, "azure") == f"00-{TRACE}-{client.span_id}-03", "in our version, and still random"


async def test_a_signature_covers_the_head_that_is_sent() -> None:
    case = CASES["bedrock-sigv4"]
    async with collector() as seen:
        cloud = case.as_cloud()
        there = {"placement": {"rule": "spread", "clouds": [case.cloud]}}
        async with router(cloud, workloads={"api": there, "internal": there}, tracing=seen.section()) as r:
            model = next(iter(cloud.deployments.values()))
            assert (await ask(r, with_headers(chat(key=INTERNAL_KEY, model=model), traceparent=SAMPLED))).status == 200
            _, client = await seen.tree(2)
            assert parent_sent(r, cloud.id) == (TRACE, client.span_id)
            assert client.attributes["gen_ai.provider.name"] == "aws.bedrock"


# -- a collector that is not there


async def test_requests_do_not_notice_that_there_is_no_collector() -> None:
    async with collector() as seen:
        section = seen.section()
    async with router(Cloud("azure"), tracing=section) as r:  # its port is closed by now
        for _ in range(20):
            assert (await ask(r, chat())).status == 200
        began = time.monotonic()
    assert time.monotonic() - began < 4, "closing waits two seconds for the collector at most"


async def test_a_collector_that_refuses_costs_its_spans_and_is_told_of_once() -> None:
    async with collector() as seen, router(Cloud("azure"), tracing=seen.section()) as r:
        tracing = r.worker.assembly.runtime.tracing
        assert tracing is not None
        seen.status = 400
        for count in (1, 2):
            await ask(r, chat())
            await r.until(lambda count=count: tracing.dropped == 2 * count)
        seen.status = 200
        await ask(r, chat())
        await seen.tree(2)
        await r.until(lambda: any(event["event"] == "spans_restored" for event in r.events()))
        told = [event["event"] for event in r.events() if event["event"].startswith("spans_")]
        assert told == ["spans_lost", "spans_restored"]
        assert await r.metric("router_spans_dropped_total") == tracing.dropped == 4


async def test_a_collector_that_never_answers_holds_the_router_for_two_seconds() -> None:
    async with collector() as seen:
        seen.hold = asyncio.Event()
        async with router(Cloud("azure"), tracing=seen.section()) as r:
            await ask(r, chat())
            await r.until(lambda: bool(seen.headers))
            assert (await ask(r, chat())).status == 200
            began = time.monotonic()
        assert 1.5 < time.monotonic() - began < 4
        seen.hold.set()


async def test_what_ran_is_sent_before_the_router_ends() -> None:
    async with collector() as seen:
        paced = Settings(head_ms=Distribution(1.0))
        async with router(Cloud("azure", settings=paced), tracing=seen.section()) as r:
            for _ in range(5):
                await ask(r, chat())
        assert len(seen.spans) == 10
