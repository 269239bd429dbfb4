"""The supervisor in the test's own loop, over real workers that are stopped where they stand."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from router.config.load import load
from router.supervisor import crew, supervisor
from router.supervisor.supervisor import Supervisor
from tests.adversity.client import ask, chat
from tests.e2e.workers import until
from tests.router_kit import Cloud, write_config


@asynccontextmanager
async def supervising(folder: Path) -> AsyncIterator[Supervisor]:
    described = Cloud("azure")
    file = folder / "router.yaml"
    async with described.emulated() as cloud:
        write_config(file, {"azure": described.section(cloud.base_url)}, folder / "log", server={"workers": 2})
        running = Supervisor(file, os.environ, load(file, os.environ))
        await running.start()
        try:
            yield running
        finally:
            await running.close()


async def pids(running: Supervisor) -> list[int]:
    status = await running.status()
    workers = status["workers"]
    assert isinstance(workers, list)
    return [worker["pid"] for worker in workers]


@asynccontextmanager
async def stopped(pid: int) -> AsyncIterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_worker_that_cannot_say_yes_keeps_all_from_a_new_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PREPARE_S", 0.5)
    async with supervising(tmp_path) as running:
        file = tmp_path / "router.yaml"
        config = orjson.loads(file.read_bytes())
        config["aliases"] = {"newest": "gpt-4o"}
        file.write_bytes(orjson.dumps(config))
        async with stopped((await pids(running))[1]):
            result = await running.reload()
        assert not result.ok
        assert "worker 1 cannot take it over (no answer)" in result.faults[0].message
        # Also where both would be ready for it again: half of a reload is none.
        assert {(await ask(running, chat(model="newest"))).status for _ in range(8)} == {404}

        assert (await running.reload()).ok
        assert {(await ask(running, chat(model="newest"))).status for _ in range(8)} == {200}


async def test_a_worker_that_hangs_is_ended_and_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "HUNG_S", 0.5)
    monkeypatch.setattr(crew, "ANSWER_S", 0.2)
    monkeypatch.setattr(crew, "POLL_EVERY_S", 0.1)
    async with supervising(tmp_path) as running:
        before = await pids(running)
        os.kill(before[0], signal.SIGSTOP)
        for task in [asyncio.create_task(ask(running, chat(), within_s=20)) for _ in range(8)]:
            assert (await task).status == 200, "who waits in its queue is served by the next one"

        await until(lambda: (tmp_path / "log").read_text().count('"event":"worker_started"') == 1)
        after = await pids(running)
        assert after[0] != before[0]
        assert after[1] == before[1]
