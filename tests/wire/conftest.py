"""The loop that the router runs on, for the tests that need one."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from router.base.loops import new_loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if "test_sockets" in item.nodeid:
        return {"fastest": new_loop}
    # The two begin TLS each in their own way.
    if (
        item.path.stem in ("test_tls_clients", "test_proxied", "test_preambles")
        or "told_apart_from_its_handshake" in item.nodeid
    ):
        return {"fastest": new_loop, "asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
