"""Nothing outlives its request: not after thousands, and not even until the collector's next round."""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.base.loops import new_loop
from router.config.faults import ConfigError
from router.config.load import load
from router.emulator import Distribution, Settings
from router.proxy.answer import Answer
from router.proxy.context import Attempt, Context
from router.transport.client_connection import Connection
from router.transport.fiber import Fiber
from router.transport.inbound import Inbound
from router.transport.pool import Dial
from router.transport.upstream import AnswerHead, UpstreamConnection
from tests.adversity.client import Ask, Call, ask, chat, responses, sent
from tests.adversity.test_attempts import QUICK
from tests.router_kit import INTERNAL_KEY, Cloud, RunningRouter, heal, router

OF_A_REQUEST = (Context, Inbound, Answer, Attempt, Fiber, Dial)
OF_A_CONNECTION = (Connection, UpstreamConnection, AnswerHead)  # one to a deployment keeps its last answer's head
DEMO = Path(__file__).parents[2] / "config" / "demo.yaml"
Kind = Callable[[RunningRouter], Awaitable[None]]


def alive(*types: type) -> Counter[str]:
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, types))


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def one(request: Ask, status: int) -> Kind:
    async def run(r: RunningRouter) -> None:
        assert (await ask(r, request)).status == status

    return run


def with_fault(request: Ask, expected: int, kind: str, /, **values: Any) -> Kind:
    async def run(r: RunningRouter) -> None:
        r.clouds["first"].faults.add(kind, **values)
        reply = await ask(r, request)
        assert reply.status == expected
        forgive(r)

    return run


def with_all_failing(request: Ask, expected: int, kind: str, /, **values: Any) -> Kind:
    async def run(r: RunningRouter) -> None:
        for cloud in r.clouds.values():
            cloud.faults.add(kind, **values)
        assert (await ask(r, request)).status == expected
        forgive(r)

    return run


def leaving(request: Ask, wait: Callable[[Call], Awaitable[object]]) -> Kind:
    async def run(r: RunningRouter) -> None:
        for cloud in r.clouds.values():
            cloud.faults.add("stall_mid_stream", after_events=3)
        async with sent(r, request) as call:
            await wait(call)
        forgive(r)

    return run


def forgive(r: RunningRouter) -> None:
    for cloud in r.clouds.values():
        cloud.faults.clear()
    for backend in r.worker.assembly.fleet.backends.values():
        heal(backend)


async def half_a_body(r: RunningRouter) -> None:
    async with sent(r, chat(), halves=True):
        await asyncio.sleep(0.005)


async def two_on_one_connection(r: RunningRouter) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
    for _ in range(2):
        call = Call(reader, writer, chat())
        call.send()
        assert (await call.rest()).status == 200
    writer.transport.abort()


async def bytes_that_are_no_request(r: RunningRouter) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
    writer.write(b"\x16\x03\x01\r\n\r\n")
    assert b" 400 " in await reader.read()
    writer.transport.abort()


KINDS: dict[str, Kind] = {
    "json": one(chat(), 200),
    "stream": one(chat(stream=True), 200),
    "responses": one(responses(stream=True), 200),
    "revealed": one(chat(key=INTERNAL_KEY), 200),
    "two on one connection": two_on_one_connection,
    "unknown key": one(chat(key="sk-ir-unknown"), 401),
    "unknown model": one(chat(model="none"), 404),
    "no JSON": one(Ask("/v1/chat/completions", b"{"), 400),
    "no path": one(Ask("/v2/nothing", b"{}"), 404),
    "no request": bytes_that_are_no_request,
    "client's own error": with_fault(chat(), 400, "status", status=400),
    "failover of JSON": with_fault(chat(), 200, "status", status=500),
    "failover of a stream": with_fault(chat(stream=True), 200, "error_event", after_events=1),
    "failover of a refused connect": with_fault(chat(), 200, "refuse", for_s=5),
    "failover of a reset": with_fault(chat(), 200, "reset_before_head"),
    "failover of a stall": with_fault(chat(), 200, "stall_before_head"),
    "broken stream": with_fault(chat(stream=True), 200, "early_close", after_events=4),
    "all fail": with_all_failing(chat(), 500, "status", status=500),
    "all throttled": with_all_failing(chat(), 429, "status", status=429),
    "all reset": with_all_failing(chat(stream=True), 502, "reset_before_head"),
    "all refuse": with_all_failing(chat(), 502, "refuse", for_s=5),
    "client gone while it waits": leaving(chat(stream=True), lambda _: asyncio.sleep(0.005)),
    "client gone in the stream": leaving(chat(stream=True), lambda call: call.some(b'"content":')),
    "client gone in its body": half_a_body,
}


