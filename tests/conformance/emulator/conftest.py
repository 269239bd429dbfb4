"""Two clouds in the test's own loop."""

from collections.abc import AsyncIterator

import pytest

from router.emulator import Deployment, EmulatedCloud, Endpoint, Settings

DEPLOYMENTS = (
    Deployment("gpt-4o-ptu", "gpt-4o", tpm=450_000, rpm=6_000),
    Deployment("chat-only", "gpt-4o", operations=frozenset({"chat"})),
)


@pytest.fixture
async def azure() -> AsyncIterator[EmulatedCloud]:
    async with EmulatedCloud(Endpoint("azure_openai", DEPLOYMENTS, id="azure", key="secret")) as cloud:
        yield cloud


@pytest.fixture
async def other() -> AsyncIterator[EmulatedCloud]:
    """A server of OpenAI's dialect, four words an event."""
    endpoint = Endpoint("openai", DEPLOYMENTS, id="other", key="secret", path="/v1", settings=Settings(chunk_tokens=4))
    async with EmulatedCloud(endpoint) as cloud:
        yield cloud
