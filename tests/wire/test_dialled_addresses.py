"""A name's addresses on their way to a connection: what was checked is dialled, and what is gone is let go."""

import asyncio
import socket
from typing import Any, cast

import pytest

from router.base.errors import ConnectError
from router.model.fleet import AuthKind, BaseUrl, Credential, Deployment, Endpoint, Secret
from router.model.plan import Permit
from router.transport import names as names_module
from router.transport.dialling import Way
from router.transport.names import GONE_S, Names
from router.transport.pool import Dial, Pool, PoolSettings

HOST = "inference.example.com"
PERMIT = Permit("internal", frozenset({"self"}), "v")


class Loop:
    """Answers names as a test says, and leads every dial to a listener on loopback, noting where it was to go."""

    def __init__(self, port: int) -> None:
        self._loop, self._port = asyncio.get_running_loop(), port
        self.create_task = self._loop.create_task
        self.time = self._loop.time
        self.call_soon = self._loop.call_soon
        self.answers: list[list[str]] = []
        self.asked = 0
        self.dialled: list[str] = []

    async def getaddrinfo(self, host: str, port: int, **_more: object) -> list[Any]:
        assert host == HOST
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in answer]

    async def create_connection(self, protocol: Any, host: str, port: int, **_more: object) -> Any:
        self.dialled.append(host)
        return await self._loop.create_connection(protocol, "127.0.0.1", self._port)


@pytest.fixture
async def loop() -> Any:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    yield Loop(server.sockets[0].getsockname()[1])
    server.close()


def pool_of(loop: Loop, *, private: bool = False) -> tuple[Pool, Names]:
    as_loop = cast(asyncio.AbstractEventLoop, loop)
    endpoint = Endpoint(
        id="e",
        cloud="self",
        provider="openai",
        base_url=BaseUrl("http", HOST, 80, "/v1"),
        credential=Credential(AuthKind.BEARER, Secret("k")),
        private=private,
    )
    names = Names(as_loop)
    deployment = Deployment(endpoint=endpoint, model="m", name="d", operations=frozenset({"chat"}))
    settings = PoolSettings(connections_max=10, idle_s=1e9, connect_s=5.0)
    return Pool(as_loop, Way(as_loop, names, endpoint), deployment, settings), names


async def dialled(pool: Pool) -> Dial:
    done = asyncio.Event()
    dial = pool.dial(PERMIT, done.set)
    await asyncio.wait_for(done.wait(), 5)
    return dial


async def refreshed(names: Names, loop: Loop) -> None:
    asked = loop.asked
    names.refresh()
    while loop.asked == asked:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)


async def test_what_was_checked_is_what_is_dialled(loop: Loop) -> None:
    """A resolver that says a public address first and this machine ever after."""
    loop.answers = [["20.42.0.1"], ["127.0.0.1"]]
    pool, names = pool_of(loop)
    assert (await dialled(pool)).connection is not None
    assert (loop.dialled, loop.asked) == (["20.42.0.1"], 1), "the address itself is dialled, and no name"
    for _ in range(3):
        await refreshed(names, loop)
        assert (await dialled(pool)).connection is not None
    assert set(loop.dialled) == {"20.42.0.1"}
    pool.close()


async def test_what_may_not_be_dialled_is_not(loop: Loop) -> None:
    loop.answers = [["169.254.169.254", "127.0.0.1", "10.0.0.1"]]
    pool, _ = pool_of(loop)
    dial = await dialled(pool)
    assert isinstance(dial.error, ConnectError)
    assert loop.dialled == []


async def test_connections_to_an_address_that_is_gone_are_let_go(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = asyncio.get_running_loop().time()
    monkeypatch.setattr(names_module, "monotonic", lambda: clock)
    loop.answers = [["20.42.0.1"], ["20.42.0.2"]]
    pool, names = pool_of(loop)
    connection = (await dialled(pool)).connection
    assert connection is not None
    pool.give(connection)
    await refreshed(names, loop)
    pool.sweep(clock)
    assert pool.idle == 1, "it may come again with the next answer"
    clock += GONE_S + 1
    await refreshed(names, loop)
    pool.sweep(clock)
    assert pool.idle == 0
    newer = (await dialled(pool)).connection
    assert newer is not None
    pool.give(newer)
    pool.sweep(clock)
    assert (loop.dialled[-1], pool.idle) == ("20.42.0.2", 1)
    pool.close()
    await asyncio.sleep(0.01)
