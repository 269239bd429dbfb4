"""What Windows would have of it: no uvloop, no fork, no Unix sockets, a loop without signals and without readers.

No Windows runs here. `bare_system` takes away from a process of Linux what Windows' Python has not.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.config.keys import digest
from tests.architecture.test_floors import FILES

BARE = Path(__file__).with_name("bare_system.py")
ROOT = BARE.parents[2]
KEY = "sk-ir-test"
ANSWER = b'{"id":"c","object":"chat.completion","model":"m","choices":[],"usage":{}}'
FILE = """
server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0, access_log: LOG, SERVER}
keys: [{name: k, workload: w, sha256: HASH, models: ["*"]}]
workloads: {w: {placement: {rule: exclusive, cloud: azure}}}
endpoints:
  a:
    cloud: azure
    provider: azure_openai
    base_url: http://127.0.0.1:PORT
    auth: {api_key: secret}
    emulated: true
    probe: false
    deployments: [{name: d, model: m}]
"""


async def bare(*arguments: str) -> asyncio.subprocess.Process:
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(sys.executable, str(BARE), *arguments, env=environ, **pipes)  # type: ignore[arg-type]


@asynccontextmanager
async def cloud() -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (len(ANSWER), ANSWER)
            )
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def written(folder: Path, port: int, server: str = "drain_s: 5") -> str:
    file = folder / "router.yaml"
    values = {"SERVER": server, "HASH": digest(KEY).hex(), "PORT": str(port), "LOG": str(folder / "access.log")}
    text = FILE
    for name, value in values.items():
        text = text.replace(name, value)
    file.write_text(text)
    return str(file)


async def test_each_module_can_be_imported() -> None:
    process = await bare("import")

    out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    assert int(out) > len(FILES) / 2


async def ask(port: int, path: str = "/v1/chat/completions", times: int = 1) -> list[bytes]:
    """So many requests on one connection; returns their status lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body, said = b'{"model":"m","messages":[]}', []
    for _ in range(times):
        writer.write(
            b"POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer %s\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (path.encode(), port, KEY.encode(), len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        said.append(head.partition(b"\r\n")[0])
    writer.close()
    return said


async def test_requests_are_served_and_a_drain_ends_well(tmp_path: Path) -> None:
    async with cloud() as port, asyncio.timeout(60):
        process = await bare("serve", "--config", written(tmp_path, port))
        try:
            assert process.stderr is not None
            told = b""
            while not told.startswith(b"ready: "):
                told = await process.stderr.readline()
                assert told, "it ended"
            data, admin = (int(url.rpartition(b":")[2].split(b"/")[0]) for url in told.split(b","))

            assert await ask(data, times=3) == [b"HTTP/1.1 200 OK"] * 3
            assert await ask(admin, "/reload") == [b"HTTP/1.1 200 OK"]

            process.send_signal(signal.SIGTERM)
            _, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 0, err.decode()
    log = (tmp_path / "access.log").read_text()
    assert sum('"status":200' in line for line in log.splitlines()) == 3
    assert '"drained"' in log
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("server", "said"),
    [("workers: 2", "server.workers: of more than one"), ("proxy_protocol: true", "server.proxy_protocol: needs")],
)
async def test_what_cannot_work_is_refused(tmp_path: Path, server: str, said: str) -> None:
    process = await bare("serve", "--config", written(tmp_path, 9, server))

    _, err = await process.communicate()

    assert process.returncode == 1
    assert said in err.decode()
