"""A running router over real sockets: bad input of every kind, real clients, slow readers, and what the kernel does."""

import asyncio
import json
import shutil
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.emulator import Distribution, Settings
from tests.router_kit import API_KEY, Cloud, RunningRouter, router
from tests.wire.fakes import Reply, replies
from tests.wire.test_inbound_rules import RULES
from tests.wire.whole_router import body_of, request

GOOD = request(body_of(stream=False))
STREAM = request(body_of(stream=True))
MIB = 1 << 20


@asynccontextmanager
async def azure(settings: Settings | None = None, **config: object) -> AsyncIterator[RunningRouter]:
    async with router(Cloud("azure-east", settings=settings or Settings()), **config) as r:
        yield r


async def said(r: RunningRouter, data: bytes, *, within_s: float = 5.0) -> bytes:
    """Sends bytes and returns all that comes until the router ends the connection or nothing more is due."""
    reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
    writer.write(data)
    out = b""
    try:
        async with asyncio.timeout(within_s):
            while piece := await reader.read(65536):
                out += piece
    finally:
        writer.transport.abort()
    return out


async def one(r: RunningRouter, data: bytes) -> Reply:
    """The first answer on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return next(replies(head + await reader.readexactly(length)))
    finally:
        writer.transport.abort()


def post(path: str, body: bytes = b"{}", fields: str = "", method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\n{fields}"
    return (head + f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


CHAT = "/v1/chat/completions"
BAD_INPUT: dict[str, tuple[bytes, int, str]] = {
    "no key": (GOOD.replace(API_KEY.encode(), b""), 401, "invalid_api_key"),
    "unknown key": (GOOD.replace(API_KEY.encode(), b"sk-ir-other"), 401, "invalid_api_key"),
    "two keys": (post(CHAT, fields="api-key: other\r\n"), 401, "invalid_api_key"),
    "unknown path": (post("/v1/chat"), 404, "unknown_path"),
    "wrong method": (post(CHAT, method="PUT"), 405, "method_not_allowed"),
    "encoded body": (post(CHAT, fields="Content-Encoding: gzip\r\n"), 415, "content_encoding"),
    "no body": (post(CHAT, b""), 400, "missing_body"),
    "no JSON": (post(CHAT, b"hello"), 400, "invalid_json"),
    "no object": (post(CHAT, b"[1]"), 400, "invalid_json"),
    "no model": (post(CHAT), 400, "missing_model"),
    "model no string": (post(CHAT, b'{"model":5}'), 400, "invalid_type"),
    "unknown model": (post(CHAT, b'{"model":"other"}'), 404, "model_not_found"),
    "wrong operation": (post("/v1/embeddings", b'{"model":"gpt-4o"}'), 404, "unsupported_operation"),
    "twice": (post(CHAT, b'{"model":"gpt-4o","model":"x"}'), 400, "duplicate_key"),
    "deep": (post(CHAT, b'{"model":"gpt-4o","x":' + b"[" * 100_000), 400, "invalid_json"),
    "no form": (post("/v1/images/edits"), 400, "invalid_content_type"),
    "stored state": (post("/v1/files"), 400, "stateful_needs_ledger"),
    "long body": (post(CHAT, b"x" * (2 * MIB)), 413, "body_too_large"),
    "long target": (post("/" + "a" * 9000), 414, "target_too_long"),
    "long head": (post(CHAT, fields="x: " + "a" * 70_000 + "\r\n"), 431, "head_too_large"),
}


async def test_bad_input_gets_a_clear_error_and_the_process_goes_on() -> None:
    async with azure(server={"body_bytes_max": "1MiB"}) as r:
        for name, (data, status, code) in BAD_INPUT.items():
            reply = await one(r, data)
            error = json.loads(reply.body)["error"]
            assert (reply.status, error["code"]) == (status, code), name
            assert error["message"], name
            assert error["type"] in ("invalid_request_error", "server_error"), name
            assert reply.fields[b"x-request-id"].startswith(b"req_"), name
            assert reply.fields[b"content-type"] == b"application/json", name
        assert (await one(r, GOOD)).status == 200
        assert r.clouds["azure-east"].received.requests == 1


async def test_malformed_http_gets_a_clear_error_and_the_process_goes_on() -> None:
    async with azure() as r:
        for name, (data, status, code) in RULES.items():
            if status != 200:
                reply = next(replies(await said(r, data)))
                error = json.loads(reply.body)["error"]
                assert (reply.status, error["code"]) in ((status, code), (401, "invalid_api_key")), name
        assert (await one(r, GOOD)).status == 200
        assert r.clouds["azure-east"].received.requests == 1


async def test_bytes_in_any_pieces_over_a_socket() -> None:
    async with azure() as r:
        reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GOOD:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        writer.transport.abort()


@pytest.mark.parametrize("size", [1000, 200_000, 5 * MIB])
async def test_an_early_answer_arrives_whole_whatever_the_client_still_sends(size: int) -> None:
    """Bytes that nobody reads would make the kernel send a reset, and a reset destroys what the client has not read."""
    async with azure() as r:
        data = post(CHAT, b"x" * size).replace(API_KEY.encode(), b"wrong")
        reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
        writer.write(data)
        await asyncio.wait_for(writer.drain(), 5)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 401 ")
        body = await asyncio.wait_for(reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0])), 5)
        assert json.loads(body)["error"]["code"] == "invalid_api_key"
        if size < 256 << 10:
            writer.write(GOOD)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 200")
        writer.transport.abort()


# -- curl, as it is


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize(
    "options",
    [
        ["--http2"],  # asks for h2c, with the body behind the head
        ["--http1.1", "-H", "Expect: 100-continue"],
        ["--http1.1", "-H", "Transfer-Encoding: chunked"],
        ["--http2", "-H", "Transfer-Encoding: chunked"],
        ["--http1.0"],
        ["--http1.1", "--next-request"],
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_curl(options: list[str], stream: bool, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    # A body that is itself a request, and long enough for curl to wait for a 100 where it asks for one.
    body.write_bytes(body_of(stream=stream, user="\r\n\r\n" + STREAM.decode(), padding="x" * 70_000))
    async with azure() as r:
        url = f"{r.url}/v1/chat/completions"
        call = ["-sS", "-i", "-H", f"api-key: {API_KEY}", "-H", "Content-Type: application/json"]
        call += ["--data-binary", f"@{body}", url]
        twice = "--next-request" in options
        kinds = [option for option in options if option != "--next-request"]
        arguments = [*kinds, *call, *(["--next", *kinds, *call] if twice else [])]
        curl = await asyncio.create_subprocess_exec("curl", *arguments, stdout=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(curl.communicate(), 20)
        assert curl.returncode == 0, out
        times = 2 if twice else 1
        assert out.count(b"HTTP/1.1 200 OK") == times, out[:500]
        assert out.count(b"[DONE]" if stream else b'"chat.completion"') == times
        received = r.clouds["azure-east"].received
        assert received.requests == times
        assert received.last is not None
        sent = json.loads(bytes(received.last.body))
        assert sent["user"] == "\r\n\r\n" + STREAM.decode()
        assert sent["model"] == "gpt-4o-dep"


# -- the other end of an answer


LONG = Settings(tokens=Distribution(20_000.0))


async def test_a_reader_that_does_not_read_pauses_the_deployment_and_holds_little() -> None:
    """Back pressure: an answer of many MiB waits at its source, not in the router."""
    async with azure(LONG) as r:
        cloud = r.clouds["azure-east"]
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", r.port))
        await loop.sock_sendall(sock, STREAM)
        server = r.worker.assembly.gateway.server
        await r.until(lambda: any(connection.write_paused for connection in server.connections))
        backend = next(iter(r.worker.assembly.fleet.backends.values()))
        upstream = next(iter(backend.pool._open))
        transport = upstream._transport
        assert transport is not None
        assert not transport.is_reading()
        inbound = next(iter(server.connections)).transport
        assert inbound is not None
        held = inbound.get_write_buffer_size()
        assert held < 512 << 10
        await asyncio.sleep(0.1)
        assert inbound.get_write_buffer_size() == held, "more was read from the deployment meanwhile"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
        out = bytearray()
        while not out.endswith(b"\r\n0\r\n\r\n"):
            piece = await asyncio.wait_for(loop.sock_recv(sock, 1 << 16), 10)
            assert piece, "the stream was cut"
            out += piece
        sock.close()
        reply = next(replies(bytes(out)))
        assert len(reply.body) > 4 * MIB
        assert reply.body.endswith(b"data: [DONE]\n\n")
        assert reply.body.count(b"\n\n") > 20_000
        assert cloud.received.aborted == 0


async def test_a_client_of_http_10_sees_a_reset_where_its_stream_was_cut() -> None:
    async with azure() as r:
        cloud = r.clouds["azure-east"]
        ask = request(body_of(stream=True), version="1.0")
        whole = await said(r, ask)
        assert whole.endswith(b"data: [DONE]\n\n")
        cloud.faults.add("cut_at", at_byte=4000)
        with pytest.raises(ConnectionResetError):
            await said(r, ask)


async def test_a_client_of_http_11_sees_an_error_event_and_no_last_chunk() -> None:
    async with azure() as r:
        r.clouds["azure-east"].faults.add("reset_at", at_byte=4000)
        out = await said(r, STREAM)
        assert not out.endswith(b"0\r\n\r\n")
        assert b'"stream_broken"' in out
        assert b"[DONE]" not in out


async def test_a_client_that_resets_in_the_middle_of_a_pipeline_is_gone() -> None:
    async with azure(Settings(head_ms=Distribution(10_000.0))) as r:
        reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
        writer.write(GOOD + GOOD)
        cloud = r.clouds["azure-east"]
        await r.until(lambda: cloud.received.requests == 1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await r.until(lambda: cloud.received.aborted == 1, within_s=1.0)
        assert cloud.received.requests == 1
        del reader


async def test_connections_beyond_the_bound_get_a_503_until_one_is_free() -> None:
    async with azure(server={"connections_max": 2}) as r:
        first = await asyncio.open_connection("127.0.0.1", r.port)
        second = await asyncio.open_connection("127.0.0.1", r.port)
        await r.until(lambda: len(r.worker.assembly.gateway.server.connections) == 2)
        refused = next(replies(await said(r, b"")))
        assert refused.status == 503
        assert refused.fields[b"retry-after"] == b"1"
        first[1].transport.abort()
        await r.until(lambda: len(r.worker.assembly.gateway.server.connections) == 1)
        assert (await one(r, GOOD)).status == 200
        second[1].transport.abort()


async def test_slow_heads_and_bodies_are_ended_in_time() -> None:
    async with azure(server={"head_timeout_s": 0.2, "body_timeout_s": 0.2, "keepalive_timeout_s": 0.3}) as r:
        head = next(replies(await said(r, GOOD[:40])))
        assert head.status == 408
        body = next(replies(await said(r, GOOD[:-5])))
        assert body.status == 408
        assert await said(r, b"") == b""
        idle = list(replies(await said(r, GOOD)))
        assert [reply.status for reply in idle] == [200]
