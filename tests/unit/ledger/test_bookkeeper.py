"""What the bookkeeper does between two looks at the segments, and what it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from router.base.clock import ManualClock
from router.ledger import bookkeeper as module
from router.ledger.bookkeeper import Bookkeeper
from router.ledger.state import Order
from router.ledger.store import StoreError
from router.ledger.tables import ATTEMPTS, PRICES, REQUESTS
from router.model.fleet import Price
from router.transport.channel import FailedError
from tests.unit.ledger.test_drain import Writer
from tests.unit.ledger.test_store import NOON, count, record, sums


class Books:
    def __init__(self, folder: Path) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.writer = Writer(folder / "0")
        order = Order(str(folder), f"sqlite:///{folder}/ledger.db", retain_days=1)
        clock = ManualClock(wall_s=NOON + 3600)
        self.keeper = Bookkeeper(order, lambda *_: None, self._event, clock)

    def _event(self, event: str, /, **fields: Any) -> None:
        self.events.append((event, fields))


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    made = Books(tmp_path)
    yield made
    drain = made.keeper._drain
    if drain is not None:
        drain.close()
    await made.keeper._keys.close()
    await made.keeper.store.close()


async def test_old_entries_leave_while_new_ones_come(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRUNE_EVERY_S", 0.0)
    day = 86_400.0
    for number in range(3):
        books.writer.write(record(number, 5, at=NOON - day), record(100 + number, 5))
        await books.keeper._pass()

    store = books.keeper.store
    assert (await count(store, REQUESTS), await count(store, ATTEMPTS)) == (3, 3)
    assert (await sums(store))["cost_nano_usd"] == 30


async def test_it_rests_unless_there_is_more(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FULL_PASS", 3)
    books.writer.write(*(record(number, 5) for number in range(4)))

    assert [await books.keeper._pass(), await books.keeper._pass()] == [0.0, module.LOOK_EVERY_S]


async def test_a_store_that_goes_and_comes_is_told_of_once(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = books.keeper
    assert (keeper.state().up, keeper.state().trouble) == (False, "the store has not been reached yet")
    keeper._say("")
    for trouble in ("gone", "gone", "really gone", "", ""):
        keeper._say(trouble)
    assert books.events == [("ledger_store_away", {"reason": "gone"}), ("ledger_store_back", {})]

    await keeper._pass()
    assert keeper.state().up
    monkeypatch.setattr(module, "SILENT_S", -1.0)
    assert not keeper.state().up
    assert keeper.state().trouble.startswith("the store has not answered for")


async def test_questions_are_not_kept_waiting_by_a_store_that_is_away(books: Books) -> None:
    keeper = books.keeper
    keeper._say("gone")

    async def away(_: float) -> dict[str, int]:
        raise StoreError("gone")

    keeper.store.spent = away  # type: ignore[method-assign]
    async with asyncio.timeout(1.0):
        await keeper._finish()
        with pytest.raises(FailedError, match="gone"):
            await keeper._spent(NOON)


async def test_prices_that_come_while_others_are_stored_are_stored_as_well(books: Books) -> None:
    keeper = books.keeper
    await keeper._pass()
    stored = keeper.store.price

    async def price(prices: list[Price], at: float) -> None:
        await stored(prices, at)
        if prices == [Price(1, 2)]:
            await keeper._take_prices([Price(3, 4)])

    keeper.store.price = price  # type: ignore[method-assign,assignment]
    await keeper._take_prices([Price(1, 2)])
    await keeper._pass()
    await keeper._pass()
    assert await count(keeper.store, PRICES) == 2
