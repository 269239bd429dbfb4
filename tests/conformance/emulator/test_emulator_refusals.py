"""What the clouds refuse and how they say it, what they count, and what their control path tells."""

import asyncio
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.base.clock import ManualClock
from router.emulator import Deployment, EmulatedCloud, Endpoint, Settings
from router.emulator.dialects import PATHS
from router.emulator.received import Request
from router.emulator.service import Service
from tests.conformance.emulator.kit import CHAT, CHAT_PATH, RawClient, parse, request_bytes, validate

CLASSIC = "/openai/deployments/gpt-4o-ptu/chat/completions"


def code_of(body: Any) -> Any:
    return body["error"]["code"]


@pytest.mark.parametrize("headers", [{"api-key": "wrong"}, {"authorization": "Bearer wrong"}, {"authorization": ""}])
async def test_azure_refuses_a_wrong_credential(azure: EmulatedCloud, headers: dict[str, str]) -> None:
    body = json.dumps(CHAT).encode()
    data, _ = await RawClient(azure).raw(request_bytes("POST", CHAT_PATH, body, {**headers, "connection": "close"}))

    reply = parse(data)
    assert reply.status == 401
    assert code_of(reply.json()) == "401"
    assert "invalid subscription key" in reply.json()["error"]["message"]


async def test_azure_answers_a_bad_token_without_an_error_object(azure: EmulatedCloud) -> None:
    reply = await RawClient(azure, key="e30.e30.sig").post(CHAT_PATH, CHAT)

    assert reply.status == 401
    assert reply.json()["statusCode"] == 401
    assert "error" not in reply.json()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (CLASSIC, 404, "404"),  # no api-version
        (f"{CLASSIC}?api-version=v1", 404, "404"),
        (f"{CLASSIC}?api-version=2021-01-01", 404, "404"),
        (f"{CLASSIC}?api-version=2024-10-21", 200, None),
        (f"{CHAT_PATH}?api-version=preview", 200, None),
        (f"{CHAT_PATH}?api-version=2024-10-21", 400, "BadRequest"),
        ("/openai/deployments/gone/chat/completions?api-version=2024-10-21", 404, "DeploymentNotFound"),
        ("/openai/deployments/gpt%2D4o-ptu/chat/completions?api-version=2024-10-21", 200, None),
        ("/openai/deployments/gpt-4o-ptu/responses?api-version=2025-04-01-preview", 404, "404"),
        ("/openai/responses?api-version=2024-10-21", 404, "404"),  # since 2025-03-01-preview
        ("/openai/deployments/gpt-4o-ptu/audio/speech?api-version=2024-10-21", 404, "404"),  # previews only
        ("/openai/v1/moderations", 404, "404"),
        ("/v1/chat/completions", 404, "404"),
    ],
)
async def test_azures_paths_and_versions(azure: EmulatedCloud, path: str, status: int, code: str | None) -> None:
    reply = await RawClient(azure).post(path, CHAT)

    assert reply.status == status
    if code is not None:
        assert code_of(reply.json()) == code
        validate("azure-2024-10-21", "errorResponse", reply.json())


async def test_v1_names_the_deployment_in_the_body(azure: EmulatedCloud) -> None:
    client = RawClient(azure)

    assert code_of((await client.post(CHAT_PATH, {**CHAT, "model": "gpt-4o"})).json()) == "DeploymentNotFound"
    assert (await client.post(CHAT_PATH, {"messages": []})).status == 400
    assert (await client.send("POST", CHAT_PATH, body=b"[1]")).status == 400
    assert (await client.send("POST", CHAT_PATH, body=b"{")).status == 400


async def test_a_deployment_has_its_operations_only(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    chat_only = {**CHAT, "model": "chat-only", "input": "a"}

    assert (await client.post(CHAT_PATH, chat_only)).status == 200
    embeddings = await client.post("/openai/v1/embeddings", chat_only)
    assert (embeddings.status, code_of(embeddings.json())) == (400, "OperationNotSupported")
    responses = await client.post("/openai/v1/responses", chat_only)
    assert (responses.status, responses.json()["error"]["message"]) == (400, "Model not supported")


async def test_old_versions_do_not_know_stream_options(azure: EmulatedCloud) -> None:
    fields = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}

    assert (await RawClient(azure).post(f"{CLASSIC}?api-version=2024-06-01", fields)).status == 400
    assert (await RawClient(azure).post(f"{CLASSIC}?api-version=2024-10-21", fields)).status == 200


@pytest.mark.parametrize(("count", "status"), [(10, 200), (11, 431)])
async def test_azure_takes_ten_custom_headers(azure: EmulatedCloud, count: int, status: int) -> None:
    headers = {f"x-custom-{n}": "a" for n in range(count)}

    reply = await RawClient(azure).send("POST", CHAT_PATH, CHAT, headers=headers)

    assert reply.status == status


