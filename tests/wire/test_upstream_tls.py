"""TLS to upstreams, against a real server: verified names and authorities, and sessions that are taken up again."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme

from router.config.load import load
from router.telemetry import names
from router.worker import Worker
from tests.router_kit import API_KEY, write_config

ANSWER = b'{"id":"x","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
CHAT = {"model": "gpt-4o", "messages": []}


class TlsCloud:
    """Answers every request with `ANSWER`, closes after each, and remembers which handshakes were resumed."""

    def __init__(self) -> None:
        self.resumed: list[bool] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            self.resumed.append(writer.get_extra_info("ssl_object").session_reused)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n")
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


@asynccontextmanager
async def tls_router(
    folder: Path, name: str, *, trusted: bool = True, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> AsyncIterator[tuple[Worker, TlsCloud]]:
    """A router in front of a cloud whose certificate says `name`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    authority.issue_cert(name).configure_cert(context)
    (trustme.CA() if not trusted else authority).cert_pem.write_to_path(folder / "ca.pem")
    cloud = TlsCloud()
    listening = await asyncio.start_server(cloud.serve, "127.0.0.1", 0, ssl=context)
    cloud.port = listening.sockets[0].getsockname()[1]
    try:
        async with routed(folder, cloud) as worker:
            yield worker, cloud
    finally:
        listening.close()


@asynccontextmanager
async def routed(folder: Path, cloud: TlsCloud) -> AsyncIterator[Worker]:
    """A router in front of it, which trusts what `ca.pem` holds."""
    section = {
        "cloud": "azure",
        "provider": "azure_openai",
        "api_version": "v1",
        "base_url": f"https://localhost:{cloud.port}",
        "auth": {"api_key": "secret"},
        "emulated": True,
        "ca_file": str(folder / "ca.pem"),
        "deployments": [{"model": "gpt-4o", "name": "dep"}],
    }
    write_config(folder / "router.yaml", {"azure": section}, folder / "access.log")
    worker = Worker(folder / "router.yaml", {}, load(str(folder / "router.yaml"), {}))
    await worker.start()
    try:
        yield worker
    finally:
        await worker.close()


async def ask(worker: Worker) -> tuple[int, str]:
    url = f"http://127.0.0.1:{worker.port}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=CHAT, headers={"api-key": API_KEY}) as response,
    ):
        return response.status, await response.text()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_taken_up_again(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with tls_router(tmp_path, "localhost", version=version) as (worker, cloud):
        for _ in range(3):
            assert (await ask(worker))[0] == 200
        assert cloud.resumed == [False, True, True]


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    async with tls_router(tmp_path, "elsewhere.example") as (worker, cloud):
        status, text = await ask(worker)
        assert (status, "upstream_unreachable" in text) == (502, True)
        assert cloud.resumed == []


async def test_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    async with tls_router(tmp_path, "localhost", trusted=False) as (worker, cloud):
        assert (await ask(worker))[0] == 502
        assert cloud.resumed == []


async def test_what_a_dial_takes_is_told_apart_from_its_handshake(tmp_path: Path) -> None:
    """The kernel takes the connection at once; the cloud looks at it late."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    cloud = TlsCloud()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        cloud.port = listening.getsockname()[1]
        async with routed(tmp_path, cloud) as worker:
            asked = asyncio.ensure_future(ask(worker))
            await asyncio.sleep(0.4)
            async with await asyncio.start_server(cloud.serve, sock=listening, ssl=context):
                assert (await asked)[0] == 200
            reading = await worker.reading()

    connect = reading.histograms[names.UPSTREAM_CONNECT.name]["azure/dep",]
    handshake = reading.histograms[names.UPSTREAM_TLS.name]["azure/dep",]
    assert sum(connect.counts) == sum(handshake.counts) == 1
    assert connect.sum < 0.2 < handshake.sum < 5.0
