"""A router that is followed by another: clients notice nothing, and nothing is lost or written twice."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from router.emulator import Distribution, Settings
from tests.adversity.client import Call, ask, chat, sent
from tests.e2e.test_process import ROOT, stream_begun
from tests.e2e.workers import Line, Workers, lives, until, workers
from tests.router_kit import Cloud

SLOW = {"tokens": Distribution(60.0), "token_gap_ms": Distribution(50.0)}  # streams of three seconds
ALONE_OR_NOT = pytest.mark.parametrize("count", [1, 2], ids=["one process", "workers"])


@contextlib.asynccontextmanager
async def upgradable(folder: Path, count: int, **config: Any) -> AsyncIterator[Workers]:
    """A router whose followers end with it."""
    described = Cloud("azure", settings=Settings(**config.pop("settings", {})))
    server = {"workers": count, **config.pop("server", {})}
    async with workers(folder, described, server=server, **config) as r:
        try:
            yield r
        finally:
            started = r.events("started")
            pids = {line["pid"] for line in started} | {pid for line in started for pid in line.get("workers", ())}
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def upgrade(pid: int) -> tuple[int, str]:
    """The command's exit status, and all that it says."""
    command = [sys.executable, "-m", "router", "upgrade", "--pid", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    return done.returncode, done.stdout + done.stderr


async def upgraded(r: Workers, pid: int) -> int:
    """The next router's pid."""
    status, said = await asyncio.to_thread(upgrade, pid)
    assert status == 0, said
    return int(said.split()[2])


async def gone(pid: int) -> None:
    await until(lambda: not lives(pid))


@ALONE_OR_NOT
async def test_streams_go_on_and_nobody_is_refused(tmp_path: Path, count: int) -> None:
    """Half-way through its streams a router is followed by another, which answers from then on."""
    async with upgradable(tmp_path, count, settings=SLOW) as r, contextlib.AsyncExitStack() as stack:
        calls: list[Call] = [await stack.enter_async_context(sent(r, chat(stream=True))) for _ in range(10)]
        await stream_begun(calls)
        kept = Line(r.port)
        r.lines.append(kept)
        before = (await kept.ask(chat(max_tokens=1))).id

        pid = await upgraded(r, r.process.pid)

        answers = [await ask(r, chat(max_tokens=1)) for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        assert (await kept.ask(chat(max_tokens=1))).status == 200
        replies = await asyncio.gather(*(call.rest() for call in calls))
        assert all(reply.complete for reply in replies)
        assert (await r.process.wait()) == 0
        assert lives(pid)
        assert [line["pid"] for line in r.events("started")] == [r.process.pid, pid]
        assert before.rpartition("-")[0] not in {each.headers["x-request-id"].rpartition("-")[0] for each in answers}
        os.kill(pid, signal.SIGTERM)
        await gone(pid)
