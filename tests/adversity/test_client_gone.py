"""A client that leaves, whenever that is, ends what runs for it: at once at the cloud, and wholly here."""

import asyncio
import socket

import orjson
import pytest

from router.emulator import Distribution, Settings
from router.transport.client_connection import Connection
from tests.adversity.client import Call, chat, responses, sent
from tests.router_kit import Cloud, RunningRouter, router

GONE_WITHIN_S = 0.1
ASKS = {
    "json": chat(),
    "stream": chat(stream=True),
    "responses": responses(),
    "responses stream": responses(stream=True),
}


async def gone(r: RunningRouter, call: Call) -> None:
    """Hangs up, and asserts that cloud and router are rid of the request in time."""
    cloud = r.clouds["azure"]
    assert cloud.received.connections_open == 1
    assert cloud.received.aborted == 0
    began = asyncio.get_running_loop().time()
    call.hang_up()
    await r.until(lambda: cloud.received.connections_open == 0, within_s=2)
    assert asyncio.get_running_loop().time() - began < GONE_WITHIN_S
    assert cloud.received.aborted == 1
    await r.assert_nothing_is_left(within_s=1)
    await r.until(lambda: len(r.records()) == 1)
    record = r.records()[0]
    assert (record["outcome"], record["status"]) == ("client_gone", 499)
    assert record["attempts"][-1]["outcome"] == "client_gone"
    assert record["attempts"][-1]["estimated"], "what the cloud had done by then is not known, and not free"
    assert record["attempts"][-1]["usage"]["prompt_tokens"] > 0
    # It says nothing about the deployment.
    backend = r.worker.assembly.fleet.backends["azure/gpt-4o-dep"]
    assert not backend.refusal(r.worker.assembly.loop.time())
    assert backend.health.clear
    assert backend.meter.penalty(r.worker.assembly.loop.time()) == 1.0


@pytest.mark.parametrize("kind", ASKS)
async def test_while_it_waits_for_the_head(kind: str) -> None:
    async with router(Cloud("azure")) as r:
        r.clouds["azure"].faults.add("stall_before_head")
        async with sent(r, ASKS[kind]) as call:
            await r.until(lambda: r.clouds["azure"].received.requests == 1)
            await gone(r, call)


@pytest.mark.parametrize("kind", ["stream", "responses stream"])
async def test_while_the_head_is_held(kind: str) -> None:
    """The head and an empty first chunk came, and no content: the client has seen nothing yet."""
    async with router(Cloud("azure")) as r:
        r.clouds["azure"].faults.add("stall_mid_stream", after_events=1)
        async with sent(r, ASKS[kind]) as call:
            await r.until(lambda: r.clouds["azure"].received.requests == 1)
            await asyncio.sleep(0.02)
            await gone(r, call)


@pytest.mark.parametrize("kind", ["stream", "responses stream"])
async def test_in_the_middle_of_a_stream(kind: str) -> None:
    paced = Settings(tokens=Distribution(1000.0), token_gap_ms=Distribution(5.0))
    async with router(Cloud("azure", settings=paced)) as r, sent(r, ASKS[kind]) as call:
        await call.some(b"delta")
        await gone(r, call)


async def test_in_a_stream_that_is_silent() -> None:
    async with router(Cloud("azure", settings=Settings(token_gap_ms=Distribution(1.0)))) as r:
        r.clouds["azure"].faults.add("stall_mid_stream", after_events=4)
        async with sent(r, chat(stream=True)) as call:
            await call.some(b'"content":')
            await asyncio.sleep(0.02)
            await gone(r, call)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_while_it_does_not_read(stream: bool) -> None:
    """The upstream is paused for it then, and nothing but the client's end of the wire could tell."""
    large = Settings(tokens=Distribution(200_000.0), chunk_tokens=100, head_ms=Distribution(50.0))
    async with router(Cloud("azure", settings=large)) as r:
        with socket.create_connection(("127.0.0.1", r.port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(chat(stream=stream).wire(close=False))
            connection = await _only_connection(r)
            assert connection.transport is not None
            # The kernel would take megabytes otherwise.
            own = connection.transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await r.until(lambda: connection.write_paused)
            assert r.worker.assembly.fleet.backends["azure/gpt-4o-dep"].pool.busy == 1
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        await r.until(lambda: r.clouds["azure"].received.connections_open == 0, within_s=GONE_WITHIN_S)
        await r.assert_nothing_is_left(within_s=1)
        await r.until(lambda: [record["outcome"] for record in r.records()] == ["client_gone"])


async def _only_connection(r: RunningRouter) -> Connection:
    connections = r.worker.assembly.gateway.server.connections
    await r.until(lambda: len(connections) == 1)
    return next(iter(connections))


async def test_before_its_body_is_whole() -> None:
    async with router(Cloud("azure")) as r, sent(r, chat(), halves=True) as call:
        server = r.worker.assembly.gateway.server
        await r.until(lambda: server.buffered_bytes > 0)
        call.hang_up()
        await r.until(lambda: not server.connections, within_s=GONE_WITHIN_S)
        await r.assert_nothing_is_left(within_s=0.1)
        assert r.clouds["azure"].received.connections == 0
        await r.until(lambda: [record["outcome"] for record in r.records()] == ["client_gone"])


async def test_while_its_connection_is_made() -> None:
    """A dial that nobody waits for is given up: what it reaches gets no request."""
    held = socket.create_server(("127.0.0.1", 0), backlog=0)
    filler = [socket.create_connection(held.getsockname())]
    try:
        async with router(Cloud("azure")) as r:
            section = Cloud("azure").section(f"http://127.0.0.1:{held.getsockname()[1]}")
            await _repoint(r, section)
            # A full backlog answers no SYN, so the dial hangs.
            for _ in range(4):
                extra = socket.socket()
                extra.setblocking(False)
                extra.connect_ex(held.getsockname())
                filler.append(extra)
            pool = r.worker.assembly.fleet.backends["azure/gpt-4o-dep"].pool
            async with sent(r, chat()) as call:
                await r.until(lambda: pool.busy == 1)
                call.hang_up()
                await r.until(lambda: pool.busy == 0, within_s=GONE_WITHIN_S + 0.05)
            await r.assert_nothing_is_left(within_s=0.1)
            await r.until(lambda: [record["outcome"] for record in r.records()] == ["client_gone"])
    finally:
        for each in (held, *filler):
            each.close()


async def _repoint(r: RunningRouter, section: dict[str, object]) -> None:
    config = orjson.loads(r.file.read_bytes())
    config["endpoints"]["azure"] = section
    r.file.write_bytes(orjson.dumps(config))
    assert (await r.worker.reload()).ok


async def test_a_pipelining_client_that_leaves_is_noticed_too() -> None:
    """Bytes behind a running request do not hide the end of the connection."""
    async with router(Cloud("azure")) as r:
        r.clouds["azure"].faults.add("stall_before_head")
        async with sent(r, chat()) as call:
            call.send()
            await r.until(lambda: r.clouds["azure"].received.requests == 1)
            await gone(r, call)
