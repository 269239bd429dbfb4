"""A permit is what was allowed at the start and is allowed now: also after the wait for a connection."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest

from tests.adversity.client import ask, chat
from tests.router_kit import Cloud, router

Config = dict[str, Any]


def other_cloud(config: Config) -> None:
    config["workloads"]["api"]["placement"] = {"rule": "exclusive", "cloud": "coreweave"}


def revoked(config: Config) -> None:
    config["keys"] = [key for key in config["keys"] if key["name"] != "api"]


@pytest.mark.parametrize("change", [other_cloud, revoked])
async def test_nothing_is_sent_that_a_reload_has_forbidden_meanwhile(change: Callable[[Config], None]) -> None:
    async with router(Cloud("azure"), Cloud("cw", "coreweave", dialect="openai")) as r:
        names, go, asked = r.worker.assembly.names, asyncio.Event(), asyncio.Event()
        real = names.addresses

        async def slow(host: str, port: int, *, private: bool) -> Sequence[str]:
            asked.set()
            await go.wait()
            return await real(host, port, private=private)

        names.addresses = slow  # type: ignore[method-assign]
        request = asyncio.create_task(ask(r, chat()))
        await asked.wait()
        config = orjson.loads(r.file.read_bytes())
        change(config)
        r.file.write_bytes(orjson.dumps(config))
        assert (await r.worker.reload()).ok
        go.set()

        assert (await request).status in (401, 502, 503)
        assert [cloud.received.requests for cloud in r.clouds.values()] == [0, 0]
        assert r.worker.assembly.runtime.violations == 0, "a reload is no bug"
