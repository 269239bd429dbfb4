"""The real SDK against the fake clouds, each operation; and each answer against the provider's own schema."""

import asyncio
import io
import json
import warnings
from typing import Any

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI

from router.emulator import Deployment, EmulatedCloud, Endpoint, Settings
from router.emulator.settings import read_settings
from tests.conformance.emulator.kit import CHAT, CHAT_PATH, RawClient, validate

MODEL = "gpt-4o-ptu"
MESSAGES: Any = CHAT["messages"]
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def classic(cloud: EmulatedCloud, version: str = "2025-04-01-preview") -> AsyncAzureOpenAI:
    return AsyncAzureOpenAI(azure_endpoint=cloud.base_url, api_key="secret", api_version=version, max_retries=0)


def v1(cloud: EmulatedCloud) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{cloud.base_url}/openai/v1/", api_key="secret", max_retries=0)


def compatible(cloud: EmulatedCloud) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=cloud.base_url, api_key="secret", max_retries=0)


@pytest.fixture(params=["classic", "v1", "compatible"])
async def client(request: pytest.FixtureRequest, azure: EmulatedCloud, other: EmulatedCloud) -> Any:
    made = {"classic": lambda: classic(azure), "v1": lambda: v1(azure), "compatible": lambda: compatible(other)}
    async with made[request.param]() as sdk:
        yield sdk


async def test_chat(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES, n=2)

    assert [choice.index for choice in answer.choices] == [0, 1]
    assert (answer.choices[0].message.content or "").startswith("gpt-4o-ptu ")
    assert answer.choices[0].message.content != answer.choices[1].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 32
    again = await client.chat.completions.create(model=MODEL, messages=MESSAGES, n=2)
    assert [choice.message for choice in again.choices] == [choice.message for choice in answer.choices]


