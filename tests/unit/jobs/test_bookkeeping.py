"""The bookkeeper as those see it who started it, and what they are spared by it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from router.jobs.bookkeeping import Bookkeeping
from router.ledger.settings import LedgerSettings
from router.telemetry import names
from router.transport.channel import ClosedError


def test_no_process_that_serves_loads_what_the_store_stands_on() -> None:
    code = "import sys, router.worker, router.supervisor.supervisor; print(*{m.split('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert "router" in run.stdout.split()
    assert {"sqlalchemy", "alembic", "aiosqlite", "asyncpg", "redis"} & set(run.stdout.split()) == set()


async def test_until_it_was_heard_of_it_is_not_up_and_grows_late(tmp_path: Path) -> None:
    books = Bookkeeping(asyncio.get_running_loop(), LedgerSettings(str(tmp_path)), lambda *_, **__: None)

    assert (books.state.up, books.state.trouble) == (False, "the bookkeeper is not running")
    assert 0 < books.state.lag_s < books.state.lag_s
    assert books.numbers()[names.LEDGER_UP.name] == {(): 0}
    with pytest.raises(ClosedError):
        await books.spent(0.0)
    await books.stop()


async def test_what_one_had_stored_is_counted_on_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends as soon as it begins stands for one that was killed."""
    events: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr("router.jobs.bookkeeping._PROGRAM", "router.no_such_module")
    monkeypatch.setattr("router.jobs.bookkeeping.FIRST_WAIT_S", 0.01)
    books = Bookkeeping(
        asyncio.get_running_loop(),
        LedgerSettings(str(tmp_path)),
        lambda event, **fields: events.append((event, fields)),
    )
    verbs = books._verbs()
    await verbs["state"](books.state.__class__(up=True, stored=7, lag_s=1.0))
    assert (books.state.up, books.state.stored) == (True, 7)

    books.start()
    async with asyncio.timeout(30):
        while len(events) < 2:
            await asyncio.sleep(0.01)
    await verbs["state"](books.state.__class__(up=True, stored=5))

    assert [event for event, _ in events[:2]] == ["bookkeeper_ended"] * 2
    assert [fields["restart_in_s"] for _, fields in events[:2]] == [0.01, 0.03]
    assert books.state.stored == 12
    await books.stop()
