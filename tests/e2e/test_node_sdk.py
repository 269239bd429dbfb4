"""The real SDK for Node, in a process of its own, through the router to emulated Azure."""

import asyncio
import base64
import os
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from tests.e2e.kit import ASK_HI, CHAT, RESPONSES, SAY_HI, SHAPES, azure
from tests.router_kit import API_KEY, RunningRouter, heal, router

FOLDER: Final = Path(__file__).parent / "node"
FAMILIES: Final = ("v1", "openai_v1", "azure")
LINE_BYTES_MAX: Final = 32 << 20


@pytest.fixture(autouse=True)
def _node_is_here() -> None:
    """Skips with the reason; in CI that is a failure."""
    missing = "there is no `node`" if shutil.which("node") is None else ""
    if not (FOLDER / "node_modules" / "openai").is_dir():
        missing = missing or "the SDK for Node is not installed: make node-deps"
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing}, and in CI these tests must run")
    if missing:
        pytest.skip(missing)


class NodeSdk:
    """A running `calls.mjs`."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process, self._url = process, url

    async def ask(self, method: str, body: dict[str, Any] | str | None = None, **more: Any) -> dict[str, Any]:
        """Returns what came of one call: `value`, `base64`, or `events`; `error` where it was raised."""
        told = {"url": self._url, "key": API_KEY, "family": "v1", "method": method, "body": body, **more}
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(orjson.dumps(told) + b"\n")
        await stdin.drain()
        async with asyncio.timeout(20):
            line = await stdout.readline()
        assert line, "the Node process has ended"
        result: dict[str, Any] = orjson.loads(line)
        return result

    async def call(self, method: str, body: dict[str, Any] | str | None = None, **more: Any) -> Any:
        """The value of a call that must succeed."""
        result = await self.ask(method, body, **more)
        assert "error" not in result, result["error"]
        return base64.b64decode(result["base64"]) if "base64" in result else result["value"]

    async def events(self, method: str, body: dict[str, Any], **more: Any) -> list[Any]:
        """The events of a stream that must end well."""
        result = await self.ask(method, {**body, "stream": True}, **more)
        assert "error" not in result, result["error"]
        return list(result["events"])

    async def error(self, method: str, body: dict[str, Any] | str | None = None, **more: Any) -> dict[str, Any]:
        """The error of a call that must fail with a status; `request_id` is the router's."""
        result = await self.ask(method, body, **more)
        error: dict[str, Any] = result["error"]
        assert error["request_id"].startswith("req_")
        assert error["request_id"] == error["headers"]["x-request-id"]
        return error


@asynccontextmanager
async def node(r: RunningRouter) -> AsyncIterator[NodeSdk]:
    process = await asyncio.create_subprocess_exec(
        "node",
        "calls.mjs",
        cwd=FOLDER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
    )
    try:
        yield NodeSdk(process, r.url)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
    assert process.returncode == 0


def file(content: bytes) -> dict[str, str]:
    return {"name": "sö und.wav", "base64": base64.b64encode(content).decode()}


def said(events: list[Any]) -> str:
    """What a chat stream said for its first choice."""
    choices = (choice for event in events for choice in event["choices"])
    return "".join((choice.get("delta") or {}).get("content") or "" for choice in choices)