async def test_openais_refusals(other: EmulatedCloud) -> None:
    right, wrong = RawClient(other), RawClient(other, key="wrong")

    refused = await wrong.post("/v1/chat/completions", CHAT)
    assert (refused.status, code_of(refused.json())) == (401, "invalid_api_key")
    missing = await right.post("/v1/chat/completions", {**CHAT, "model": "gone"})
    assert (missing.status, code_of(missing.json())) == (404, "model_not_found")
    for reply in (refused, missing, await right.post("/openai/v1/chat/completions", CHAT)):
        validate("openai-chat", "ErrorResponse", reply.json())


async def test_quota_refuses_in_the_words_of_the_shape() -> None:
    """Two deployments of one pool share its minute; v1 has the newer text."""
    pool = (
        Deployment("one", "gpt-4o", tpm=100, quota_pool="shared"),
        Deployment("two", "gpt-4o", tpm=100, quota_pool="shared"),
    )
    clock = ManualClock(monotonic_s=600.0)
    endpoint = Endpoint("azure_openai", pool, region="westus", settings=Settings(quota=True))
    async with EmulatedCloud(endpoint, clock) as cloud:
        client = RawClient(cloud)
        clock.advance(17.5)
        passed = await client.post(CHAT_PATH, {**CHAT, "model": "one", "max_tokens": 80})
        refused = await client.post(CHAT_PATH, {**CHAT, "model": "two", "max_tokens": 80})
        classic = "/openai/deployments/two/chat/completions?api-version=2024-05-01-preview"
        older = await client.post(classic, {**CHAT, "max_tokens": 80})
        clock.advance(42.5)
        again = await client.post(CHAT_PATH, {**CHAT, "model": "two", "max_tokens": 80})

    assert passed.headers["x-ratelimit-limit-tokens"] == "100"
    assert passed.headers["x-ratelimit-remaining-tokens"] == str(100 - 80 - 5)
    assert passed.headers["x-ratelimit-reset-tokens"] == "43"
    assert passed.headers["x-ratelimit-limit-requests"] == "-1"
    assert passed.headers["x-ms-region"] == "westus"
    assert passed.headers["apim-request-id"]
    assert (refused.status, code_of(refused.json())) == (429, "429")
    assert refused.headers["retry-after"] == "43"
    assert refused.headers["retry-after-ms"] == "42500"
    assert refused.headers["policy-id"] == "DeploymentRatelimit-Token"
    assert refused.json()["error"]["message"].startswith("Your requests to two for gpt-4o in westus have exceeded")
    assert "ChatCompletions_Create Operation under Azure OpenAI API version 2024-05-01-preview" in str(older.json())
    assert again.status == 200


async def test_without_the_switch_a_quota_is_only_told() -> None:
    async with EmulatedCloud(Endpoint("azure_openai", (Deployment("gpt-4o-ptu", tpm=1),))) as cloud:
        reply = await RawClient(cloud).post(CHAT_PATH, CHAT)

    assert reply.status == 200
    assert reply.headers["x-ratelimit-remaining-tokens"] == "1"


