"""The router as an operator meets it: a process, its signals, its exit status and all that it says."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from router.config.keys import digest
from router.emulator import Distribution, EmulatedCloud, Settings
from tests.adversity.client import Call, ask, chat, sent
from tests.router_kit import API_KEY, CANARY, Cloud, write_config

ROOT = Path(__file__).parents[2]
SECRETS = (CANARY, API_KEY, digest(API_KEY).hex(), "admin-token-canary", "a secret prompt")


@dataclass
class Running:
    """A router process, ready to serve."""

    process: Process
    file: Path
    log: Path
    port: int
    admin_port: int
    cloud: EmulatedCloud

    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.log.read_text().splitlines()]

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines() if "event" in line]

    async def until_event(self, name: str) -> None:
        async with asyncio.timeout(10):
            while name not in self.events():
                await asyncio.sleep(0.02)

    async def admin(self, path: str, method: str = "GET") -> int:
        headers = {"authorization": "Bearer admin-token-canary"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"http://127.0.0.1:{self.admin_port}{path}") as answer,
        ):
            await answer.read()
            return answer.status

    async def ended(self, within_s: float = 15.0) -> tuple[int, str]:
        """Exit status, and all that was said on both outputs."""
        async with asyncio.timeout(within_s):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, (out + err).decode()


async def serve(file: Path, **environ: str) -> Process:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDEVMODE": "", **environ}
    command = (sys.executable, "-m", "router", "serve", "--config", str(file))
    return await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=env, cwd=ROOT)


@contextlib.asynccontextmanager
async def running(folder: Path, *, environ: Mapping[str, str] | None = None, **settings: Any) -> AsyncIterator[Running]:
    """A process that has logged `started`; what is left of it at the end is killed."""
    described = Cloud("azure", settings=Settings(**settings))
    file, log = folder / "router.yaml", folder / "access.log"
    log.touch()
    async with described.emulated() as cloud:
        section = described.section(cloud.base_url)
        section["auth"] = {"api_key": "${UPSTREAM_KEY}"}
        write_config(file, {"azure": section}, log, server={"drain_s": 10, "admin_token": "${ADMIN_TOKEN}"})
        process = await serve(file, UPSTREAM_KEY=CANARY, ADMIN_TOKEN="admin-token-canary", **environ or {})
        try:
            router = Running(process, file, log, 0, 0, cloud)
            started = asyncio.create_task(router.until_event("started"))
            died = asyncio.create_task(process.wait())
            await asyncio.wait({started, died}, return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                pytest.fail(f"did not start: {await router.ended()}")
            died.cancel()
            await started
            line = next(line for line in router.lines() if line.get("event") == "started")
            router.port, router.admin_port = line["port"], line["admin_port"]
            yield router
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def stream_begun(calls: list[Call]) -> None:
    await asyncio.gather(*(call.some(b'"content":') for call in calls))


async def test_sigterm_lets_streams_finish(tmp_path: Path) -> None:
    slow = {"tokens": Distribution(40.0), "token_gap_ms": Distribution(25.0)}
    async with running(tmp_path, **slow) as r, contextlib.AsyncExitStack() as stack:
        calls = [await stack.enter_async_context(sent(r, chat(stream=True))) for _ in range(10)]
        idle_reader, _ = await asyncio.open_connection("127.0.0.1", r.port)
        await stream_begun(calls)
        assert await r.admin("/readyz") == 200

        r.process.send_signal(signal.SIGTERM)
        await r.until_event("draining")

        assert await r.admin("/readyz") == 503
        assert await r.admin("/healthz") == 200
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", r.port)
        assert await asyncio.wait_for(idle_reader.read(), 5) == b"", "an idle connection is closed"
        replies = await asyncio.gather(*(call.rest() for call in calls))
        status, said = await r.ended()

        assert status == 0
        assert all(reply.complete for reply in replies)
        lines = r.lines()
        assert [line["outcome"] for line in lines if "event" not in line] == ["ok"] * 10
        assert r.events()[0] == "started"
        assert r.events()[-2:] == ["draining", "drained"]
        quiet(said + r.log.read_text())


async def test_requests_that_come_on_open_connections_meanwhile_are_not_lost(tmp_path: Path) -> None:
    """A request that was on its way when the signal came is answered, and told that the connection ends."""
    async with running(tmp_path, head_ms=Distribution(300.0)) as r, sent(r, chat()) as call:
        async with asyncio.timeout(5):
            while not r.cloud.received.requests:
                await asyncio.sleep(0.01)
        r.process.send_signal(signal.SIGTERM)
        await r.until_event("draining")
        reply = await call.rest()
        assert (reply.status, reply.whole) == (200, True)
        assert reply.headers["connection"] == "close"
        assert (await r.ended())[0] == 0


async def test_a_second_sigterm_ends_at_once(tmp_path: Path) -> None:
    slow = {"tokens": Distribution(2000.0), "token_gap_ms": Distribution(25.0)}
    async with running(tmp_path, **slow) as r, sent(r, chat(stream=True)) as call:
        await stream_begun([call])
        r.process.send_signal(signal.SIGTERM)
        await r.until_event("draining")
        assert r.process.returncode is None

        r.process.send_signal(signal.SIGTERM)
        status, _ = await r.ended(within_s=3)

        assert status == 0
        assert not (await call.rest()).whole
        lines = [line for line in r.lines() if "event" not in line]
        assert len(lines) == 1, "what was cut off is in the log too"


async def test_a_drain_is_bounded(tmp_path: Path) -> None:
    slow = {"tokens": Distribution(2000.0), "token_gap_ms": Distribution(25.0)}
    async with running(tmp_path, **slow) as r, sent(r, chat(stream=True)) as call:
        config = orjson.loads(r.file.read_bytes())
        config["server"]["drain_s"] = 0.3
        r.file.write_bytes(orjson.dumps(config))
        assert await r.admin("/reload", "POST") == 200
        await stream_begun([call])

        r.process.send_signal(signal.SIGTERM)
        status, _ = await r.ended(within_s=5)

        assert status == 0
        reply = await call.rest()
        assert not reply.whole
        assert reply.told_error, "a stream that the router itself cuts says so"
        assert r.events()[-3:] == ["draining", "drain_timeout", "drained"]
        assert [line["outcome"] for line in r.lines() if "event" not in line] == ["stream_broken"]


async def test_sighup_reloads(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        r.process.send_signal(signal.SIGHUP)
        await r.until_event("reloaded")
        r.file.write_text("workloads: 7\n")
        r.process.send_signal(signal.SIGHUP)
        await r.until_event("reload_refused")
        assert (await ask(r, chat())).status == 200
        r.process.send_signal(signal.SIGINT)
        assert (await r.ended())[0] == 0


async def test_it_says_no_secret(tmp_path: Path) -> None:
    """Whatever is asked, refused, reloaded or broken: neither output, log nor control plane shows one."""
    async with running(tmp_path) as r:
        for fault in ({"status": 401}, {"status": 500}, {"status": 400}, {"status": 429}):
            r.cloud.faults.clear()
            r.cloud.faults.add("status", **fault)
            await ask(r, chat(messages=[{"role": "user", "content": "a secret prompt"}]))
            await ask(r, chat(key="sk-ir-wrong-" + "a secret prompt".replace(" ", "-")))
        config = orjson.loads(r.file.read_bytes())
        config["endpoints"]["azure"]["auth"] = {"api_key": CANARY, "bearer": CANARY}
        r.file.write_bytes(orjson.dumps(config))
        assert await r.admin("/reload", "POST") == 409
        said = b""
        headers = {"authorization": "Bearer admin-token-canary"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for path in ("/status", "/metrics", "/nothing", "/healthz", "/readyz"):
                async with session.get(f"http://127.0.0.1:{r.admin_port}{path}") as answer:
                    said += await answer.read()
            async with session.post(f"http://127.0.0.1:{r.admin_port}/reload") as answer:
                said += await answer.read()
        r.process.send_signal(signal.SIGTERM)
        status, output = await r.ended()
        assert status == 0
        quiet(output + said.decode() + r.log.read_text())


def quiet(text: str) -> None:
    assert text
    for secret in SECRETS:
        assert secret not in text


async def test_a_bad_configuration_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    file.write_text(f"workloads: 7\nendpoints: {{a: {{auth: {{api_key: {CANARY}}}, nonsense: 1}}}}\n")
    process = await serve(file)
    out, err = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 1
    said = (out + err).decode()
    assert "nonsense" in said
    assert "Traceback" not in said
    quiet(said)


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    cloud = Cloud("azure")
    file = tmp_path / "router.yaml"
    folder = tmp_path / "a-file"
    folder.touch()
    write_config(
        file, {"azure": cloud.section("http://127.0.0.1:9")}, tmp_path / "log", decision_log={"dir": str(folder)}
    )
    process = await serve(file)
    _, err = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 1
    assert f"cannot start: {folder}" in err.decode()
    assert "Not a directory" in err.decode()


@pytest.mark.parametrize("plane", ["listen", "admin"])
async def test_a_port_that_is_taken_is_said_plainly(tmp_path: Path, plane: str) -> None:
    cloud = Cloud("azure")
    file = tmp_path / "router.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        write_config(file, {"azure": cloud.section("http://127.0.0.1:9")}, tmp_path / "log", server={plane: address})
        process = await serve(file)
        out, err = await asyncio.wait_for(process.communicate(), 15)
    said = (out + err).decode()
    assert process.returncode == 1
    assert "cannot start" in said
    assert f"{address}: Address already in use" in said
    assert "Traceback" not in said
    quiet(said)
