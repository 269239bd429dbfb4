"""PROXY headers before plain connections and before TLS, and addresses that proxies tell of: who is believed."""

import asyncio
import contextlib
import os
import shutil
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.transport.preamble import SIGNATURE
from tests.router_kit import API_KEY, Cloud, RunningRouter, router
from tests.tls_kit import Authority, answer, connected, request

CHAT = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
KEY = f"Authorization: Bearer {API_KEY}"
HERE = {"trusted_proxies": ["127.0.0.0/8"], "log_clients": True}
BEHIND = {**HERE, "proxy_protocol": True}


def header(client: str = "192.0.2.7", command: int = 0x21, more: bytes = b"") -> bytes:
    body = socket.inet_aton(client) + socket.inet_aton("10.0.0.1") + struct.pack(">HH", 4711, 443) + more
    return SIGNATURE + bytes([command, 0x11]) + len(body).to_bytes(2) + body


@asynccontextmanager
async def started(tmp_path: Path, *, tls: bool, **server: Any) -> AsyncIterator[tuple[RunningRouter, Authority]]:
    ours = Authority(tmp_path)
    own = ours.issue("server")
    section = {"tls": {"certificate": str(own.certificate), "key": str(own.key)}} if tls else {}
    async with router(Cloud("azure-east"), server={**server, **section}) as r:
        yield r, ours


async def clients(r: RunningRouter, count: int) -> list[str]:
    await r.until(lambda: len(r.records()) == count)
    return [record.get("client", "") for record in r.records()]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
