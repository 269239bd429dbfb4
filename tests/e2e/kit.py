"""The real OpenAI clients for Python in front of a router whose Azure is emulated, and one way to call all of them.

An `Sdk` calls a method of a client by its name, `chat.completions.create`, whether the client is a synchronous one
(which then runs in a thread, as the router has this loop) or an asynchronous one.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any, Final

import httpx2
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from router.emulator import Distribution, Settings
from tests.router_kit import API_KEY, Cloud, RunningRouter

CHAT: Final = "chat.completions.create"
RESPONSES: Final = "responses.create"
SAY_HI: Final = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
ASK_HI: Final = {"model": "gpt-4o", "input": "hi"}

# What each shape of Azure's API has: deployment -> model. The dated stable one lacks speech, edits and responses.
_STABLE: Final = {
    "chat-dep": "gpt-4o",
    "text-dep": "gpt-3.5-turbo-instruct",
    "embed-dep": "text-embedding-3-small",
    "picture-dep": "dall-e-3",
    "whisper-dep": "whisper-1",
    "listen-dep": "gpt-4o-transcribe",
}
_ALL: Final = {**_STABLE, "image-dep": "gpt-image-1", "voice-dep": "gpt-4o-mini-tts"}
SHAPES: Final = {"v1": _ALL, "2025-04-01-preview": _ALL, "2024-10-21": _STABLE}

# Loading the system's certificates takes 30 ms a client, and nothing here is dialled over TLS.
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def azure(
    api_version: str = "v1", endpoint: str = "azure-east", tokens: int = 6, gap_ms: float = 0.0, **more: Any
) -> Cloud:
    """An emulated Azure resource with a deployment for each kind of model that this api-version has."""
    settings = Settings(tokens=Distribution(float(tokens)), token_gap_ms=Distribution(gap_ms))
    return Cloud(endpoint, deployments=SHAPES[api_version], api_version=api_version, settings=settings, **more)


class Sdk:
    """One client, and how its methods are called. Nothing is retried: a test wants to see the first answer."""

    def __init__(self, client: OpenAI | AsyncOpenAI) -> None:
        self.client = client
        self._is_async = isinstance(client, AsyncOpenAI)

    def __repr__(self) -> str:
        return f"{type(self.client).__name__} at {self.client.base_url}"

    async def call(self, method: str, **arguments: Any) -> Any:
        """Calls, and returns what the method returns."""
        function = attrgetter(method)(self.client)
        return await function(**arguments) if self._is_async else await asyncio.to_thread(function, **arguments)

    async def events(self, method: str, **arguments: Any) -> list[Any]:
        """Calls with `stream`, and returns all events. Raises what iterating raises."""
        seen: list[Any] = []
        await self.feed(seen.append, method, stream=True, **arguments)
        return seen

    async def feed(self, take: Callable[[Any], None], method: str, **arguments: Any) -> None:
        """Like `events`, but hands each one over as it comes, so that a test sees what came before an error."""
        stream = await self.call(method, **arguments)
        if self._is_async:
            async for event in stream:
                take(event)
        else:
            await asyncio.to_thread(_drain, stream, take)


def _drain(stream: Iterator[Any], take: Callable[[Any], None]) -> None:
    for event in stream:
        take(event)


@asynccontextmanager
async def sdk(client: OpenAI | AsyncOpenAI) -> AsyncIterator[Sdk]:
    try:
        yield Sdk(client)
    finally:
        if isinstance(client, AsyncOpenAI):
            await client.close()
        else:
            client.close()


@asynccontextmanager
async def openai_sdk(r: RunningRouter, key: str = API_KEY, path: str = "/v1", **more: Any) -> AsyncIterator[Sdk]:
    """The asynchronous client of OpenAI's own API."""
    options = {"max_retries": 0, "http_client": httpx2.AsyncClient(verify=_NO_TLS, timeout=20), **more}
    async with sdk(AsyncOpenAI(base_url=r.url + path, api_key=key, **options)) as client:
        yield client


@asynccontextmanager
async def every_sdk(r: RunningRouter, key: str = API_KEY) -> AsyncIterator[list[Sdk]]:
    """All four classes, over all three path families."""
    asynchronous: dict[str, Any] = {"max_retries": 0, "http_client": httpx2.AsyncClient(verify=_NO_TLS, timeout=20)}
    synchronous: dict[str, Any] = {"max_retries": 0, "http_client": httpx2.Client(verify=_NO_TLS, timeout=20)}
    named: dict[str, Any] = {"azure_endpoint": r.url, "api_key": key, "api_version": "2024-06-01"}
    clients: list[OpenAI | AsyncOpenAI] = [
        AsyncOpenAI(base_url=f"{r.url}/v1", api_key=key, **asynchronous),
        AsyncOpenAI(base_url=f"{r.url}/openai/v1/", api_key=key, **asynchronous),
        AsyncAzureOpenAI(**named, **asynchronous),
        OpenAI(base_url=f"{r.url}/v1", api_key=key, **synchronous),
        OpenAI(base_url=f"{r.url}/openai/v1/", api_key=key, **synchronous),
        AzureOpenAI(**named, **synchronous),
    ]
    try:
        yield [Sdk(client) for client in clients]
    finally:
        await asynchronous["http_client"].aclose()
        synchronous["http_client"].close()


def text_of(chunks: list[Any], index: int = 0) -> str:
    """What a chat stream said for one choice."""
    choices = (choice for chunk in chunks for choice in chunk.choices if choice.index == index)
    return "".join(choice.delta.content or "" for choice in choices if choice.delta is not None)
