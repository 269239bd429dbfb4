"""Routers of several workers each, which share their limits through a real Redis, and go on when it is gone."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.adversity.client import chat
from tests.adversity.test_limits import keys
from tests.e2e.workers import Line, Workers, until, workers
from tests.redis_kit import RedisServer
from tests.router_kit import Cloud

pytestmark = pytest.mark.timed  # a Redis that is starved for 0.2 s is given up, and another figure holds

ONE = chat(max_tokens=1)


@contextlib.asynccontextmanager
async def two_routers(folder: Path, server: RedisServer, **limited: Any) -> AsyncIterator[list[Workers]]:
    """Two supervisors with two workers each, which have found each other."""
    shared = {"redis": {"url": server.url, "routers": 2}, "keys": keys(**limited)}
    async with contextlib.AsyncExitStack() as stack:
        routers = []
        for name in "ab":
            (folder / name).mkdir()
            routers.append(await stack.enter_async_context(workers(folder / name, Cloud("azure"), **shared)))
        await until(lambda: _all(routers, "router_redis_up", 1))
        await until(lambda: _all(routers, "router_redis_routers", 2))
        yield routers


async def _all(routers: list[Workers], metric: str, value: float) -> bool:
    return [await each.metric(metric) for each in routers] == [value] * len(routers)


async def asked(lines: list[Line], times: int) -> int:
    """How many of so many requests on each line were served; all others were refused for the limit."""

    async def one(line: Line) -> int:
        answers = [await line.ask(ONE) for _ in range(times)]
        assert {answer.status for answer in answers} <= {200, 429}
        return sum(answer.status == 200 for answer in answers)

    return sum(await asyncio.gather(*map(one, lines)))


async def test_all_workers_of_all_routers_together_keep_to_a_limit(tmp_path: Path) -> None:
    with RedisServer() as server:
        async with two_routers(tmp_path, server, limits={"rpm": 60, "burst_share": 1.0}) as routers:
            lines = [line for each in routers for line in await each.lines_to_each()]
            began = time.monotonic()
            served = await asked(lines[:1], 50)
            assert served == 50, "one worker may use what is there for all"
            served += await asked(lines, 15)
            assert 58 <= served <= 60 + (time.monotonic() - began) + 1
            refusals = [await each.metric("router_limit_refusals_total", scope="key", limit="rpm") for each in routers]
            assert sum(refusals) == 50 + 60 - served
            assert sum([await each.metric("router_redis_trips_total", result="answered") for each in routers]) > 0


async def test_each_goes_on_with_its_part_and_comes_back(tmp_path: Path) -> None:
    with RedisServer() as server:
        async with two_routers(tmp_path, server, limits={"rpm": 60, "burst_share": 1.0}) as routers:
            lines = [line for each in routers for line in await each.lines_to_each()]
            server.kill()
            await until(lambda: _all(routers, "router_redis_up", 0))
            began = time.monotonic()
            served = await asked(lines, 40)
            assert 2 * 29 <= served <= 60 + (time.monotonic() - began) + 2
            server.start()
            await until(lambda: _all(routers, "router_redis_up", 1))
            served += await asked(lines, 5)
            assert served <= 60 + (time.monotonic() - began) + 2, "what was used meanwhile is told"
            for each in routers:
                assert await each.metric("router_redis_losses_total") >= 1
                assert await each.metric("router_redis_trips_total", result="failed") > 0
                assert 0 < await each.metric("router_redis_trip_seconds") < 1
                await until(partial(_said_both, each))


def _said_both(router: Workers) -> bool:
    """The log is written in batches."""
    return len(router.events("redis_lost")) == len(router.events("redis_back")) >= 1


async def test_places_of_a_router_that_is_killed_come_back(tmp_path: Path) -> None:
    with RedisServer() as server:
        async with two_routers(tmp_path, server, limits={"concurrent": 2}) as (killed, living):
            for each in (killed, living):
                assert (await (await each.lines_to_each())[0].ask(ONE)).status == 200
            killed.process.kill()
            await killed.process.wait()

            async def alone() -> bool:
                return await living.metric("router_redis_routers") == 1

            await until(alone)
            assert await asked(living.lines[:1], 5) == 5
