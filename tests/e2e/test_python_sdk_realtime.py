"""OpenAI's own clients for realtime, and for responses over WebSocket, in front of a router."""

import importlib.util
import os

import pytest
from openai import AsyncOpenAI

from router.emulator import Distribution, Settings
from tests.router_kit import API_KEY, Cloud, RunningRouter, router

if importlib.util.find_spec("websockets") is None and not os.environ.get("CI"):
    pytest.skip("the client speaks WebSocket by the package websockets", allow_module_level=True)

SETTINGS = Settings(tokens=Distribution(4.0))


def client(r: RunningRouter) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=API_KEY, base_url=f"{r.url}/v1", max_retries=0)


async def test_a_realtime_session() -> None:
    async with router(Cloud("azure", deployments={"voice": "gpt-realtime"}, settings=SETTINGS)) as r:
        async with client(r) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            await connection.response.create()
            kinds, text = [], ""
            async for event in connection:
                kinds.append(event.type)
                if event.type == "response.output_text.delta":
                    text += event.delta
                elif event.type == "response.done":
                    assert event.response.usage is not None
                    assert event.response.usage.output_tokens == 4
                    break
        assert kinds[:3] == ["session.created", "session.updated", "response.created"]
        assert text == "word1 word2 word3 word4 "


async def test_responses_over_websocket() -> None:
    operations = {"llm": ["responses", "responses_websocket"]}
    cloud = Cloud("azure", deployments={"llm": "gpt-4o"}, operations=operations, settings=SETTINGS)
    async with router(cloud) as r, client(r) as sdk, sdk.responses.connect() as connection:
        await connection.response.create(model="gpt-4o", input="hi")
        async for event in connection:
            if event.type == "response.completed":
                assert event.response.usage is not None
                assert event.response.usage.output_tokens == 4
                break