@pytest.mark.parametrize("api_version", SHAPES)
async def test_text(api_version: str) -> None:
    async with router(azure(api_version)) as r, node(r) as sdk:
        for family in FAMILIES:
            whole = await sdk.call(CHAT, SAY_HI, family=family)
            assert whole["choices"][0]["message"]["content"].startswith("chat-dep ")

            events = await sdk.events(CHAT, SAY_HI, family=family)
            assert said(events) == whole["choices"][0]["message"]["content"]
            assert events[-1]["choices"][0]["finish_reason"] == "stop"
            assert not any(event.get("usage") for event in events)

            options = {"stream_options": {"include_usage": True}}
            events = await sdk.events(CHAT, {**SAY_HI, **options}, family=family)
            assert events[-1]["usage"] == whole["usage"]

            asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"}
            whole = await sdk.call("completions.create", asked, family=family)
            events = await sdk.events("completions.create", asked, family=family)
            texts = (choice["text"] for event in events for choice in event["choices"])
            assert "".join(texts) == whole["choices"][0]["text"]

        received = r.clouds["azure-east"].received
        assert received.last is not None
        names = {name for name, _ in received.last.headers}
        assert names == {"host", "accept-encoding", "content-type", "accept", "content-length", "api-key"}
        assert API_KEY not in str(received.last.headers)
        assert received.by_operation == {"chat": 9, "completions": 6}
        await r.until(lambda: len(r.records()) == 15)
        assert {record["outcome"] for record in r.records()} == {"ok"}


async def test_responses() -> None:
    async with router(azure()) as r, node(r) as sdk:
        for family in FAMILIES:
            whole = await sdk.call(RESPONSES, ASK_HI, family=family)
            events = await sdk.events(RESPONSES, ASK_HI, family=family)

            deltas = (event["delta"] for event in events if event["type"] == "response.output_text.delta")
            assert "".join(deltas) == whole["output_text"]
            assert whole["output_text"].startswith("chat-dep ")
            assert events[-1]["type"] == "response.completed"


async def test_embeddings_pictures_and_models() -> None:
    async with router(azure()) as r, node(r) as sdk:
        for family in FAMILIES:
            asked = {"model": "text-embedding-3-small", "input": ["one", "two"]}
            decoded = await sdk.call("embeddings.create", asked, family=family)
            numbers = await sdk.call("embeddings.create", {**asked, "encoding_format": "float"}, family=family)
            for one, other in zip(decoded["data"], numbers["data"], strict=True):
                assert one["embedding"] == pytest.approx(other["embedding"])

            asked = {"model": "gpt-image-1", "prompt": "a lake"}
            assert (await sdk.call("images.generate", asked, family=family))["data"][0]["revised_prompt"] == "image-dep"
            assert (await sdk.events("images.generate", asked, family=family))[-1]["type"].endswith(".completed")

            assert (await sdk.call("models.retrieve", "gpt-4o", family=family))["id"] == "gpt-4o"
            listed = await sdk.call("models.list", family=family)
            assert [model["id"] for model in listed["data"]] == sorted(SHAPES["v1"].values())


async def test_sound() -> None:
    sound = b'RIFF\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + random.Random(1).randbytes(1 << 20)
    spoken = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "good morning" * 40}
    async with router(azure()) as r, node(r) as sdk:
        for family in FAMILIES:
            asked = {"model": "gpt-4o-transcribe"}
            whole = await sdk.call("audio.transcriptions.create", asked, file=file(sound), family=family)
            last = r.clouds["azure-east"].received.last
            assert last is not None
            assert sound in last.body
            assert b'name="model"\r\n\r\nlisten-dep\r\n' in last.body
            assert whole["text"].startswith("listen-dep ")

            events = await sdk.events("audio.transcriptions.create", asked, file=file(sound), family=family)
            assert events[-1]["text"] == whole["text"]
            translated = await sdk.call(
                "audio.translations.create", {"model": "whisper-1"}, file=file(sound), family=family
            )
            assert translated["text"].startswith("whisper-dep ")

            heard = await sdk.call("audio.speech.create", spoken, family=family)
            assert heard == random.Random("0/voice-dep").randbytes(len(spoken["input"]) * 64)


