"""The router runs on the loop that it has in production."""

import asyncio
from collections.abc import Callable

from router.base.loops import new_loop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"fastest": new_loop}
