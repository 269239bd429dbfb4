"""Endpoints behind a CONNECT proxy, on both loops: what the proxy sees, what it may do wrong, and who is asked."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.emulator import Distribution, Settings
from router.jobs.outward import Outward, ProbeTarget
from tests.router_kit import API_KEY, CANARY, Cloud, RunningRouter, router
from tests.tls_kit import Authority, Issued, answer, connected, request

CHAT = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
STREAM = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi"}]}'
KEY = f"Authorization: Bearer {API_KEY}"
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """Passes bytes on, and keeps those that it saw in the clear. `reply`: what it says to CONNECT; None: nothing."""

    def __init__(self, reply: bytes | None = OK, credential: str | None = None) -> None:
        self.reply, self.credential = reply, credential
        self.heads: list[bytes] = []
        self.passed = b""  # up
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self.credential is not None and base64.b64encode(self.credential.encode()) not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nwrong")
            await writer.drain()
            return
        if self.reply is None:
            await asyncio.Event().wait()
        assert self.reply is not None
        writer.write(self.reply)
        if not self.reply.startswith(b"HTTP/1.1 200"):
            await writer.drain()
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        back = asyncio.ensure_future(self._pass(up_reader, writer))
        try:
            while data := await reader.read(1 << 16):
                self.passed += data
                up_writer.write(data)
                await up_writer.drain()
        finally:
            back.cancel()
            up_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def listening(proxy: Proxy, context: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=context)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()


def tls_cloud(authority: Authority, issued: Issued, **extra: Any) -> Cloud:
    files = {"tls_cert": str(issued.certificate), "tls_key": str(issued.key)}
    settings = Settings(tokens=Distribution(20.0), **files)  # type: ignore[arg-type]
    return Cloud("azure-east", settings=settings, extra={"ca_file": str(authority.file), **extra})


async def ask(r: RunningRouter, body: bytes = CHAT) -> tuple[int, bytes]:
    async with connected(r.port) as (reader, writer):
        writer.write(request(body, KEY))
        status, _, answered = await answer(reader)
        return status, answered


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class TestThrough:
    async def test_the_proxy_is_told_the_address_and_sees_nothing_else(self, ours: Authority) -> None:
        """TLS goes through it to the cloud's own certificate; the key and the request stay inside."""
        async with listening(Proxy()) as proxy:
            cloud = tls_cloud(ours, ours.issue("cloud"), proxy=f"http://127.0.0.1:{proxy.port}")
            async with router(cloud) as r:
                for _ in range(2):
                    assert (await ask(r))[0] == 200
                status, streamed = await ask(r, STREAM)
                assert (status, streamed.endswith(b"data: [DONE]\n\n")) == (200, True)
                authority = f"127.0.0.1:{r.clouds['azure-east'].port}"
            assert proxy.heads == [f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode()], "kept"
            assert proxy.passed[:3] == b"\x16\x03\x01"
            assert CANARY.encode() not in proxy.passed
            assert b"gpt-4o" not in proxy.passed

    async def test_tls_with_the_proxy_goes_around_tls_with_the_cloud(self, ours: Authority) -> None:
        own = ours.issue("proxy")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.certificate, own.key)
        async with listening(Proxy(credential="user:pass word"), context) as proxy:
            url = f"https://user:pass%20word@localhost:{proxy.port}"
            async with router(tls_cloud(ours, ours.issue("cloud"), proxy=url)) as r:
                assert (await ask(r))[0] == 200
                assert (await ask(r, STREAM))[0] == 200
            assert CANARY.encode() not in proxy.passed

    async def test_a_session_is_taken_up_again_inside(self, ours: Authority) -> None:
        async with listening(Proxy()) as proxy:
            cloud = tls_cloud(ours, ours.issue("cloud"), proxy=f"http://127.0.0.1:{proxy.port}")
            async with router(cloud) as r:
                backend = r.backend("azure-east")
                resumed = []
                for _ in range(2):
                    assert (await ask(r))[0] == 200
                    (connection,) = backend.pool._open
                    assert connection.tls is not None
                    resumed.append(connection.tls.session_reused)
                    backend.pool.close()
                    backend.pool._closed = False
                    await r.until(lambda: not backend.pool._open)
                assert resumed == [False, True]

    async def test_an_emulated_cloud_in_the_clear_goes_through_as_well(self) -> None:
        async with (
            listening(Proxy()) as proxy,
            router(Cloud("azure-east", extra={"proxy": f"http://127.0.0.1:{proxy.port}"})) as r,
        ):
            assert (await ask(r))[0] == 200
            assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:")

    async def test_a_probe_goes_the_same_way(self, ours: Authority) -> None:
        async with listening(Proxy()) as proxy:
            cloud = tls_cloud(ours, ours.issue("cloud"), proxy=f"http://127.0.0.1:{proxy.port}")
            async with router(cloud) as r:
                fleet, outward = r.worker.assembly.fleet, Outward(reuse=False)
                endpoint = r.backend("azure-east").deployment.endpoint
                target = ProbeTarget(endpoint, fleet.ways["azure-east"], {"api-key": CANARY}, 0.0)
                try:
                    assert (await outward.get(target, "/openai/v1/models", 5.0))[0] == 200
                    await outward.connect(target, 5.0)
                finally:
                    await outward.close()
            assert len(proxy.heads) == 2
            assert CANARY.encode() not in proxy.passed

    async def test_the_environments_proxy_is_nobodys(self, ours: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        async with listening(Proxy()) as proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            async with router(tls_cloud(ours, ours.issue("cloud"))) as r:
                assert (await ask(r))[0] == 200
                outward = Outward(reuse=False)
                endpoint = r.backend("azure-east").deployment.endpoint
                way = r.worker.assembly.fleet.ways["azure-east"]
                try:
                    assert (await outward.get(ProbeTarget(endpoint, way, {}, 0.0), "/openai/v1/models", 5.0))[0] == 401
                finally:
                    await outward.close()
            assert proxy.heads == []


class TestFailures:
    """Each is a failed connect of the deployment: nothing was sent, health hears of it, a metric says what it was."""

    @asynccontextmanager
    async def failing(self, ours: Authority, proxy: Proxy, reason: str, **extra: Any) -> AsyncIterator[RunningRouter]:
        cloud = tls_cloud(ours, ours.issue("cloud"), proxy=f"http://127.0.0.1:{proxy.port}", **extra)
        async with router(cloud) as r:
            status, body = await ask(r)
            assert (status, b"upstream_unreachable" in body) == (502, True)
            assert b"127.0.0.1" not in body, "no address of ours is shown"
            metric = "router_upstream_dial_failures_total"
            assert await r.metric(metric, deployment="azure-east/gpt-4o-dep", reason=reason) >= 1
            assert await r.metric("router_attempts_total", outcome="connect") >= 1
            assert r.clouds["azure-east"].received.requests == 0
            yield r

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "proxy_refused"),
            (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno", "proxy_refused"),
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy_auth"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "proxy_broken"),
            (b"", "proxy_broken"),
            (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", "proxy_broken"),  # bytes that no endpoint can have sent
            (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "proxy_broken"),
            (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 3000, "proxy_broken"),
        ],
    )
    async def test_what_a_proxy_says_instead(self, ours: Authority, reply: bytes, reason: str) -> None:
        async with listening(Proxy(reply)) as proxy, self.failing(ours, proxy, reason):
            pass

    async def test_one_that_wants_other_credentials(self, ours: Authority) -> None:
        async with listening(Proxy(credential="user:right")) as proxy, self.failing(ours, proxy, "proxy_auth"):
            pass

    async def test_one_that_hangs_has_until_the_connect_timeout(self, ours: Authority) -> None:
        timeouts = {"connect_s": 0.3}
        async with listening(Proxy(None)) as proxy, self.failing(ours, proxy, "timeout", timeouts=timeouts):
            pass

    async def test_one_that_is_not_there(self, ours: Authority) -> None:
        proxy = Proxy()
        async with listening(proxy):
            pass
        async with self.failing(ours, proxy, "proxy_unreachable"):
            pass

    async def test_a_certificate_for_another_name_behind_it(self, ours: Authority) -> None:
        """A proxy that leads elsewhere has not the name's certificate."""
        async with listening(Proxy()) as proxy:
            other = tls_cloud(ours, ours.issue("cloud", "elsewhere.example"), proxy=f"http://127.0.0.1:{proxy.port}")
            async with router(other) as r:
                assert (await ask(r))[0] == 502
                metric = "router_upstream_dial_failures_total"
                assert await r.metric(metric, deployment="azure-east/gpt-4o-dep", reason="certificate") >= 1
                assert r.clouds["azure-east"].received.requests == 0


