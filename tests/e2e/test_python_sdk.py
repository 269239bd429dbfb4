"""Every surface, called by the real Python SDKs over every path family, served by every shape of Azure's API."""

import base64
import random
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from openai import AsyncAzureOpenAI, NotFoundError

from router.config.keys import digest
from tests.e2e.kit import (
    ASK_HI,
    CHAT,
    RESPONSES,
    SAY_HI,
    SHAPES,
    azure,
    every_sdk,
    openai_sdk,
    sdk,
    text_of,
)
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, RunningRouter, router

PREVIEWS = ("v1", "2025-04-01-preview")
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
TOOL_CHOICE = {"type": "function", "function": {"name": "look_up"}}
SOUND = ("sound.wav", b"RIFF\r\n--not-the-boundary\r\n\x00\xff")


@pytest.fixture(params=SHAPES)
async def r(request: pytest.FixtureRequest) -> AsyncIterator[RunningRouter]:
    """A router in front of one Azure resource, in each shape of its API."""
    async with router(azure(request.param)) as running:
        yield running


def seen(r: RunningRouter) -> Any:
    """The request that reached Azure last."""
    last = r.clouds["azure-east"].received.last
    assert last is not None
    return last


def assert_sent_to(r: RunningRouter, deployment: str, path: str, *, preview: bool = False) -> None:
    """The request had the path that this api-version has for the operation, and the deployment's own name."""
    section = orjson.loads(r.file.read_bytes())["endpoints"]["azure-east"]
    version = section["api_version"]
    if version == "v1":
        assert seen(r).target == f"/openai/v1{path}" + ("?api-version=preview" if preview else "")
    elif path == "/responses":
        assert seen(r).target == f"/openai/responses?api-version={version}"
    else:
        assert seen(r).target == f"/openai/deployments/{deployment}{path}?api-version={version}"
    if seen(r).header("content-type") == "application/json":
        assert orjson.loads(seen(r).body)["model"] == deployment


async def test_chat(r: RunningRouter) -> None:
    async with every_sdk(r) as clients:
        for client in clients:
            completion = await client.call(CHAT, **SAY_HI)

            assert_sent_to(r, "chat-dep", "/chat/completions")
            assert completion.choices[0].message.content.startswith("chat-dep ")
            assert completion.choices[0].finish_reason == "stop"
            assert completion.usage.completion_tokens == 6


async def test_a_chat_stream_hides_the_usage_that_only_the_router_asked_for(r: RunningRouter) -> None:
    async with every_sdk(r) as clients:
        for client in clients:
            whole = await client.call(CHAT, **SAY_HI)
            chunks = await client.events(CHAT, **SAY_HI)

            assert_sent_to(r, "chat-dep", "/chat/completions")
            assert orjson.loads(seen(r).body)["stream_options"] == {"include_usage": True}
            assert text_of(chunks) == whole.choices[0].message.content
            assert chunks[-1].choices[0].finish_reason == "stop"
            assert not any(chunk.usage for chunk in chunks)
    await r.until(lambda: len(r.records()) == 2 * len(clients))
    assert all(record["usage"]["completion_tokens"] == 6 for record in r.records())


async def test_a_chat_stream_shows_the_usage_that_the_client_asked_for(r: RunningRouter) -> None:
    options = {"include_usage": True, "include_obfuscation": False}
    async with every_sdk(r) as clients:
        for client in clients:
            chunks = await client.events(CHAT, **SAY_HI, stream_options=options)

            assert orjson.loads(seen(r).body)["stream_options"] == options
            assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
            assert chunks[-1].choices == []
            assert chunks[-1].usage.completion_tokens == 6


async def test_stream_options_of_the_client_are_kept_when_usage_is_asked_for(r: RunningRouter) -> None:
    async with openai_sdk(r) as client:
        for own in ({"include_obfuscation": False}, {"include_usage": False}, {}, None):
            chunks = await client.events(CHAT, **SAY_HI, extra_body={"stream_options": own})

            assert orjson.loads(seen(r).body)["stream_options"] == {**(own or {}), "include_usage": True}
            assert not any(chunk.usage for chunk in chunks)


