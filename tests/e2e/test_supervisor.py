"""The supervisor in the test's own loop, over real workers that are stopped where they stand."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.config.load import load
from router.supervisor import crew, slot, supervisor
from router.supervisor.order import Order
from router.supervisor.supervisor import Supervisor
from router.telemetry import names
from tests.adversity.client import ask, chat
from tests.e2e.workers import until
from tests.router_kit import Cloud, write_config


@asynccontextmanager
async def supervising(folder: Path, **server: Any) -> AsyncIterator[Supervisor]:
    described = Cloud("azure")
    file = folder / "router.yaml"
    async with described.emulated() as cloud:
        write_config(
            file, {"azure": described.section(cloud.base_url)}, folder / "log", server={"workers": 2, **server}
        )
        running = Supervisor(file, os.environ, load(file, os.environ))
        await running.start()
        try:
            yield running
        finally:
            await running.close()


def rename(folder: Path, alias: str) -> None:
    """A new configuration: `alias` is a name of the model, and whatever was one before is none any more."""
    file = folder / "router.yaml"
    config = orjson.loads(file.read_bytes())
    config["aliases"] = {alias: "gpt-4o"}
    file.write_bytes(orjson.dumps(config))


def count(folder: Path, event: str) -> int:
    return (folder / "log").read_text().count(f'"event":"{event}"')


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
        rename(tmp_path, "newest")
        async with stopped((await pids(running))[1]):
            result = await running.reload()
        assert not result.ok
        assert "worker 1 cannot take it over (no answer)" in result.faults[0].message
        # Also where both would be ready for it again: half of a reload is none.
        assert {(await ask(running, chat(model="newest"))).status for _ in range(8)} == {404}

        assert (await running.reload()).ok
        assert {(await ask(running, chat(model="newest"))).status for _ in range(8)} == {200}


async def test_a_worker_that_hangs_is_ended_and_started_anew(tmp_path: Path) -> None:
    async with supervising(tmp_path, loop_lag_max_s=3) as running:  # the other one is only slow, on a busy machine
        before = await pids(running)
        os.kill(before[0], signal.SIGSTOP)
        for task in [asyncio.create_task(ask(running, chat(), within_s=20)) for _ in range(8)]:
            assert (await task).status == 200, "who waits in its queue is served by the next one"

        await until(lambda: count(tmp_path, "worker_started") == 1)
        after = await pids(running)
        assert after[0] != before[0]
        assert after[1] == before[1]
        assert count(tmp_path, "worker_hung") == 1
        assert (await running.reading()).numbers[names.WORKER_STUCK.name] == {("0",): 1, ("1",): 0}


async def test_to_die_of_a_new_configuration_is_no_consent(tmp_path: Path) -> None:
    async with supervising(tmp_path) as running:
        rename(tmp_path, "newest")
        pid = (await pids(running))[1]
        os.kill(pid, signal.SIGSTOP)  # so that it dies while it is asked
        asked = asyncio.create_task(running.reload())
        await asyncio.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        result = await asked

        assert not result.ok
        assert "worker 1 cannot take it over (it ended)" in result.faults[0].message
        assert {(await ask(running, chat(model="newest"))).status for _ in range(8)} == {404}


async def test_a_worker_that_starts_during_a_reload_never_serves_what_is_not_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its order already, with the old configuration, and stands still while all others take over the new one."""
    stood: list[int] = []
    async with supervising(tmp_path) as running:
        order = running.order

        def order_and_stop() -> Order:
            stood.append(running_pid(running) or 0)
            os.kill(stood[0], signal.SIGSTOP)
            return order()

        monkeypatch.setattr(running, "order", order_and_stop)
        os.kill((await pids(running))[0], signal.SIGKILL)
        await until(lambda: stood)
        rename(tmp_path, "newest")
        assert (await running.reload()).ok
        os.kill(stood[0], signal.SIGCONT)
        served = set()
        while not count(tmp_path, "worker_started"):
            served.add((await ask(running, chat(model="newest"), within_s=20)).status)
        served |= {(await ask(running, chat(model="newest"))).status for _ in range(20)}

        assert served == {200}


async def test_a_worker_that_hangs_before_it_listens_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with supervising(tmp_path) as running:
        monkeypatch.setattr(crew, "START_S", 0.3)
        first = (await pids(running))[0]
        os.kill(first, signal.SIGKILL)
        await until(lambda: count(tmp_path, "worker_ended") == 1)
        await until(lambda: running_pid(running))
        os.kill(running_pid(running) or 0, signal.SIGSTOP)
        await until(lambda: count(tmp_path, "worker_hung") == 1)
        monkeypatch.setattr(crew, "START_S", 60.0)

        await until(lambda: count(tmp_path, "worker_started") == 1)
        assert {(await ask(running, chat())).status for _ in range(8)} == {200}


def running_pid(running: Supervisor) -> int | None:
    return running._crew.slots[0].pid


async def test_a_second_stop_ends_a_worker_too_that_does_not_hear_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "CUT_S", 0.2)
    async with supervising(tmp_path) as running:
        os.kill((await pids(running))[1], signal.SIGSTOP)
        ended = asyncio.create_task(running.run())
        await asyncio.sleep(0)
        running.stop()
        await until(lambda: count(tmp_path, "draining") == 2)  # the supervisor, and the worker that can
        running.stop()
        async with asyncio.timeout(5):
            await ended


async def test_a_worker_that_ends_at_its_start_without_a_word_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "_CHILD", "router.supervisor.order")  # which does nothing, and ends
    with pytest.raises(OSError, match="worker 0 ended while it started: exit status 0"):
        async with supervising(tmp_path):
            pass
