"""What arrives, byte for byte: bodies and headers up, answers and headers down, and what the log keeps of them."""

import base64
import os
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson
import pytest
from openai import APIStatusError, AsyncAzureOpenAI, AsyncOpenAI, BadRequestError

from router.base.clock import ManualClock
from router.emulator import EmulatedCloud
from tests.e2e.kit import ASK_HI, CHAT, RESPONSES, SAY_HI, azure, every_sdk, openai_sdk, sdk, text_of
from tests.router_kit import API_KEY, CANARY, INTERNAL_KEY, Cloud, RunningRouter, router

MIB = 1 << 20


class Recorder:
    """An SDK's HTTP client, and what it sent last."""

    def __init__(self) -> None:
        self.sent = b""
        self.http = httpx2.AsyncClient(timeout=60, event_hooks={"request": [self._note]})

    async def _note(self, request: httpx2.Request) -> None:
        self.sent = await request.aread()

    def openai(self, r: RunningRouter) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{r.url}/v1", api_key=API_KEY, max_retries=0, http_client=self.http)


def changed(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """The one stretch in which two texts differ, of both: what stands before and behind it is the same."""
    start = same_at_start(before, after)
    before, after = before[start:], after[start:]
    same = same_at_start(before[::-1], after[::-1])
    return before[: len(before) - same], after[: len(after) - same]


def same_at_start(one: bytes, other: bytes) -> int:
    """How many bytes are the same. By halving, since bodies are large."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def received(r: RunningRouter, cloud: str = "azure-east") -> bytes:
    last = r.clouds[cloud].received.last
    assert last is not None
    return bytes(last.body)


async def post(r: RunningRouter, path: str, content: bytes, **headers: str) -> httpx2.Response:
    """A request that no SDK would write."""
    named = {"authorization": f"Bearer {API_KEY}", "content-type": "application/json", **headers}
    async with httpx2.AsyncClient(timeout=60) as http:
        return await http.post(r.url + path, content=content, headers=named)


# -- bodies up

NEW_FIELDS = {
    "a_field_of_next_year": {
        "deep": [
            1,
            2.5,
            None,
            True,
            {"ü": "\u2028\u2029 \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")},
        ]
    },
    "model_options": {"model": "gpt-4o"},
    "reasoning_effort": "some-new-word",
    "data_sources": [{"type": "azure_search", "parameters": {"index_name": "a", "key": "b"}}],
}
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "default": {"model": "gpt-4o", "stream": True}}},
}
SPOKEN = '{"model":"gpt-4o","stream":true} {"model": "gpt-4o"} \\"model\\":\\"gpt-4o\\"'


@pytest.mark.parametrize("api_version", ["v1", "2024-10-21"])
async def test_a_body_arrives_as_it_was_sent_but_for_the_model(api_version: str) -> None:
    recorder = Recorder()
    messages = [{"role": "user", "content": SPOKEN}, {"role": "user", "content": [{"type": "text", "text": SPOKEN}]}]
    asked: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"model": "gpt-4o", "messages": messages, "tools": [TOOL], "extra_body": NEW_FIELDS}),
        (CHAT, {"model": "gpt-4o", "messages": messages, "stream": True, "stream_options": {"include_usage": True}}),
        ("embeddings.create", {"model": "text-embedding-3-small", "input": [SPOKEN], "extra_body": NEW_FIELDS}),
        ("images.generate", {"model": "dall-e-3", "prompt": SPOKEN, "extra_body": NEW_FIELDS}),
    ]
    if api_version == "v1":
        tool = {"type": "function", "name": "f", "parameters": {"default": {"model": "gpt-4o"}}}
        asked += [
            (RESPONSES, {"model": "gpt-4o", "input": SPOKEN, "tools": [tool], "extra_body": NEW_FIELDS}),
            (RESPONSES, {"model": "gpt-4o", "input": SPOKEN, "stream": True}),
        ]
    async with router(azure(api_version)) as r, sdk(recorder.openai(r)) as client:
        for method, body in asked:
            if body.get("stream"):
                await client.events(method, **{name: value for name, value in body.items() if name != "stream"})
            else:
                await client.call(method, **body)

            got = received(r)
            name = orjson.loads(got)["model"]
            assert changed(recorder.sent, got) == (body["model"].encode(), name.encode())
            assert orjson.loads(got) == {**orjson.loads(recorder.sent), "model": name}
            assert name.endswith("-dep")


async def test_usage_is_asked_for_with_nothing_else_touched() -> None:
    recorder = Recorder()
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": SPOKEN + '"stream_options":{}'}]}
    async with router(azure()) as r, sdk(recorder.openai(r)) as client:
        await client.events(CHAT, **body, tools=[TOOL], extra_body=NEW_FIELDS)

        got = received(r)
        assert got.startswith(b'{"stream_options":{"include_usage":true},')
        assert changed(recorder.sent, got.replace(b'"stream_options":{"include_usage":true},', b"", 1)) == (
            b"gpt-4o",
            b"chat-dep",
        )


@pytest.mark.parametrize(
    ("body", "before", "after"),
    [
        (
            b'\t{ "model"\n:\r "gpt\\u002d4o" ,"messages":[{"role":"user","content":"a"}]} \n',
            b"gpt\\u002d4o",
            b"chat-dep",
        ),
        (
            b'{"messages":[{"role":"user","content":"\\"model\\":\\"x\\""}],"n_big":123456789012345678901234567890,'
            b'"f":1.50e+2,"s":"\\ud83d\\ude00\\/","model":"gpt-4o"}',
            b"gpt-4o",
            b"chat-dep",
        ),
        (
            b'{"a":{"model":"gpt-4o"},"mod\\u0065l":"gpt-4o","messages":[{"role":"user","content":"a"}]}',
            b"gpt-4o",
            b"chat-dep",
        ),
    ],
)
async def test_odd_but_valid_json_keeps_its_bytes(body: bytes, before: bytes, after: bytes) -> None:
    async with router(azure()) as r:
        answer = await post(r, "/v1/chat/completions", body)

        assert answer.status_code == 200
        assert changed(body, received(r)) == (before, after)


async def test_a_body_without_a_model_is_completed_where_the_path_names_it() -> None:
    body = b'{"messages":[{"role":"user","content":"a"}]}'
    path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-02-01"
    async with router(azure(), azure("2024-10-21", "azure-west")) as r:
        for _ in range(8):
            answer = await post(r, path, body)
            assert answer.status_code == 200

        assert received(r) == b'{"model":"chat-dep",' + body[1:]
        assert received(r, "azure-west") == body, "the classic shape has the name in the path alone"


@pytest.mark.parametrize("api_version", ["v1", "2024-10-21"])
async def test_a_form_arrives_as_it_was_sent_but_for_the_model(api_version: str) -> None:
    recorder = Recorder()
    sound = b'\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o-transcribe\r\n--x--' + os.urandom(
        MIB
    )
    file = ("sö und.wav", sound, "audio/wav")
    async with router(azure(api_version)) as r, sdk(recorder.openai(r)) as client:
        for more in ({}, {"stream": True}):
            await client.call(
                "audio.transcriptions.create",
                model="gpt-4o-transcribe",
                file=file,
                prompt="model: gpt-4o-transcribe",
                timestamp_granularities=["word", "segment"],
                extra_body={"a_field_of_next_year": "gpt-4o-transcribe"},
                **more,
            )

            assert changed(recorder.sent, received(r)) == (b"gpt-4o-transcribe", b"listen-dep")


async def test_a_form_without_a_model_is_completed_where_the_path_names_it() -> None:
    recorder = Recorder()
    async with router(azure()) as r:
        bound = AsyncAzureOpenAI(
            azure_endpoint=r.url, api_key=API_KEY, api_version="2024-10-21", max_retries=0, http_client=recorder.http
        )
        form = {"files": {"file": ("a.wav", b"RIFF")}, "params": {"api-version": "2024-10-21"}}
        headers = {"api-key": API_KEY}
        url = f"{r.url}/openai/deployments/gpt-4o-transcribe/audio/transcriptions"
        async with sdk(bound):
            answer = await recorder.http.post(url, headers=headers, **form)

        assert answer.json()["text"].startswith("listen-dep")
        boundary = recorder.sent.partition(b"\r\n")[0]
        part = b'\r\nContent-Disposition: form-data; name="model"\r\n\r\nlisten-dep\r\n'
        assert received(r) == boundary + part + recorder.sent


async def test_aliases_and_names_with_all_that_a_name_may_hold() -> None:
    name, model, alias = "team/dep@v1:beta+x.y_z-1", "org/llama-4@v1:beta+x.y_z-1", "org/latest:x+1"
    for api_version in ("v1", "2024-10-21"):
        cloud = Cloud("azure-east", deployments={name: model}, api_version=api_version)
        async with router(cloud, aliases={alias: model}) as r, every_sdk(r) as clients:
            for client in clients:
                for asked in (model, alias):
                    completion = await client.call(CHAT, **{**SAY_HI, "model": asked})
                    assert completion.choices[0].message.content.startswith(name)
                    assert text_of(await client.events(CHAT, **{**SAY_HI, "model": asked})).startswith(name)
                    assert (await client.call("models.retrieve", model=asked)).id == asked
            await r.until(lambda: len(r.records()) == 6 * len(clients))
            assert {record["model"] for record in r.records() if record.get("operation") == "chat"} == {model}


async def test_large_bodies_arrive_whole() -> None:
    recorder = Recorder()
    picture = "data:image/png;base64," + base64.b64encode(os.urandom(10 * MIB)).decode()
    content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": picture}}]
    async with router(azure()) as r, sdk(recorder.openai(r)) as client:
        await client.call(CHAT, model="gpt-4o", messages=[{"role": "user", "content": content}])

        assert changed(recorder.sent, received(r)) == (b"gpt-4o", b"chat-dep")
        await client.call(
            "audio.transcriptions.create", model="gpt-4o-transcribe", file=("a.wav", os.urandom(20 * MIB))
        )
        assert changed(recorder.sent, received(r)) == (b"gpt-4o-transcribe", b"listen-dep")


async def test_a_body_over_the_bound_is_refused_and_the_process_goes_on() -> None:
    async with router(azure()) as r, every_sdk(r) as clients:
        for client in (clients[0], clients[-1]):
            with pytest.raises(APIStatusError) as caught:
                await client.call(CHAT, model="gpt-4o", messages=[{"role": "user", "content": "x" * (64 * MIB)}])

            assert caught.value.status_code == 413
            assert caught.value.request_id
            await client.call(CHAT, **SAY_HI)
        assert r.clouds["azure-east"].received.requests == 2


# -- headers up

UNWANTED = {
    "Cookie": "session=client-cookie",
    "X-Forwarded-For": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
    "X-Request-Id": "client-77",
    "X-Ms-Spillover-Deployment": "other",
    "OpenAI-Organization": "org-client",
    "OpenAI-Project": "proj-client",
    "X-Anything": "client-header",
    "Referer": "http://client.example/",
}
WANTED = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
    "openai-beta": "assistants=v2",
}


async def test_only_the_headers_of_the_list_go_up_and_the_credential_comes_last() -> None:
    cloud = azure(extra={"headers": {"x-team": "routing"}})
    async with router(cloud) as r, every_sdk(r) as clients:
        emulator = r.clouds["azure-east"]
        for client in clients:
            for extra in ({}, {"stream": True}):
                await client.call(CHAT, **SAY_HI, **extra, extra_headers={**UNWANTED, **WANTED})
                last = emulator.received.last
                assert last is not None
                assert last.headers == [
                    ("host", emulator.base_url.removeprefix("http://")),
                    ("accept-encoding", "identity"),
                    ("x-team", "routing"),
                    ("content-type", "application/json"),
                    ("accept", "application/json"),
                    *WANTED.items(),
                    ("content-length", str(len(last.body))),
                    ("api-key", CANARY),
                ]
            await client.call(CHAT, **SAY_HI)
            assert not emulator.received.last.header("traceparent"), "nothing stays of an earlier request"


async def test_a_bearer_credential_is_the_routers_own() -> None:
    cloud = Cloud("cw", "coreweave", "openai", {"llama": "llama-4"})
    async with router(cloud, azure()) as r, every_sdk(r, INTERNAL_KEY) as clients:
        for client in clients:
            await client.call(CHAT, **{**SAY_HI, "model": "llama-4"}, extra_headers=UNWANTED)

            headers = r.clouds["cw"].received.last.headers
            assert headers[-1] == ("authorization", f"Bearer {CANARY}")
            names = [name for name, _ in headers]
            assert names == ["host", "accept-encoding", "content-type", "accept", "content-length", "authorization"]
            assert INTERNAL_KEY not in str(headers)


# -- answers and headers down


@dataclass
class Standing(Cloud):
    """A cloud whose clock stands, so that two of the same seed say exactly the same."""

    def emulated(self) -> EmulatedCloud:
        return EmulatedCloud(super().emulated().endpoint, ManualClock())


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_comes_down_byte_for_byte(stream: bool) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    body = orjson.dumps({**SAY_HI, "n": 2, **options})
    async with router(Standing("azure-east", deployments={"chat-dep": "gpt-4o"})) as r:
        answer = await post(r, "/v1/chat/completions", body)
        async with (
            Standing("azure-east", deployments={"chat-dep": "gpt-4o"}).emulated() as twin,
            httpx2.AsyncClient() as http,
        ):
            direct = await http.post(
                f"{twin.base_url}/openai/v1/chat/completions", content=received(r), headers={"api-key": CANARY}
            )

    assert answer.content == direct.content
    assert answer.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize("stream", [False, True])
async def test_only_the_headers_of_the_list_come_down(stream: bool) -> None:
    async with router(azure()) as r:
        for key, revealed in ((API_KEY, False), (INTERNAL_KEY, True)):
            async with openai_sdk(r, key) as client:
                raw = await client.call("chat.completions.with_raw_response.create", **SAY_HI, stream=stream)
                if stream:
                    async for _ in raw.parse():
                        pass
            headers = dict(raw.headers)
            framing = {"transfer-encoding"} if stream else {"content-length"}
            limits = {
                f"x-upstream-ratelimit-{what}-{of}"
                for what in ("limit", "remaining", "reset")
                for of in ("requests", "tokens")
            }
            more = {"apim-request-id", "x-ms-region", "x-router-served-by", *limits} if revealed else set()
            assert headers.keys() == {"content-type", "x-request-id", *framing, *more}
            assert headers["x-request-id"].startswith("req_")
            if revealed:
                assert headers["x-router-served-by"] == "azure/azure-east/chat-dep"
                assert headers["x-ms-region"]


# -- the log


async def test_a_record_tells_who_asked_for_what_and_who_served() -> None:
    async with router(azure(), azure(endpoint="azure-west", tier=1)) as r, openai_sdk(r) as client:
        r.clouds["azure-east"].faults.add("status", status=500, times=1)
        raw = await client.call(
            "chat.completions.with_raw_response.create", **SAY_HI, extra_headers={"X-Request-Id": "client-77"}
        )
        usage = raw.parse().usage
        await r.until(r.records)
        (record,) = r.records()

    assert record["id"] == raw.headers["x-request-id"]
    assert (record["client_request_id"], record["key"], record["workload"]) == ("client-77", "api", "api")
    assert (record["model"], record["operation"], record["plan"]) == ("gpt-4o", "chat", "exclusive:azure")
    assert (record["outcome"], record["status"]) == ("ok", 200)
    assert (record["served_by"], record["cloud"]) == ("azure-west/chat-dep", "azure")
    attempts = [(each["deployment"], each["outcome"], each["status"]) for each in record["attempts"]]
    assert attempts == [("azure-east/chat-dep", "server_error", 500), ("azure-west/chat-dep", "served", 200)]
    assert record["usage"] == {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}


async def test_every_operation_reports_its_usage() -> None:
    async with router(azure()) as r, openai_sdk(r) as client:
        calls: list[tuple[str, str, dict[str, Any]]] = [
            ("chat", CHAT, SAY_HI),
            ("completions", "completions.create", {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"}),
            ("embeddings", "embeddings.create", {"model": "text-embedding-3-small", "input": "hi"}),
            ("responses", RESPONSES, ASK_HI),
            ("images_generations", "images.generate", {"model": "gpt-image-1", "prompt": "hi"}),
        ]
        for _, method, body in calls:
            await client.call(method, **body)
            if method != "embeddings.create":
                await client.events(method, **body)
        await r.until(lambda: len(r.records()) == 2 * len(calls) - 1)
        for record in r.records():
            assert record["usage"]["prompt_tokens"] > 0
        assert [name for name, _, _ in calls] == list(dict.fromkeys(record["operation"] for record in r.records()))


async def test_no_prompt_no_answer_and_no_secret_is_written_down() -> None:
    canary = "prompt-canary-4711"
    said: list[str] = []
    async with router(azure(), azure(endpoint="azure-west")) as r, openai_sdk(r) as client:
        messages = [{"role": "user", "content": canary}]
        secret = {"X-Canary": canary, "Cookie": canary}
        for model in ("gpt-4o", canary):
            for more in ({}, {"extra_body": {canary: canary}}, {"extra_body": {"stream": canary}}):
                try:
                    answer = await client.call(CHAT, model=model, messages=messages, extra_headers=secret, **more)
                    said.append(answer.choices[0].message.content.partition(" ")[2])
                except APIStatusError:
                    assert model == canary or "stream" in more.get("extra_body", {})
        said.append((await client.call(RESPONSES, model="gpt-4o", input=canary)).output_text.partition(" ")[2])
        for status, body in ((400, "content_filter"), (500, "server_error"), (401, "unauthorized"), (429, "quota")):
            for cloud in r.clouds.values():
                cloud.faults.clear()
                cloud.faults.add("status", status=status, body=body)
            with pytest.raises(APIStatusError):
                await client.call(CHAT, model="gpt-4o", messages=messages)
        async with openai_sdk(r, "sk-ir-wrong-canary") as stranger:
            with pytest.raises(APIStatusError):
                await stranger.call(CHAT, model=canary, messages=messages)
        with pytest.raises(BadRequestError):
            await client.call(RESPONSES, model="gpt-4o", input=canary, previous_response_id=canary)
        await r.until(lambda: len(r.records()) == 13)
        async with httpx2.AsyncClient() as http:
            pages = [(await http.get(r.admin_url + path)).text for path in ("/metrics", "/status")]
        shown = "\n".join([r.log.read_text(), *pages])

    assert len(said) == 3
    for word in (canary, CANARY, API_KEY, INTERNAL_KEY, "sk-ir-wrong-canary", *said):
        assert word
        assert word not in shown