async def test_several_choices(r: RunningRouter) -> None:
    async with every_sdk(r) as clients:
        for client in clients:
            whole = await client.call(CHAT, **SAY_HI, n=3)
            chunks = await client.events(CHAT, **SAY_HI, n=3)

            assert [text_of(chunks, index) for index in range(3)] == [each.message.content for each in whole.choices]
            ended = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason]
            assert sorted(ended) == [0, 1, 2]


async def test_tool_calls(r: RunningRouter) -> None:
    asked = {**SAY_HI, "tools": TOOLS, "tool_choice": TOOL_CHOICE}
    async with every_sdk(r) as clients:
        for client in clients:
            whole = await client.call(CHAT, **asked)
            chunks = await client.events(CHAT, **asked)

            deltas = [each for chunk in chunks for choice in chunk.choices for each in choice.delta.tool_calls or ()]
            called = whole.choices[0].message.tool_calls[0].function
            assert called.name == deltas[0].function.name == "look_up"
            assert called.arguments == "".join(delta.function.arguments for delta in deltas)
            assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_completions(r: RunningRouter) -> None:
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": ["one", "two"]}
    async with every_sdk(r) as clients:
        for client in clients:
            whole = await client.call("completions.create", **asked)
            assert_sent_to(r, "text-dep", "/completions")
            chunks = await client.events("completions.create", **asked)

            for index, choice in enumerate(whole.choices):
                said = (each.text for chunk in chunks for each in chunk.choices if each.index == index)
                assert choice.text.startswith("text-dep ")
                assert "".join(said) == choice.text
            assert not any(chunk.usage for chunk in chunks)


async def test_embeddings_as_numbers_and_as_bytes(r: RunningRouter) -> None:
    asked = {"model": "text-embedding-3-small", "input": ["one", "zwei ü"]}
    async with every_sdk(r) as clients:
        for client in clients:
            decoded = await client.call("embeddings.create", **asked)  # the SDK asks for base64 and decodes it
            assert_sent_to(r, "embed-dep", "/embeddings")
            assert orjson.loads(seen(r).body)["encoding_format"] == "base64"
            numbers = await client.call("embeddings.create", **asked, encoding_format="float")
            raw = await client.call("embeddings.create", **asked, encoding_format="base64")

            assert [len(each.embedding) for each in numbers.data] == [16, 16]
            for one, other, text in zip(numbers.data, decoded.data, raw.data, strict=True):
                assert other.embedding == pytest.approx(one.embedding)
                assert len(base64.b64decode(text.embedding)) == 4 * 16


@pytest.mark.parametrize("r", PREVIEWS, indirect=True)
async def test_responses(r: RunningRouter) -> None:
    async with every_sdk(r) as clients:
        for client in clients:
            whole = await client.call(RESPONSES, **ASK_HI)
            events = await client.events(RESPONSES, **ASK_HI)

            assert_sent_to(r, "chat-dep", "/responses")
            assert "stream_options" not in orjson.loads(seen(r).body)
            assert whole.output_text.startswith("chat-dep ")
            assert [event.sequence_number for event in events] == list(range(len(events)))
            said = (event.delta for event in events if event.type == "response.output_text.delta")
            assert "".join(said) == whole.output_text
            assert events[-1].type == "response.completed"
            assert events[-1].response.usage.output_tokens == 6


@pytest.mark.parametrize("r", PREVIEWS, indirect=True)
async def test_a_response_that_ran_out_of_tokens_is_whole(r: RunningRouter) -> None:
    async with openai_sdk(r) as client:
        events = await client.events(RESPONSES, **ASK_HI, max_output_tokens=2)

    assert events[-1].type == "response.incomplete"
    await r.until(r.records)
    assert r.records()[0]["outcome"] == "ok"