async def test_the_clients_own_mistakes_have_their_classes() -> None:
    async with router(azure(), azure(endpoint="azure-west")) as r, node(r) as sdk:
        for family in FAMILIES:
            cases: list[tuple[dict[str, Any], str, str]] = [
                ({"key": "sk-ir-unknown"}, "AuthenticationError", "invalid_api_key"),
                ({"body": {**SAY_HI, "model": "gpt-9"}}, "NotFoundError", "model_not_found"),
                ({"body": {**SAY_HI, "model": "whisper-1"}}, "NotFoundError", "unsupported_operation"),
                ({"body": {**SAY_HI, "stream_options": [1]}}, "BadRequestError", "invalid_type"),
                ({"method": "moderations.create"}, "NotFoundError", "unsupported_operation"),
                ({"method": "files.list"}, "BadRequestError", "stateful_needs_ledger"),
                (
                    {"method": RESPONSES, "body": {**ASK_HI, "previous_response_id": "resp_1"}},
                    "BadRequestError",
                    "stateful_needs_home",
                ),
            ]
            for change, name, code in cases:
                error = await sdk.error(**{"method": CHAT, "body": SAY_HI, "family": family, **change})
                assert (error["class"], error["code"]) == (name, code)
        assert not any(cloud.received.requests for cloud in r.clouds.values())


@pytest.mark.parametrize(
    ("upstream", "body", "name", "status"),
    [
        (400, "content_filter", "BadRequestError", 400),
        (409, "vllm_nested", "ConflictError", 409),
        (422, "unsupported_parameter", "UnprocessableEntityError", 422),
        (429, "quota", "RateLimitError", 429),
        (401, "unauthorized", "InternalServerError", 502),
        (403, "forbidden", "InternalServerError", 502),
        (500, "html", "InternalServerError", 500),
        (503, "overloaded", "InternalServerError", 503),
    ],
)
async def test_errors_of_the_cloud_have_their_classes(upstream: int, body: str, name: str, status: int) -> None:
    async with router(azure()) as r, node(r) as sdk:
        r.clouds["azure-east"].faults.add("status", status=upstream, body=body)
        error = await sdk.error(CHAT, SAY_HI)

        assert (error["class"], error["status"]) == (name, status)
        if status == 429:
            assert 0 < int(error["headers"]["retry-after-ms"]) <= 60_000


async def test_the_sdk_waits_as_it_is_told_and_succeeds() -> None:
    async with router(azure()) as r, node(r) as sdk:
        r.clouds["azure-east"].faults.add("status", status=429, retry_after_ms=300, times=1)
        await sdk.call(CHAT, SAY_HI, options={"maxRetries": 1})

        assert r.clouds["azure-east"].received.requests == 2


BREAKS: Final = {
    "early_close": "stream_broken",
    "reset_at": "stream_broken",
    "stall_mid_stream": "stream_broken",
    "malformed_chunk": "stream_broken",
    "no_finish": "stream_broken",
    "error_event": "rate_limit_exceeded",
}


async def test_a_broken_stream_is_raised_and_never_ends_as_a_success() -> None:
    async with router(azure(tokens=8, gap_ms=4), timeouts={"idle_s": 0.5}) as r, node(r) as sdk:
        for method, body in ((CHAT, SAY_HI), (RESPONSES, ASK_HI)):
            for kind, code in BREAKS.items():
                place = {"at_byte": 6000} if kind == "reset_at" else {"after_events": 6}
                r.clouds["azure-east"].faults.clear()
                r.clouds["azure-east"].faults.add(kind, **place)
                for backend in r.worker.assembly.fleet.backends.values():
                    heal(backend)  # so many in a row would open its breaker
                result = await sdk.ask(method, {**body, "stream": True})

                assert result["events"], kind
                assert (result["error"]["class"], result["error"]["code"]) == ("APIError", code), kind


async def test_a_body_that_is_cut_is_no_answer() -> None:
    async with router(azure()) as r, node(r) as sdk:
        r.clouds["azure-east"].faults.add("bad_content_length", delta=100)
        result = await sdk.ask(CHAT, SAY_HI)

        assert "value" not in result
        await r.until(r.records)
        assert r.records()[0]["outcome"] == "stream_broken"