def clouds() -> list[Cloud]:
    paced = Settings(tokens=Distribution(6.0), token_gap_ms=Distribution(1.0))
    return [Cloud(name, tier=tier, settings=paced) for tier, name in enumerate(("first", "second"))]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_is_freed_without_the_collector(kind: str, no_collector: None) -> None:
    """No cycle is made by a request, however it ends: each would wait for a round over all that is alive."""
    async with router(*clouds(), timeouts={**QUICK, "commit_json_s": 0.1}) as r:
        server = r.worker.assembly.gateway.server
        await KINDS[kind](r)  # the first of its kind fills caches
        await r.until(lambda: not server.connections)
        before = alive(*OF_A_REQUEST)

        for _ in range(4):
            await KINDS[kind](r)
        await r.until(lambda: not server.connections)
        await r.assert_nothing_is_left()

        assert alive(*OF_A_REQUEST) <= before
        assert alive(Context, Connection) == Counter()
        idle = r.worker.assembly.fleet.total(lambda pool: pool.idle)
        assert alive(UpstreamConnection)["UpstreamConnection"] == idle


async def test_two_thousand_requests_of_all_kinds_leave_nothing() -> None:
    quick = [kind for name, kind in KINDS.items() if "stall" not in name]
    # Every second request fails here, which no budget for retries is made for.
    generous = {"budget_floor_per_s": 1000}
    async with router(*clouds(), timeouts={**QUICK, "commit_json_s": 0.1}, resilience=generous) as r:
        assembly = r.worker.assembly

        async def all_kinds(times: int) -> None:
            for _ in range(times):
                for kind in quick:
                    await kind(r)
            await r.until(lambda: not assembly.gateway.server.connections)

        async def many(count: int) -> None:
            async def client() -> None:
                for number in range(count // 20):
                    await ask(r, chat(stream=number % 2 == 0))

            await asyncio.gather(*(client() for _ in range(20)))

        await all_kinds(1)
        gc.collect()
        before, tasks = alive(*OF_A_REQUEST, *OF_A_CONNECTION), len(asyncio.all_tasks())

        await all_kinds(20)
        await many(1600)

        await r.until(lambda: not assembly.gateway.server.connections)
        await r.until(lambda: len(asyncio.all_tasks()) <= tasks + assembly.fleet.total(lambda pool: pool.idle))
        gc.collect()
        after = alive(*OF_A_REQUEST, *OF_A_CONNECTION)
        idle = assembly.fleet.total(lambda pool: pool.idle)
        assert after - before <= Counter({"UpstreamConnection": idle, "AnswerHead": idle})
        assert len(assembly.wheel) == 0
        assert assembly.gateway.server.buffered_bytes == 0
        await r.until(lambda: len(r.records()) >= 2000)


def test_dials_that_fail_leave_nothing_to_the_collector(no_collector: None) -> None:
    """On the loop that serves: its own frames hold the error that they raise."""

    async def refused() -> None:
        async with router(Cloud("first"), health={"open_s": 0.05, "open_s_max": 0.05}) as r:
            await r.clouds["first"].close()
            assert (await ask(r, chat())).status == 502
            gc.collect()
            heal(r.backend("first"))
            assert (await ask(r, chat())).status == 502
            assert sum(r.backend("first").pool.failures.values()) >= 2
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                gc.collect()
                left = [each for each in gc.garbage if isinstance(each, OSError)]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
            assert not left

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(refused())


@pytest.mark.parametrize("text", [DEMO.read_text(), "a: [", "a: {b: *c}", "- 1", ""], ids=len)
def test_reading_a_configuration_leaves_the_collector_next_to_nothing(
    no_collector: None, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "router.yaml"
    file.write_text(text)

    def read() -> int:
        try:
            return len(load(file, {}).deployments)
        except ConfigError as error:
            return -len(error.faults)

    found = read()
    gc.collect()
    assert {read() for _ in range(10)} == {found} != {0}
    assert gc.collect() <= 100
