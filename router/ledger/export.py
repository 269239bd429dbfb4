"""Entries as they are, in the order in which their requests arrived."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Table, and_, func, or_, select

from router.ledger.engines import reached
from router.ledger.store import Store
from router.ledger.tables import ATTEMPTS, REQUESTS

PAGE: Final = 5000
TABLES: Final = {"requests": REQUESTS, "attempts": ATTEMPTS}


async def count(store: Store, table: Table, since: float, until: float) -> int:
    """How many there are of requests that arrived in a period (wall seconds). Raises StoreError."""
    async with reached(), store.reads.connect() as connection:
        found = await connection.execute(select(func.count()).where(_within(table, since, until)))
        return int(found.scalar_one())


async def entries(store: Store, table: Table, since: float, until: float) -> AsyncIterator[Sequence[Row[Any]]]:
    """Pages of rows. Each is a question of its own: a long one would keep SQLite's log from being emptied.

    Raises StoreError.
    """
    within, order = _within(table, since, until), (table.c.at_us, table.c.id)
    beyond = within
    while True:
        async with reached(), store.reads.connect() as connection:
            page = (await connection.execute(select(table).where(beyond).order_by(*order).limit(PAGE))).all()
        if page:
            yield page
        if len(page) < PAGE:
            return
        at_us, name = page[-1].at_us, page[-1].id
        beyond = and_(within, table.c.at_us >= at_us, or_(table.c.at_us > at_us, table.c.id > name))


def _within(table: Table, since: float, until: float) -> ColumnElement[bool]:
    return and_(table.c.at_us >= round(since * 1e6), table.c.at_us < round(until * 1e6))