async def test_chat_streams_the_same_text(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    stream = await client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_chat_calls_tools(client: AsyncOpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required"}
    whole = await client.chat.completions.create(**asked)
    chunks = [chunk async for chunk in await client.chat.completions.create(**asked, stream=True)]

    assert whole.choices[0].finish_reason == "tool_calls"
    call: Any = (whole.choices[0].message.tool_calls or [])[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("look", {"deployment": MODEL})
    deltas = [d for c in chunks if c.choices for d in c.choices[0].delta.tool_calls or []]
    assert "".join((delta.function and delta.function.arguments) or "" for delta in deltas) == call.function.arguments
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "tool_calls"


async def test_completions(client: AsyncOpenAI) -> None:
    whole = await client.completions.create(model=MODEL, prompt="Once", max_tokens=5)
    stream = await client.completions.create(model=MODEL, prompt="Once", max_tokens=5, stream=True)
    chunks = [chunk async for chunk in stream]

    assert whole.choices[0].finish_reason == "length"
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_embeddings_in_both_encodings(client: AsyncOpenAI) -> None:
    """The SDK asks for base64 by default and decodes it."""
    encoded = await client.embeddings.create(model=MODEL, input=["a", "b"])
    plain = await client.embeddings.create(model=MODEL, input=["a", "b"], encoding_format="float")

    for decoded, floats in zip(encoded.data, plain.data, strict=True):
        assert decoded.embedding == pytest.approx(floats.embedding)
    assert encoded.data[0].embedding != encoded.data[1].embedding
    assert len((await client.embeddings.create(model=MODEL, input="a", dimensions=3)).data[0].embedding) == 3


async def test_responses(client: AsyncOpenAI) -> None:
    whole = await client.responses.create(model=MODEL, input="What is a lantern?")
    events = [e async for e in await client.responses.create(model=MODEL, input="What is it?", stream=True)]

    assert whole.output_text.startswith("gpt-4o-ptu ")
    assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_responses_call_tools_and_stop_at_the_limit(client: AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "name": "look", "parameters": {}, "strict": False}
    asked: Any = {"model": MODEL, "input": "x", "tools": [tool], "tool_choice": "required"}
    called: Any = (await client.responses.create(**asked)).output[0]
    events = [e async for e in await client.responses.create(**asked, stream=True)]
    short = await client.responses.create(model=MODEL, input="x", max_output_tokens=2)

    assert (called.type, called.name) == ("function_call", "look")
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == called.arguments
    assert (short.status, short.usage and short.usage.output_tokens) == ("incomplete", 2)


async def test_images(client: AsyncOpenAI) -> None:
    answer = await client.images.generate(model=MODEL, prompt="a lantern", n=2)
    events: list[Any] = [
        e async for e in await client.images.generate(model=MODEL, prompt="a lantern", stream=True, partial_images=2)
    ]
    edited = await client.images.edit(model=MODEL, image=("a.png", b"\x89PNG"), prompt="brighter")

    assert answer.data is not None
    assert len(answer.data) == 2
    assert edited.data is not None
    assert edited.data[0].b64_json == answer.data[0].b64_json
    partial = "image_generation.partial_image"
    assert [event.type for event in events] == [partial, partial, "image_generation.completed"]


async def test_speech(client: AsyncOpenAI) -> None:
    spoken = await client.audio.speech.create(model=MODEL, voice="alloy", input="hello")

    assert spoken.response.headers["content-type"] == "audio/mpeg"
    assert len(spoken.content) == 5 * 64


async def test_transcriptions_and_translations(client: AsyncOpenAI) -> None:
    def sound() -> Any:
        return ("a.wav", io.BytesIO(b"RIFF\r\n--not a boundary\r\n\x00\xff"))

    heard = await client.audio.transcriptions.create(model=MODEL, file=sound())
    written = await client.audio.transcriptions.create(model=MODEL, file=sound(), response_format="srt")
    stream = await client.audio.transcriptions.create(model=MODEL, file=sound(), stream=True)
    events: list[Any] = [event async for event in stream]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own
        translated = await client.audio.translations.create(model=MODEL, file=sound())

    assert heard.text == translated.text
    assert "00:00:00,000 -->" in written
    assert "".join(event.delta for event in events[:-1]) == heard.text
    assert (events[-1].type, events[-1].text) == ("transcript.text.done", heard.text)


async def test_moderations_are_openais_only(azure: EmulatedCloud, other: EmulatedCloud) -> None:
    async with compatible(other) as sdk, v1(azure) as on_azure:
        answer = await sdk.moderations.create(model=MODEL, input=["a", "b"])
        with pytest.raises(openai.NotFoundError):
            await on_azure.moderations.create(model=MODEL, input="a")

    assert [result.flagged for result in answer.results] == [False, False]


async def test_models(azure: EmulatedCloud, other: EmulatedCloud) -> None:
    """Azure lists what the resource could deploy; the others list what they serve."""
    async with compatible(other) as sdk, v1(azure) as azure_v1, classic(azure) as azure_classic:
        assert [model.id async for model in sdk.models.list()] == ["gpt-4o-ptu", "chat-only"]
        assert [model.id async for model in azure_v1.models.list()] == ["gpt-4o"]
        assert [model.id async for model in azure_classic.models.list()] == ["gpt-4o"]
        assert (await sdk.models.retrieve("chat-only")).id == "chat-only"
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("unknown")


CLASSIC = "/openai/deployments/gpt-4o-ptu"
GA = "?api-version=2024-10-21"
SPEECH = {"model": MODEL, "input": "hello", "voice": "alloy"}
PICTURE = {"model": MODEL, "prompt": "a lantern", "image": "a"}


@pytest.mark.parametrize(
    ("path", "fields", "file", "definition"),
    [
        (CHAT_PATH, CHAT, "azure-v1", "AzureCreateChatCompletionResponse"),
        (f"{CLASSIC}/chat/completions{GA}", CHAT, "azure-2024-10-21", "createChatCompletionResponse"),
        (f"{CLASSIC}/completions{GA}", {"prompt": "a"}, "azure-2024-10-21", "createCompletionResponse"),
        (f"{CLASSIC}/embeddings{GA}", {"input": "a"}, "azure-2024-10-21", "createEmbeddingResponse"),
        (f"{CLASSIC}/images/generations{GA}", {"prompt": "a"}, "azure-2024-10-21", "generateImagesResponse"),
        ("/openai/v1/embeddings", {"model": MODEL, "input": "a"}, "azure-v1", "OpenAI.CreateEmbeddingResponse"),
        ("/openai/v1/responses", {"model": MODEL, "input": "a"}, "azure-v1-responses", "AzureResponse"),
        ("/v1/chat/completions", CHAT, "openai-chat", "CreateChatCompletionResponse"),
        (
            "/v1/chat/completions",
            {**CHAT, "tools": [TOOL], "tool_choice": "auto"},
            "openai-chat",
            "CreateChatCompletionResponse",
        ),
        ("/v1/completions", {"model": MODEL, "prompt": ["a", "b"]}, "openai-chat", "CreateCompletionResponse"),
        ("/v1/embeddings", {"model": MODEL, "input": [1, 2]}, "openai-chat", "CreateEmbeddingResponse"),
        ("/v1/moderations", {"model": MODEL, "input": "a"}, "openai-chat", "CreateModerationResponse"),
        ("/v1/responses", {"model": MODEL, "input": "a"}, "openai-responses", "Response"),
        ("/v1/images/generations", PICTURE, "openai-media", "ImagesResponse"),
        ("/v1/images/edits", PICTURE, "openai-media", "ImagesResponse"),
    ],
)
async def test_json_answers_are_what_the_description_says(
    azure: EmulatedCloud, other: EmulatedCloud, path: str, fields: Any, file: str, definition: str
) -> None:
    reply = await RawClient(other if path.startswith("/v1") else azure).post(path, fields)

    assert reply.status == 200
    validate(file, definition, reply.json())


@pytest.mark.parametrize(
    ("path", "fields", "file", "definition"),
    [
        ("/v1/chat/completions", {**CHAT, "n": 2}, "openai-chat", "CreateChatCompletionStreamResponse"),
        (
            "/v1/chat/completions",
            {**CHAT, "tools": [TOOL], "tool_choice": "auto", "stream_options": {"include_usage": True}},
            "openai-chat",
            "CreateChatCompletionStreamResponse",
        ),
        ("/v1/images/generations", PICTURE, "openai-media", "ImageGenStreamEvent"),
        ("/v1/images/edits", PICTURE, "openai-media", "ImageEditStreamEvent"),
        ("/v1/audio/speech", {**SPEECH, "stream_format": "sse"}, "openai-media", "CreateSpeechResponseStreamEvent"),
        (CHAT_PATH, CHAT, "azure-v1", "AzureCreateChatCompletionStreamResponse"),
        (f"{CLASSIC}/chat/completions{GA}", CHAT, "azure-2024-10-21", "createChatCompletionStreamResponse"),
    ],
)
async def test_streams_are_what_the_description_says(
    azure: EmulatedCloud, other: EmulatedCloud, path: str, fields: Any, file: str, definition: str
) -> None:
    reply = await RawClient(other if path.startswith("/v1") else azure).post(path, {**fields, "stream": True})
    events = reply.events()

    assert reply.headers["content-type"].startswith("text/event-stream")
    if file.startswith("azure"):
        first = events.pop(0)  # the service's own chunk, which no description has
        assert (first["id"], first["object"], first["model"], first["choices"]) == ("", "", "", [])
        assert first["prompt_filter_results"][0]["prompt_index"] == 0
    assert events
    for event in events:
        validate(file, definition, event)


RESPONSE_EVENTS = {
    "response.created": "ResponseCreatedEvent",
    "response.in_progress": "ResponseInProgressEvent",
    "response.output_item.added": "ResponseOutputItemAddedEvent",
    "response.content_part.added": "ResponseContentPartAddedEvent",
    "response.output_text.delta": "ResponseTextDeltaEvent",
    "response.output_text.done": "ResponseTextDoneEvent",
    "response.content_part.done": "ResponseContentPartDoneEvent",
    "response.output_item.done": "ResponseOutputItemDoneEvent",
    "response.function_call_arguments.delta": "ResponseFunctionCallArgumentsDeltaEvent",
    "response.function_call_arguments.done": "ResponseFunctionCallArgumentsDoneEvent",
    "response.completed": "ResponseCompletedEvent",
}


@pytest.mark.parametrize("more", [{}, {"tools": [{"type": "function", "name": "look"}], "tool_choice": "required"}])
async def test_response_events_are_what_the_description_says(other: EmulatedCloud, more: Any) -> None:
    reply = await RawClient(other).post("/v1/responses", {"model": MODEL, "input": "a", "stream": True, **more})

    events = reply.events()
    assert events[-1]["type"] == "response.completed"
    for event in events:
        validate("openai-responses", RESPONSE_EVENTS[event["type"]], event)


async def test_forms_answer_what_the_description_says(other: EmulatedCloud) -> None:
    def form(**fields: str) -> bytes:
        parts = [f'--b\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
        parts.append('--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF\r\n--b--\r\n')
        return "".join(parts).encode()

    async def ask(operation: str, **fields: str) -> Any:
        reply = await RawClient(other).send(
            "POST",
            f"/v1/audio/{operation}",
            body=form(model=MODEL, **fields),
            headers={"content-type": 'multipart/form-data; boundary="b"'},
        )
        return reply.events() if fields.get("stream") else reply.json()

    verbose = {"response_format": "verbose_json"}
    validate("openai-media", "CreateTranscriptionResponseJson", await ask("transcriptions"))
    validate("openai-media", "CreateTranscriptionResponseVerboseJson", await ask("transcriptions", **verbose))
    validate("openai-media", "CreateTranslationResponseVerboseJson", await ask("translations", **verbose))
    for event in await ask("transcriptions", stream="true"):
        validate("openai-media", "CreateTranscriptionResponseStreamEvent", event)


async def test_late_annotations_come_behind_the_finish() -> None:
    settings = Settings(async_filter=True)
    async with EmulatedCloud(Endpoint("azure_openai", (Deployment(MODEL),), settings=settings)) as cloud:
        events = (await RawClient(cloud).post(CHAT_PATH, {**CHAT, "stream": True})).events()

    finish = next(n for n, event in enumerate(events) if event["choices"] and event["choices"][0]["finish_reason"])
    late = events[finish + 1]
    assert late["id"] == ""
    assert "delta" not in late["choices"][0]
    assert late["choices"][0]["content_filter_offsets"]["end_offset"] > 0


async def test_the_pace_follows_the_settings() -> None:
    """A head after 30 ms and six gaps of 10 ms: never sooner, streamed or not."""
    settings = read_settings({"head_ms": 30, "token_gap_ms": {"median": 10}, "tokens": 5})
    async with EmulatedCloud(Endpoint("openai", (Deployment(MODEL),), path="/v1", settings=settings)) as cloud:
        loop = asyncio.get_running_loop()
        for fields, least_s in (({**CHAT, "stream": True}, 0.09), (CHAT, 0.08)):
            started = loop.time()
            reply = await RawClient(cloud).post("/v1/chat/completions", fields)
            assert reply.status == 200
            assert loop.time() - started >= least_s - 0.002