class TestProxyProtocol:
    @pytest.mark.parametrize("pieces", [1, 3, 28])
    async def test_the_address_of_the_header_is_the_clients(self, tmp_path: Path, tls: bool, pieces: int) -> None:
        """However it comes: in one piece with what follows, or byte by byte."""
        async with started(tmp_path, tls=tls, **BEHIND) as (r, ours):
            preamble = header(more=b"\x04\x00\x03abc")
            async with connected(r.port) as (reader, writer):
                size = -(-len(preamble) // pieces)
                for start in range(0, len(preamble), size):
                    writer.write(preamble[start : start + size])
                    if pieces > 1:
                        await asyncio.sleep(0.002)
                if tls:
                    await writer.start_tls(ours.trusting(), server_hostname="localhost")
                for _ in range(2):
                    writer.write(request(CHAT, KEY))
                    assert (await answer(reader))[0] == 200
            assert await clients(r, 2) == ["192.0.2.7"] * 2
            assert r.worker.assembly.gateway.server.proxy_headers["ok"] == 1
            assert await r.metric("router_proxy_headers_total", result="ok") == 1

    async def test_header_and_request_in_one_write(self, tmp_path: Path, tls: bool) -> None:
        async with started(tmp_path, tls=tls, **BEHIND) as (r, ours):
            context = ours.trusting() if tls else None
            preamble = header() if tls else header() + request(CHAT, KEY)
            async with connected(r.port, context, preamble) as (reader, writer):
                if tls:
                    writer.write(request(CHAT, KEY))
                assert (await answer(reader))[0] == 200
            assert await clients(r, 1) == ["192.0.2.7"]

    async def test_a_proxys_own_check_of_health_is_served_as_its_own(self, tmp_path: Path, tls: bool) -> None:
        async with started(tmp_path, tls=tls, **BEHIND) as (r, ours):
            context = ours.trusting() if tls else None
            for preamble in (header(command=0x20), SIGNATURE + b"\x20\x00\x00\x00"):
                async with connected(r.port, context, preamble) as (reader, writer):
                    writer.write(request(CHAT, KEY))
                    assert (await answer(reader))[0] == 200
            assert await clients(r, 2) == ["127.0.0.1"] * 2
            assert r.worker.assembly.gateway.server.proxy_headers["local"] == 2

    @pytest.mark.parametrize(
        "start",
        [b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", SIGNATURE + b"\x31" * 9],
    )
    async def test_whoever_begins_otherwise_is_ended(self, tmp_path: Path, tls: bool, start: bytes) -> None:
        async with started(tmp_path, tls=tls, **BEHIND) as (r, _), connected(r.port, None, start) as (reader, _w):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            assert r.worker.assembly.gateway.server.proxy_headers["malformed"] == 1

    async def test_who_is_not_trusted_is_reset(self, tmp_path: Path, tls: bool) -> None:
        strange = {**BEHIND, "trusted_proxies": ["192.0.2.0/24"]}
        async with started(tmp_path, tls=tls, **strange) as (r, _):
            with pytest.raises(ConnectionError):
                async with connected(r.port, None, header()) as (reader, _w):
                    await asyncio.wait_for(reader.readexactly(1), 5)
            assert r.worker.assembly.gateway.server.proxy_headers["untrusted"] == 1

    async def test_a_silent_one_has_until_the_deadline(self, tmp_path: Path, tls: bool) -> None:
        async with started(tmp_path, tls=tls, handshake_timeout_s=0.3, **BEHIND) as (r, _):
            async with connected(r.port, None, header()[:20]) as (reader, _w):
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""
            assert r.worker.assembly.gateway.server.proxy_headers["timeout"] == 1


class TestForwardedFor:
    async def test_a_trusted_proxys_word_is_in_the_log(self, tmp_path: Path) -> None:
        async with started(tmp_path, tls=False, **HERE) as (r, _), connected(r.port) as (reader, writer):
            for field in (
                "X-Forwarded-For: 6.6.6.6, 192.0.2.7",
                "X-Forwarded-For: 192.0.2.8, 127.0.0.9",
                "Accept: a/b",
            ):
                writer.write(request(CHAT, KEY, field))
                assert (await answer(reader))[0] == 200
            assert await clients(r, 3) == ["192.0.2.7", "192.0.2.8", "127.0.0.1"]

    async def test_anybody_elses_is_not(self, tmp_path: Path) -> None:
        strange = {**HERE, "trusted_proxies": ["192.0.2.0/24"]}
        async with started(tmp_path, tls=False, **strange) as (r, _), connected(r.port) as (reader, writer):
            writer.write(request(CHAT, KEY, "X-Forwarded-For: 192.0.2.7"))
            assert (await answer(reader))[0] == 200
            assert await clients(r, 1) == ["127.0.0.1"]

    async def test_behind_a_proxy_header_the_client_itself_is_not_believed(self, tmp_path: Path) -> None:
        async with started(tmp_path, tls=False, **BEHIND) as (r, _), connected(r.port, None, header()) as streams:
            reader, writer = streams
            writer.write(request(CHAT, KEY, "X-Forwarded-For: 6.6.6.6"))
            assert (await answer(reader))[0] == 200
            assert await clients(r, 1) == ["192.0.2.7"]

    async def test_no_address_is_logged_unless_that_is_asked_for(self, tmp_path: Path) -> None:
        async with started(tmp_path, tls=False) as (r, _), connected(r.port) as (reader, writer):
            writer.write(request(CHAT, KEY))
            assert (await answer(reader))[0] == 200
            await r.until(lambda: r.records())
            assert "client" not in r.records()[0]

    async def test_it_goes_no_further(self, tmp_path: Path) -> None:
        async with started(tmp_path, tls=False, **HERE) as (r, _), connected(r.port) as (reader, writer):
            writer.write(request(CHAT, KEY, "X-Forwarded-For: 192.0.2.7"))
            assert (await answer(reader))[0] == 200
            last = r.clouds["azure-east"].received.last
            assert last is not None
            assert "192.0.2.7" not in str(last.headers)


missing = shutil.which("haproxy") is None and "CI" not in os.environ
needs_haproxy = pytest.mark.skipif(missing, reason="haproxy is not installed")


@needs_haproxy
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_real_haproxy_sends_its_header_and_its_checks(tmp_path: Path, tls: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with started(tmp_path, tls=tls, **BEHIND) as (r, ours):
        check = " check check-ssl verify none" if tls else " check"
        (tmp_path / "haproxy.cfg").write_text(
            f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend front
  bind 127.0.0.1:{port}
  default_backend routers
backend routers
  server r 127.0.0.1:{r.port} send-proxy-v2{check} check-send-proxy inter 50ms
"""
        )
        haproxy = await asyncio.create_subprocess_exec(
            *("haproxy", "-f", str(tmp_path / "haproxy.cfg")),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        counts = r.worker.assembly.gateway.server.proxy_headers
        try:
            await r.until(lambda: counts["local"] >= 2, within_s=10.0)  # its checks: it is up
            async with connected(port, ours.trusting() if tls else None) as (reader, writer):
                writer.write(request(CHAT, KEY))
                assert (await answer(reader))[0] == 200
            assert await clients(r, 1) == ["127.0.0.1"]
            assert counts["ok"] == 1
            assert counts["malformed"] == 0
        finally:
            haproxy.terminate()
            await haproxy.wait()
