"""Entries page by page: each once, in order, however the pages fall."""

from typing import Any

import pytest

from router.ledger import export
from router.ledger.store import Position, Store
from tests.unit.ledger.test_reports import NOON, record


@pytest.mark.parametrize("page", [1, 2, 3, 5, 100])
async def test_every_entry_of_a_period_comes_once_and_in_order(
    store: Store, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several arrive at the same microsecond, and a page may end between them."""
    monkeypatch.setattr(export, "PAGE", page)
    moments = [NOON - 1, NOON, NOON + 1, NOON + 1, NOON + 1, NOON + 2, NOON + 2, NOON + 3]
    await store.add([record(number, at) for number, at in enumerate(moments)], Position("0", 1, 1))
    for name, wanted in (
        ("requests", [f"req-{number}" for number in range(1, 7)]),
        ("attempts", [f"req-{number}/{attempt}" for number in range(1, 7) for attempt in (1, 2)]),
    ):
        table = export.TABLES[name]
        rows: list[Any] = [row async for some in export.entries(store, table, NOON, NOON + 3) for row in some]
        assert sorted(row.id for row in rows) == sorted(wanted)
        assert [row.at_us for row in rows] == sorted(row.at_us for row in rows)
        assert await export.count(store, table, NOON, NOON + 3) == len(wanted)
    assert [page async for page in export.entries(store, table, NOON + 3, NOON + 3)] == []
