"""What a client leaves unread is bounded, and an answer that nothing proves whole is no success."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from router.transport.client_connection import TURNED_AWAY_MAX
from tests.adversity.client import ask, chat
from tests.router_kit import API_KEY, Cloud, RunningRouter, router

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n"
HALF = b'data: {"choices":[{"index":0,"delta":{"content":"half"},"finish_reason":null}]}\n\n'


@asynccontextmanager
async def answering(answer: bytes, *, keep: bool = False) -> AsyncIterator[RunningRouter]:
    """A router in front of a deployment that gives these bytes to everything, and reads the head of a request only."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if keep:
            await asyncio.sleep(5)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4096)
    async with listening, router(Cloud("azure"), leaves=True) as r:
        config = orjson.loads(r.file.read_bytes())
        config["endpoints"]["azure"]["base_url"] = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        r.file.write_bytes(orjson.dumps(config))
        assert (await r.worker.reload()).ok
        yield r


async def test_a_client_that_never_reads_is_not_served_on() -> None:
    """Answers that need no key would otherwise pile up in the process as fast as they can be asked for."""
    async with router(Cloud("azure"), leaves=True) as r:
        with socket.create_connection(("127.0.0.1", r.port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            request = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
            loop = asyncio.get_running_loop()
            server = r.worker.assembly.gateway.server
            for sent in range(60_000):
                try:
                    async with asyncio.timeout(0.2):
                        await loop.sock_sendall(raw, request)
                except TimeoutError:
                    break
                except ConnectionError:
                    break
                if sent % 2000 == 0:
                    await asyncio.sleep(0)
            for connection in server.connections:
                assert connection.transport is not None
                assert connection.transport.get_write_buffer_size() < 1 << 20


async def test_connections_beyond_the_bound_do_not_linger_without_end() -> None:
    async with router(Cloud("azure"), server={"connections_max": 1}) as r:
        held = [socket.create_connection(("127.0.0.1", r.port)) for _ in range(TURNED_AWAY_MAX + 40)]
        server = r.worker.assembly.gateway.server
        await r.until(lambda: len(server.turned_away) == TURNED_AWAY_MAX)
        assert len(server.connections) == 1
        for raw in held:
            raw.close()
        await r.until(lambda: not server.turned_away and not server.connections)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD % (b"text/plain", b"") + HALF,
        HEAD % (b"application/octet-stream", b"content-length: %d\r\n" % len(HALF)) + HALF,
        HEAD % (b"text/event-stream", b"content-encoding: gzip\r\n") + HALF,
    ],
    ids=["plain text", "bytes", "encoded"],
)
async def test_a_stream_that_nothing_proves_whole_is_refused_before_it_begins(answer: bytes) -> None:
    async with answering(answer) as r:
        reply = await ask(r, chat(stream=True))
        assert reply.status == 502
        assert b"half" not in reply.body


async def test_an_encoded_answer_is_refused() -> None:
    async with answering(
        HEAD % (b"application/json", b"content-encoding: gzip\r\ncontent-length: 2\r\n") + b"\x1f\x8b"
    ) as r:
        assert (await ask(r, chat())).status == 502


async def test_an_early_answer_leaves_no_connection_behind() -> None:
    """The rest of its request still stands in the buffer, in front of whatever would be sent next."""
    early = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    async with answering(early, keep=True) as r:
        large = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * (20 << 20)}]}
        body = orjson.dumps(large)
        reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\napi-key: {API_KEY}\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        assert (await reader.readline()).split()[1] == b"400"
        (backend,) = r.worker.assembly.fleet.backends.values()
        assert backend.pool.idle == 0
        writer.close()


async def test_what_a_chunk_says_beside_its_size_stays_here() -> None:
    done = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    framed = b"".join(b"%x;host=secret-node\r\n%b\r\n" % (len(part), part) for part in (HALF, HALF, done))
    async with answering(HEAD % (b"text/event-stream", b"transfer-encoding: chunked\r\n") + framed + b"0\r\n\r\n") as r:
        reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
        body = orjson.dumps({"model": "gpt-4o", "stream": True, "messages": []})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\napi-key: {API_KEY}\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        answer = await reader.read()
        assert b"half" in answer
        assert answer.endswith(b"0\r\n\r\n")
        assert b"secret-node" not in answer
        writer.close()