async def test_the_endpoint_knows_us_by_our_certificate(ours: Authority, tmp_path: Path) -> None:
    """And one that was renewed is used from the reload on, while the deployment stays what it was."""
    routers = Authority(tmp_path, "routers")
    mine, seen = routers.issue("mine", "router.example", common_name="first"), list[str]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = writer.get_extra_info("peercert")["subject"]
        seen.append(next(value for part in subject for name, value in part if name == "commonName"))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    own = ours.issue("cloud")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    context.load_verify_locations(routers.file)
    context.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    files = {"client_certificate": str(mine.certificate), "client_key": str(mine.key), "ca_file": str(ours.file)}
    cloud = Cloud("azure-east", extra={**files, "base_url": f"https://127.0.0.1:{port}"})
    try:
        async with router(cloud) as r:
            backend = r.backend("azure-east")
            for _ in range(2):
                assert (await ask(r))[0] == 200
            routers.issue("mine", "router.example", common_name="second")
            assert not (await r.worker.reload()).faults
            assert (await ask(r))[0] == 200
            assert seen == ["first", "second"]
            assert r.backend("azure-east") is backend
            name = "endpoints.azure-east.client_certificate"
            assert await r.metric("router_certificate_left_seconds", certificate=name) > 0
    finally:
        server.close()
