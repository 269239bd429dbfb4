"""Two clouds in the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from router.base.loops import new_loop
from router.emulator import Deployment, EmulatedCloud, Endpoint, Settings


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Loops flush, close and reset each in their own way: a fault must look the same under both."""
    both = {"asyncio": asyncio.new_event_loop, "fastest": new_loop}
    return both if "test_emulator_faults" in item.nodeid else {"fastest": new_loop}


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