@pytest.mark.parametrize("r", ["2024-10-21"], indirect=True)
async def test_an_api_version_without_an_operation_does_not_serve_it(r: RunningRouter) -> None:
    async with every_sdk(r) as clients:
        for client in clients:
            with pytest.raises(NotFoundError) as caught:
                await client.call(RESPONSES, **ASK_HI)

            assert caught.value.code == "unsupported_operation"
    assert r.clouds["azure-east"].received.requests == 0


async def test_image_generations(r: RunningRouter) -> None:
    async with every_sdk(r) as clients:
        for client in clients:
            images = await client.call("images.generate", model="dall-e-3", prompt="a lake", n=2)

            assert_sent_to(r, "picture-dep", "/images/generations", preview=True)
            assert [image.revised_prompt for image in images.data] == ["picture-dep"] * 2
            assert base64.b64decode(images.data[0].b64_json).startswith(b"\x89PNG")


@pytest.mark.parametrize("r", PREVIEWS, indirect=True)
async def test_image_streams_and_edits(r: RunningRouter) -> None:
    asked = {"model": "gpt-image-1", "prompt": "a lake", "partial_images": 2}
    pictures = [("a.png", b"\x89PNG\r\n\r\n--x"), ("b.png", bytes(range(256)))]
    async with every_sdk(r) as clients:
        for client in clients:
            events = await client.events("images.generate", **asked)
            kinds = [event.type.removeprefix("image_generation.") for event in events]
            assert kinds == ["partial_image", "partial_image", "completed"]

            edited = await client.call("images.edit", model="gpt-image-1", prompt="more ü", image=pictures)
            assert_sent_to(r, "image-dep", "/images/edits", preview=True)
            assert all(content in seen(r).body for _, content in pictures)
            assert edited.data[0].revised_prompt == "image-dep"

            events = await client.events("images.edit", **asked, image=pictures[0])
            assert events[-1].type == "image_edit.completed"


@pytest.mark.parametrize("r", PREVIEWS, indirect=True)
async def test_speech_as_bytes_and_as_events(r: RunningRouter) -> None:
    asked = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "good morning" * 40}
    sound = random.Random("0/voice-dep").randbytes(len(asked["input"]) * 64)
    async with every_sdk(r) as clients:
        for client in clients:
            answer = await client.call("audio.speech.create", **asked, response_format="wav")
            assert_sent_to(r, "voice-dep", "/audio/speech", preview=True)
            assert answer.content == sound
            assert answer.response.headers["content-type"] == "audio/wav"

            answer = await client.call("audio.speech.create", **asked, stream_format="sse")
            events = [orjson.loads(line[6:]) for line in answer.content.splitlines() if line.startswith(b"data: ")]
            assert b"".join(base64.b64decode(event.get("audio", "")) for event in events) == sound
            assert events[-1]["type"] == "speech.audio.done"


async def test_transcriptions(r: RunningRouter) -> None:
    asked = {"model": "gpt-4o-transcribe", "file": SOUND}
    async with every_sdk(r) as clients:
        for client in clients:
            whole = await client.call("audio.transcriptions.create", **asked)
            assert_sent_to(r, "listen-dep", "/audio/transcriptions", preview=True)
            assert SOUND[1] in seen(r).body
            assert whole.text.startswith("listen-dep ")

            events = await client.events("audio.transcriptions.create", **asked)
            assert "".join(event.delta for event in events[:-1]) == events[-1].text == whole.text
            assert events[-1].type == "transcript.text.done"

            subtitles = await client.call("audio.transcriptions.create", **asked, response_format="vtt")
            assert subtitles.startswith("WEBVTT\n\n")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # so the SDK calls the operation
async def test_translations(r: RunningRouter) -> None:
    asked = {"model": "whisper-1", "file": SOUND, "prompt": "model=gpt-4o"}
    async with every_sdk(r) as clients:
        for client in clients:
            whole = await client.call("audio.translations.create", **asked)
            assert_sent_to(r, "whisper-dep", "/audio/translations", preview=True)
            assert whole.text.startswith("whisper-dep ")
            long = await client.call("audio.translations.create", **asked, response_format="verbose_json")
            assert long.segments[0].text == whole.text


