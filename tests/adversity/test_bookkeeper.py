"""The bookkeeper's process, killed; its database, killed and stopped: what was written is stored once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from router.jobs import bookkeeping as module
from router.jobs.bookkeeping import Bookkeeping
from router.ledger.settings import LedgerSettings
from router.ledger.store import Store
from router.ledger.tables import ATTEMPTS, PRICES, REQUESTS
from router.model.fleet import Price, Secret
from router.transport.channel import ClosedError, FailedError
from tests.postgres_kit import PostgresServer
from tests.unit.ledger.test_drain import Writer
from tests.unit.ledger.test_store import NOON, count, record, sums

WITHIN_S = 30.0
SNAPSHOT: Any = SimpleNamespace(deployments={"a": SimpleNamespace(price=Price(1, 2)), "b": SimpleNamespace(price=None)})


class Desk:
    """A writer, and a bookkeeping that was started beside it."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.settings = LedgerSettings(str(folder), Secret(url) if url is not None else None)
        self.store = Store(url or f"sqlite:///{folder}/ledger.db")
        self.writer = Writer(folder / "0")
        self.events: list[tuple[str, dict[str, object]]] = []
        self.job = Bookkeeping(asyncio.get_running_loop(), self.settings, self._event)
        self.written = 0

    def write(self, requests: int) -> None:
        for number in range(self.written, self.written + requests):
            if self.writer.position > 60 << 10:
                self.writer.roll()
            self.writer.write(record(number, 5))
        self.written += requests

    async def until(self, condition: Callable[[], object]) -> None:
        end = monotonic() + WITHIN_S
        while not condition():
            assert monotonic() < end, (self.job.state, self.events)
            await asyncio.sleep(0.02)

    async def stored(self) -> None:
        """Returns once all that was written is in the store, and what is there is just that."""
        await self.until(lambda: self.job.state.stored >= self.written and self.job.state.up)
        await self.check()

    async def check(self) -> None:
        found = await sums(self.store)
        assert (found["requests"], found["cost_nano_usd"]) == (self.written, 5 * self.written)
        assert await count(self.store, REQUESTS) == await count(self.store, ATTEMPTS) == self.written

    @property
    def pid(self) -> int:
        process = self.job._process
        assert process is not None
        return process.pid

    def told(self) -> list[str]:
        return [event for event, _ in self.events]

    def _event(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))


@asynccontextmanager
async def desk(folder: Path, url: str | None = None) -> AsyncIterator[Desk]:
    made = Desk(folder, url)
    made.job.start()
    try:
        yield made
    finally:
        await made.job.stop()
        await made.store.close()


async def test_entries_reach_the_store_and_questions_their_answer(tmp_path: Path) -> None:
    async with desk(tmp_path) as books:
        with pytest.raises(ClosedError):
            await books.job.ask(dict[str, Any], 1.0, "spent", NOON)
        books.job.adopt(SNAPSHOT)
        books.write(500)
        await books.stored()

        assert await books.job.spent(NOON + 1) == {"key/acme/day_usd": 2500, "key/acme/month_usd": 2500}
        assert books.job.state.waiting_bytes < 4096
        assert await count(books.store, PRICES) == 1
        assert books.told() == ["ledger_migrated"]
        assert [path.name for path in books.writer.folder.glob("*.seg")] == [books.writer.path.name]


async def test_what_was_written_last_is_stored_before_it_ends(tmp_path: Path) -> None:
    async with desk(tmp_path) as books:
        books.write(1)
        await books.stored()
        books.write(300)

    books = Desk(tmp_path, None)
    books.written = 301
    await books.check()
    await books.store.close()


async def test_one_that_is_killed_is_started_again_and_counts_nothing_twice(tmp_path: Path) -> None:
    async with desk(tmp_path) as books:
        for _ in range(2):
            books.write(700)
            await books.until(lambda: books.job._process is not None and books.job.state.up)
            books.write(700)
            told = len(books.told())
            os.kill(books.pid, signal.SIGKILL)
            await books.until(lambda told=told: len(books.told()) > told)
        await books.until(lambda: books.job.state.up)
        await asyncio.wait_for(books.job.ask(type(None), 10.0, "finish"), 10.0)
        await books.check()

        assert books.told().count("bookkeeper_ended") == 2
        assert all(fields["how"] == "SIGKILL" for event, fields in books.events if event == "bookkeeper_ended")


async def test_one_that_hangs_is_not_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path) as books:
        books.write(5)
        await books.stored()
        monkeypatch.setattr(module, "SILENT_S", 2.0)
        os.kill(books.pid, signal.SIGSTOP)
        await books.until(lambda: not books.job.state.up)
        assert (books.job.state.trouble, books.job.state.stored) == ("the bookkeeper says nothing", 5)
        assert books.job.state.lag_s > 2.0

        os.kill(books.pid, signal.SIGCONT)
        await books.until(lambda: books.job.state.up)


async def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as books:
        await books.until(lambda: books.job.state.up)
        process = books.job._process
        assert process is not None
        assert books.job._channel is not None
        books.job._channel.close()

        assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0


async def test_it_ends_so_at_any_moment_of_its_start(tmp_path: Path) -> None:
    async def end(number: int) -> int:
        async with desk(tmp_path / str(number)) as books:
            await books.until(lambda: books.job._process is not None)
            await asyncio.sleep(0.3 + 0.1 * number)  # from its imports to its first pass
            process, channel = books.job._process, books.job._channel
            assert process is not None
            assert channel is not None
            channel.close()
            return await asyncio.wait_for(process.wait(), WITHIN_S)

    assert await asyncio.gather(*(end(number) for number in range(12))) == [0] * 12


async def test_it_ends_so_while_its_database_hangs(tmp_path: Path) -> None:
    with PostgresServer() as server:
        async with desk(tmp_path / "ledger", server.url) as books:
            await books.until(lambda: books.job.state.up)
            server.pause()
            await asyncio.sleep(1.0)  # it has asked something since, which is not answered
            process, channel = books.job._process, books.job._channel
            assert process is not None
            assert channel is not None
            channel.close()

            assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0
            server.resume()


async def test_a_folder_that_another_drains_is_left_to_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as first:
        await first.until(lambda: first.job.state.up)
        second = Bookkeeping(asyncio.get_running_loop(), first.settings, first._event)
        second.start()
        await first.until(lambda: "another process" in second.state.trouble)
        first.write(10)
        await first.stored()
        await second.stop()


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_database_that_is_away_loses_nothing(tmp_path: Path, how: str) -> None:
    with PostgresServer() as server:
        async with desk(tmp_path / "ledger", server.url) as books:
            books.write(200)
            await books.stored()

            server.kill() if how == "killed" else server.pause()
            books.write(2000)
            await books.until(lambda: not books.job.state.up)
            trouble = books.job.state.trouble
            books.write(2000)
            await books.until(lambda: books.job.state.waiting_bytes > 1_000_000 and books.job.state.lag_s > 1)
            if how == "killed":
                with pytest.raises(FailedError):
                    await books.job.spent(NOON)

            server.start() if how == "killed" else server.resume()
            await books.stored()
            assert "trouble" not in books.job.state.trouble
            assert trouble
            if how == "killed":
                assert books.told() == ["ledger_migrated", "ledger_store_away", "ledger_store_back"]
