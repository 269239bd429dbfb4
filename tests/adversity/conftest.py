"""The loop that the router runs on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from router.base.loops import new_loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"fastest": new_loop}
