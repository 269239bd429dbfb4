"""The file that is read, and the command that serves it; plain mode."""

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from openai import AsyncOpenAI

import router
from router.emulator import (
    Deployment,
    Distribution,
    EmulatorConfigError,
    Kind,
    load_endpoints,
)
from router.emulator.plain import PlainServer, PlainSettings
from tests.conformance.emulator.kit import CHAT, parse, request_bytes, validate

ROOT = Path(router.__file__).parent.parent
FILE = """
server: {listen: 127.0.0.1:0}
endpoints:
  azure-eastus2:
    cloud: azure
    provider: azure_openai
    region: eastus2
    base_url: http://127.0.0.1:PORT
    api_version: v1
    auth: {api_key: "${AZURE_KEY}"}
    emulated: true
    emulator:
      seed: 7
      quota: true
      token_gap_ms: {median: 5, sigma: 0.4}
      faults: [{kind: status, status: 429, retry_after: 2, times: 1}]
    deployments:
      - {model: gpt-4o, name: gpt-4o-ptu, kind: provisioned, tier: 0, tpm: 450000, operations: [chat], new_key: 1}
  elsewhere: {cloud: azure, provider: azure_openai, base_url: "https://contoso.openai.azure.com"}
"""


def written(folder: Path, text: str = FILE, port: int = 1) -> Path:
    file = folder / "router.yaml"
    file.write_text(text.replace("PORT", str(port)))
    return file


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_only_emulated_endpoints_are_read(tmp_path: Path) -> None:
    (endpoint,) = load_endpoints(written(tmp_path, port=9001), {"AZURE_KEY": "k"})

    assert (endpoint.id, endpoint.dialect, endpoint.port, endpoint.key) == ("azure-eastus2", "azure_openai", 9001, "k")
    assert endpoint.deployments == (Deployment("gpt-4o-ptu", "gpt-4o", 450_000, None, frozenset({"chat"})),)
    assert endpoint.settings.token_gap_ms == Distribution(5.0, 0.4)
    assert endpoint.settings.faults[0].kind is Kind.STATUS


def test_certificates_lie_beside_the_file(tmp_path: Path) -> None:
    text = FILE.replace("http://127", "https://127").replace("seed: 7", "tls_cert: c.pem\n      tls_key: /k.pem")

    (endpoint,) = load_endpoints(written(tmp_path, text), {"AZURE_KEY": "k"})

    assert endpoint.tls
    assert (endpoint.settings.tls_cert, endpoint.settings.tls_key) == (str(tmp_path / "c.pem"), "/k.pem")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed: 7", "sead: 7", "unknown key 'sead'"),
        ("seed: 7", "seed: 7.5", "emulator.seed: must be a whole number"),
        ("quota: true", "quota: 1", "emulator.quota: must be true or false"),
        ("median: 5,", "", "has no median"),
        ("kind: status", "kind: stat", r"faults\[0\].kind: must be one of"),
        ("status: 429", "status: 42", "must be a status from 100"),
        ("azure_openai\n", "anthropic\n", "provider 'anthropic' is not emulated"),
        ("http://127.0.0.1:PORT", "http://192.0.2.1:80", "must be on loopback"),
        ("http://127.0.0.1", "https://127.0.0.1", "tls_cert and emulator.tls_key are needed"),
        ("${AZURE_KEY}", "${NOT_SET}", "NOT_SET is not set"),
        ("emulated: true", "emulated: false", "no endpoint is marked"),
        ("endpoints:", "endpoint:", "has no endpoints"),
        ("server: {", "server: [", "cannot be read"),
    ],
)
def test_a_bad_file_is_told_by_its_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in FILE
    with pytest.raises(EmulatorConfigError, match=says):
        load_endpoints(written(tmp_path, FILE.replace(old, new)), {"AZURE_KEY": "k"})