@pytest.mark.parametrize(
    "head",
    [
        b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_and_counted(azure: EmulatedCloud, head: bytes) -> None:
    data, end = await RawClient(azure).raw(head)

    assert end == "eof"
    assert data.split(b" ")[1][:1] in (b"4", b"5")
    assert (azure.received.malformed, azure.received.requests) == (1, 0)


async def test_received_tells_the_last_request(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    body = json.dumps({**CHAT, "unknown_field": {"kept": True}, "pad": "x" * 70_000}).encode()
    await client.send("POST", f"{CLASSIC}?api-version=2024-10-21", body=body, headers={"X-Mixed": "Case"})
    await client.post("/openai/v1/embeddings", {"model": "gpt-4o-ptu", "input": "a"})
    await client.send("POST", f"{CLASSIC}?api-version=2024-10-21", body=body, headers={"X-Mixed": "Case"})

    seen = (await client.send("GET", "/__emulator/received")).json()
    assert seen == (await client.send("GET", "/__emulator/received")).json(), "looking changes nothing"
    assert (seen["requests"], seen["connections"]) == (3, 3)
    assert (seen["aborted"], seen["last_aborted_at_monotonic"]) == (0, None)
    assert seen["bytes"] > 2 * len(body)
    assert seen["by_operation"] == {"chat": 2, "embeddings": 1}
    assert seen["by_deployment"] == {"gpt-4o-ptu": 3}
    last = seen["last"]
    assert (last["method"], last["target"]) == ("POST", f"{CLASSIC}?api-version=2024-10-21")
    assert ["x-mixed", "Case"] in last["headers"]
    assert '"unknown_field": {"kept": true}' in last["body"]
    assert len(last["body"]) == 64 << 10
    assert (last["body_bytes"], last["body_sha256"]) == (len(body), hashlib.sha256(body).hexdigest())

    await client.send("DELETE", "/__emulator/received")
    after = (await client.send("GET", "/__emulator/received")).json()
    assert (after["requests"], after["bytes"], after["last"]) == (0, 0, None)


async def test_a_client_that_leaves_early_is_counted(azure: EmulatedCloud) -> None:
    azure.faults.add("stall_mid_stream", after_events=2)
    reader, writer = await asyncio.open_connection("127.0.0.1", azure.port)
    writer.write(RawClient(azure).chat(stream=True))
    await reader.readuntil(b"delta")
    assert (azure.received.connections_open, azure.received.aborted) == (1, 0)

    left_at = asyncio.get_running_loop().time()
    writer.close()
    async with asyncio.timeout(2):
        while azure.received.connections_open:
            await asyncio.sleep(0.001)

    assert azure.received.aborted == 1
    assert azure.received.last_aborted_at is not None
    assert 0 <= azure.received.last_aborted_at - left_at < 0.1


async def test_a_connection_is_kept_and_pipelined_requests_wait_their_turn(azure: EmulatedCloud) -> None:
    client = RawClient(azure)

    data, end = await client.raw(client.chat(keep=True, stream=True) + client.chat(keep=True) + client.chat())

    assert end == "eof"
    assert data.count(b"HTTP/1.1 200") == 3
    assert data.index(b"[DONE]") < data.index(b'"chat.completion"')
    assert (azure.received.requests, azure.received.connections, azure.received.aborted) == (3, 1, 0)


async def test_an_idle_connection_is_closed() -> None:
    endpoint = Endpoint("openai", (Deployment("gpt-4o-ptu"),), path="/v1", settings=Settings(idle_timeout_s=0.05))
    async with EmulatedCloud(endpoint) as cloud:
        data, end = await RawClient(cloud).raw(request_bytes("GET", "/v1/models", b"", {}), patience_s=2.0)

    assert (end, data[:12]) == ("eof", b"HTTP/1.1 200")


async def test_expect_continue_is_answered(azure: EmulatedCloud) -> None:
    body = json.dumps(CHAT).encode()
    head = request_bytes("POST", CHAT_PATH, b"", {"api-key": "secret", "expect": "100-continue", "connection": "close"})
    reader, writer = await asyncio.open_connection("127.0.0.1", azure.port)
    writer.write(head.replace(b"content-length: 0", b"content-length: %d" % len(body)))

    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = (
    *("messages", "prompt", "input", "instructions", "tools", "tool_choice", "n", "best_of", "metadata"),
    *("max_tokens", "max_output_tokens", "dimensions", "stream_options", "encoding_format", "image"),
    *("partial_images", "response_format", "stream_format"),
)


@given(
    operation=st.sampled_from(sorted(PATHS)),
    fields=st.dictionaries(st.sampled_from(_FIELDS), _JSON),
    stream=st.booleans(),
)
def test_no_body_breaks_a_cloud(operation: str, fields: dict[str, Any], stream: bool) -> None:
    """Any JSON gets an answer or a refusal, never an exception, and a stream goes on to its end."""
    service = Service(Endpoint("openai", (Deployment("m"),), path="/v1"), ManualClock())
    body = json.dumps({**fields, "model": "m", "stream": stream}).encode()

    answer = service.handle(Request("POST", f"/v1{operation}", [], bytearray(body))).answer

    assert answer.status in (200, 400)
    if answer.events is not None:
        assert sum(1 for _ in answer.events) > 0


async def test_faults_at_run_time(azure: EmulatedCloud) -> None:
    client = RawClient(azure)
    added = await client.post("/__emulator/faults", [{"kind": "status", "status": 503, "times": 1}])
    assert [(fault["kind"], fault["fired"]) for fault in added.json()] == [("status", 0)]

    assert [(await client.post(CHAT_PATH, CHAT)).status for _ in range(2)] == [503, 200]
    listed = (await client.send("GET", "/__emulator/faults")).json()
    assert (listed[0]["fired"], listed[0]["active"]) == (1, False)
    await client.send("DELETE", "/__emulator/faults")
    assert (await client.send("GET", "/__emulator/faults")).json() == []
    assert (await client.send("GET", "/__emulator/health")).json() == {"status": "ok"}

    for wrong in ([{"kind": "none"}], [{"kind": "status", "statu": 1}], [{}], 3, [{"kind": "status", "share": 2}]):
        refused = await client.post("/__emulator/faults", wrong)
        assert refused.status == 400, wrong
    assert (await client.send("GET", "/__emulator/nothing")).status == 404
