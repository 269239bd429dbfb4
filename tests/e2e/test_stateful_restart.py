"""Homes in both stores: found by the router that comes after, however the first one ended, and by one beside it."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.emulator import EmulatedCloud
from tests.adversity.client import Ask
from tests.e2e.workers import Answer, Line, Workers, emulated, router_before, until
from tests.postgres_kit import PostgresServer
from tests.router_kit import Cloud

CLOUDS = Cloud("azure-east"), Cloud("azure-west")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What a ledger's section says of its store."""
    if request.param == "sqlite":
        yield {}
    else:
        with PostgresServer() as server:
            yield {"store": server.url}


def respond(previous: Sequence[str] = ()) -> Ask:
    """A response, behind the one that is named."""
    more = {"previous_response_id": previous[0]} if previous else {}
    return Ask("/v1/responses", orjson.dumps({"model": "gpt-4o", "input": "hi", **more}))


@contextlib.asynccontextmanager
async def line_to(r: Workers) -> AsyncIterator[Line]:
    line = Line(r.port)
    try:
        yield line
    finally:
        await line.close()


def ledger(folder: Path, **more: Any) -> dict[str, Any]:
    return {"ledger": {"dir": str(folder / "ledger"), "segment_bytes": "1MiB", **more}}


def name_in(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return str(orjson.loads(answer.body)["id"])


def homes(clouds: dict[str, EmulatedCloud], names: list[str]) -> set[str]:
    """The clouds that store one of these."""
    return {cloud for cloud, emulator in clouds.items() for name in names if emulator._service.store.knows(name)}


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_who_comes_after_knows_where_an_id_lives(
    tmp_path: Path, store: dict[str, str], end: signal.Signals, durable: bool
) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    settings = ledger(tmp_path, durable=durable, **store)
    async with emulated(*CLOUDS) as clouds:
        names: list[str] = []
        for folder in folders:
            folder.mkdir()
            async with router_before(clouds, folder, *CLOUDS, **settings) as r, line_to(r) as line:
                for _ in range(3):
                    names.append(name_in(await line.ask(respond(names[-1:]))))
                r.process.send_signal(end)
                if end is signal.SIGKILL:  # and all that it has started
                    for pid in r.pids:
                        os.kill(pid, signal.SIGKILL)
                await r.process.wait()
        assert len(homes(clouds, names)) == 1, "each where the one before it lives"


async def test_an_id_of_one_router_is_known_to_another_one_with_the_same_store(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    with PostgresServer() as server:
        async with contextlib.AsyncExitStack() as stack:
            clouds = await stack.enter_async_context(emulated(*CLOUDS))
            lines = []
            for folder in folders:
                folder.mkdir()
                more = ledger(folder, store=server.url)
                r = await stack.enter_async_context(router_before(clouds, folder, *CLOUDS, **more))
                lines.append(await stack.enter_async_context(line_to(r)))
            here, there = lines
            names = [name_in(await here.ask(respond()))]

            async def follow() -> bool:
                """What one router has just written the other one reads in the store, a moment later."""
                answer = await there.ask(respond(names[:1]))
                if answer.status == 200:
                    names.append(name_in(answer))
                return answer.status == 200

            await until(follow, within_s=5)
            assert len(homes(clouds, names)) == 1