@asynccontextmanager
async def command(*arguments: str, **environ: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router.cli.emulate", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, **environ},
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def lines_until_ready(process: Process) -> list[str]:
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(10):
        while not lines or lines[-1] not in ("ready", ""):
            lines.append((await process.stdout.readline()).decode().strip())
    return lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_serves_a_file_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    async with command("--config", str(written(tmp_path, port=port)), AZURE_KEY="k") as process:
        lines = await lines_until_ready(process)
        assert lines == [f"azure-eastus2  azure_openai  http://127.0.0.1:{port}  gpt-4o-ptu", "ready"]
        async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/openai/v1/", api_key="k", max_retries=1) as sdk:
            answer: Any = await sdk.chat.completions.create(**CHAT)  # type: ignore[call-overload]
        assert answer.choices[0].message.content.startswith("gpt-4o-ptu")

        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, text in (
            (
                ("--config", str(written(tmp_path, port=port))),
                f"azure-eastus2: cannot listen at http://127.0.0.1:{port}",
            ),
            (("--config", str(tmp_path / "missing.yaml")), "cannot be read"),
            (("--plain", str(port)), "address already in use"),
        ):
            async with command(*arguments, AZURE_KEY="k") as process:
                _, errors = await asyncio.wait_for(process.communicate(), 10)
            assert process.returncode == 1
            assert text in errors.decode()
            assert "Traceback" not in errors.decode()


@asynccontextmanager
async def plain(settings: PlainSettings, tls: ssl.SSLContext | None = None) -> Any:
    server = await PlainServer(settings).listen("127.0.0.1", 0, tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def read_until(port: int, end: bytes, **fields: Any) -> bytes:
    """The plain server keeps every connection: what it answers, until it ends so."""
    request = request_bytes("POST", "/openai/v1/chat/completions", json.dumps({**CHAT, **fields}).encode(), {})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    data = b""
    async with asyncio.timeout(5):
        while not data.endswith(end):
            data += await reader.read(65536)
    writer.close()
    return data


async def test_plain_answers_have_their_size_and_are_valid() -> None:
    async with plain(PlainSettings(answer_bytes=1000)) as port:
        reply = parse(await read_until(port, b"}}"))

    assert len(reply.body) == 1000
    validate("openai-chat", "CreateChatCompletionResponse", reply.json())


@pytest.mark.parametrize("gap_ms", [0.0, 1.0])
async def test_plain_streams(gap_ms: float) -> None:
    async with plain(PlainSettings(stream_events=10, gap_ms=gap_ms)) as port:
        bare = await read_until(port, b"0\r\n\r\n", stream=True)
        counted = await read_until(port, b"0\r\n\r\n", stream=True, stream_options={"include_usage": True})

    events = parse(bare).events()
    assert len(events) == 11
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert parse(bare).body.endswith(b"data: [DONE]\n\n")
    assert bare.count(b"\r\ndata: ") == 12, "each event is a chunk of its own"
    usage = parse(counted).events()
    assert usage[-1]["choices"] == []
    assert [event["usage"] is None for event in usage] == [True] * 11 + [False]
    for event in usage:
        validate("openai-chat", "CreateChatCompletionStreamResponse", event)


async def test_plain_reads_requests_in_any_pieces() -> None:
    async with plain(PlainSettings()) as port:
        body = b'{"model": "a"}'
        request = request_bytes("POST", "/openai/v1/chat/completions", body, {"Content-Type": "application/json"})
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for at in range(0, len(request), 7):
            writer.write(request[at : at + 7])
            await asyncio.sleep(0)
        writer.write(request + request)
        data = b""
        async with asyncio.timeout(5):
            while data.count(b'"usage"') < 3:
                data += await reader.read(65536)
        writer.close()

    assert data.count(b"HTTP/1.1 200 OK") == 3


async def test_plain_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.configure_trust(client_side)
    async with plain(PlainSettings(), server_side) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side)
        writer.write(request_bytes("POST", "/", b"{}", {}))
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()

    assert head.startswith(b"HTTP/1.1 200")