async def test_azure_has_no_moderations(r: RunningRouter) -> None:
    async with every_sdk(r) as clients:
        for client in clients:
            with pytest.raises(NotFoundError) as caught:
                await client.call("moderations.create", model="gpt-4o", input="hi")

            assert caught.value.code == "unsupported_operation"
    assert r.clouds["azure-east"].received.requests == 0


async def test_moderations_go_to_who_has_them() -> None:
    other = Cloud("cw", "coreweave", "openai", {"omni": "omni-moderation"}, operations={"omni": ["moderations"]})
    async with router(azure(), other) as r:
        async with every_sdk(r, INTERNAL_KEY) as clients:
            for client in clients:
                result = await client.call("moderations.create", model="omni-moderation", input=["a", "b"])

                assert [each.flagged for each in result.results] == [False, False]
                assert r.clouds["cw"].received.last.target == "/v1/moderations"
        async with openai_sdk(r) as outsider:
            with pytest.raises(NotFoundError) as caught:  # the workload is bound to Azure
                await outsider.call("moderations.create", model="omni-moderation", input="a")

    assert caught.value.code == "model_not_found"


async def test_models_are_those_of_the_key() -> None:
    few = {"name": "few", "workload": "api", "sha256": digest("sk-ir-few").hex(), "models": ["gpt-4o", "whisper-1"]}
    everything = {"name": "all", "workload": "api", "sha256": digest(API_KEY).hex(), "models": ["*"]}
    internal = {"name": "in", "workload": "internal", "sha256": digest(INTERNAL_KEY).hex(), "models": ["*"]}
    clouds = azure(), Cloud("cw", "coreweave", "openai", {"llama": "llama-4"})
    names = sorted(SHAPES["v1"].values())
    expected = {
        API_KEY: sorted([*names, "gpt-4o-latest"]),
        INTERNAL_KEY: sorted([*names, "gpt-4o-latest", "llama-4"]),
        "sk-ir-few": ["gpt-4o", "gpt-4o-latest", "whisper-1"],
    }
    async with router(*clouds, keys=[few, everything, internal], aliases={"gpt-4o-latest": "gpt-4o"}) as r:
        for key, models in expected.items():
            async with every_sdk(r, key) as clients:
                for client in clients:
                    page = await client.call("models.list")
                    assert [model.id for model in page.data] == models
                    one = await client.call("models.retrieve", model="gpt-4o-latest")
                    assert (one.id, one.object) == ("gpt-4o-latest", "model")
                    if "llama-4" not in models:
                        with pytest.raises(NotFoundError) as caught:
                            await client.call("models.retrieve", model="llama-4")
                        assert caught.value.code == "model_not_found"
        assert not any(cloud.received.requests for cloud in r.clouds.values())


async def test_an_azure_client_bound_to_one_deployment(r: RunningRouter) -> None:
    """The path's name decides, as at Azure, whatever the body says; other paths are where they always are."""
    bound = AsyncAzureOpenAI(
        azure_endpoint=r.url, azure_deployment="gpt-4o", api_key=API_KEY, api_version="2024-10-21", max_retries=0
    )
    async with sdk(bound) as client:
        completion = await client.call(CHAT, **{**SAY_HI, "model": "whatever"})
        page = await client.call("models.list")

    assert completion.choices[0].message.content.startswith("chat-dep ")
    assert orjson.loads(seen(r).body)["model"] == "chat-dep"
    assert "gpt-4o" in [model.id for model in page.data]


async def test_an_azure_client_may_bring_its_key_as_a_token(r: RunningRouter) -> None:
    async def token() -> str:
        return API_KEY

    entra = AsyncAzureOpenAI(
        azure_endpoint=r.url, azure_ad_token_provider=token, api_version="2024-10-21", max_retries=0
    )
    async with sdk(entra) as client:
        completion = await client.call(CHAT, **SAY_HI)

    assert completion.choices[0].finish_reason == "stop"
