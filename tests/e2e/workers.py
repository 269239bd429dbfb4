"""Several workers in front of emulated clouds: real processes, each found by what it answers.

For a test:

    async with workers(tmp_path, Cloud("azure")) as r:      # two of them
        r.process, r.pids                                   # the supervisor, and who serves
        lines = await r.lines_to_each()                     # an open connection to each worker
        await lines[0].ask(chat())
        await r.status(), await r.metric("router_requests_total")
"""

import asyncio
import contextlib
import json
import os
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from router.emulator import EmulatedCloud
from tests.adversity.client import Ask
from tests.e2e.test_process import serve
from tests.router_kit import API_KEY, Cloud, write_config


@dataclass
class Answer:
    """Of a request on a line. `worker`: the part of its id that is the same for all requests of a process."""

    status: int
    id: str
    body: bytes

    @property
    def worker(self) -> str:
        return self.id.rpartition("-")[0]


class Line:
    """One connection that stays open, so that one worker has all that is asked on it."""

    def __init__(self, port: int) -> None:
        self._session = aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            connector=aiohttp.TCPConnector(limit=1, force_close=False),
            headers={"authorization": f"Bearer {API_KEY}"},
        )

    async def ask(self, request: Ask) -> Answer:
        headers = {"content-type": "application/json", "authorization": f"Bearer {request.key}"}
        async with self._session.post(request.path, data=request.body, headers=headers) as answer:
            return Answer(answer.status, answer.headers["x-request-id"], await answer.read())

    async def worker(self) -> str:
        async with self._session.get("/v1/models") as answer:
            await answer.read()  # else the connection ends, and the next one may be another worker's
            return worker_of(answer.headers)

    async def knows(self, key: str) -> bool:
        """Asked what counts for no limit."""
        async with self._session.get("/v1/models", headers={"authorization": f"Bearer {key}"}) as answer:
            await answer.read()
            return answer.status == 200

    async def close(self) -> None:
        await self._session.close()


def worker_of(headers: Any) -> str:
    return str(headers["x-request-id"]).rpartition("-")[0]


@dataclass
class Workers:
    """A supervisor, ready to serve."""

    process: Process
    file: Path
    log: Path
    clouds: dict[str, EmulatedCloud]
    port: int
    admin_port: int
    pids: list[int]
    lines: list[Line] = field(default_factory=list)

    async def lines_to_each(self, count: int = 2) -> list[Line]:
        """A connection to each of so many."""
        found: dict[str, Line] = {}
        async with asyncio.timeout(10):
            while len(found) < count:
                line = Line(self.port)
                self.lines.append(line)
                if found.setdefault(await line.worker(), line) is not line:
                    await line.close()  # an even spread: nobody is asked to dial anew
        return list(found.values())

    async def admin(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url) as answer:
            return answer.status, await answer.read()

    async def status(self) -> dict[str, Any]:
        _, body = await self.admin("/status")
        status: dict[str, Any] = orjson.loads(body)
        return status

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of /metrics that have this name and these labels."""
        _, page = await self.admin("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(page.decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def metric_is(self, name: str, value: float) -> bool:
        return await self.metric(name) == value

    def records(self) -> list[dict[str, Any]]:
        return [line for line in self._logged() if "event" not in line]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self._logged() if line.get("event") == name]

    def _logged(self) -> Iterator[dict[str, Any]]:
        return map(json.loads, self.log.read_text().rpartition("\n")[0].splitlines())

    def write(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Changes the configuration's file."""
        config = orjson.loads(self.file.read_bytes())
        change(config)
        self.file.write_bytes(orjson.dumps(config))

    async def ended(self, within_s: float = 15.0) -> tuple[int, str]:
        """Exit status, and all that was said on both outputs."""
        async with asyncio.timeout(within_s):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, (out + err).decode()


async def until(condition: Callable[[], object | Awaitable[object]], within_s: float = 10.0) -> None:
    """Waits until `condition()` holds. Raises AssertionError when it does not in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextlib.asynccontextmanager
async def emulated(*described: Cloud) -> AsyncIterator[dict[str, EmulatedCloud]]:
    """Starts clouds."""
    async with contextlib.AsyncExitStack() as stack:
        clouds = {cloud.id: cloud.emulated() for cloud in described}
        for cloud in clouds.values():
            await stack.enter_async_context(cloud)
        yield clouds


@contextlib.asynccontextmanager
async def workers(folder: Path, *described: Cloud, **config: Any) -> AsyncIterator[Workers]:
    """Starts clouds, supervisor and two workers; what is left of them at the end is killed."""
    async with emulated(*described) as clouds, router_before(clouds, folder, *described, **config) as r:
        yield r


@contextlib.asynccontextmanager
async def router_before(
    clouds: dict[str, EmulatedCloud], folder: Path, *described: Cloud, **config: Any
) -> AsyncIterator[Workers]:
    """Starts supervisor and two workers before clouds that run, with file and log in `folder`."""
    file, log = folder / "router.yaml", folder / "access.log"
    log.touch()
    sections = {cloud.id: cloud.section(clouds[cloud.id].base_url) for cloud in described}
    write_config(file, sections, log, server={"workers": 2, "drain_s": 10, **config.pop("server", {})}, **config)
    process = await serve(file)
    r = Workers(process, file, log, clouds, 0, 0, [])
    try:
        await until(lambda: r.events("started") or process.returncode is not None, within_s=30)
        assert process.returncode is None, await r.ended()
        (started,) = r.events("started")
        r.port, r.admin_port, r.pids = started["port"], started["admin_port"], started.get("workers", [])
        yield r
    finally:
        for line in r.lines:
            await line.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        for pid in r.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
