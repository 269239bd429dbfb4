"""Homes in the store: written with the entries that they came with, and found by key and id."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, and_, bindparam, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from router.ledger.engines import reached
from router.ledger.tables import HOMES
from router.model.stored import FLEETING_KINDS, Home, HomePage, OwnHomes

_SECOND_US: Final = 1_000_000
_SAME: Final = and_(HOMES.c.key == bindparam("own_key"), HOMES.c.id == bindparam("own_id"))


async def write(connection: AsyncConnection, homes: Iterable[Home]) -> None:
    """Takes homes in, in the transaction that `connection` is in already. Of one id the last word counts."""
    last = {(home.key, home.id): home for home in homes}
    # In one order for all who write to the same store: so none waits for another that waits for it.
    ordered = [last[name] for name in sorted(last)]
    if found := [_row(home) for home in ordered if home.endpoint]:
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(HOMES)
        # It keeps its moment, and with it its place in lists.
        changed = {name: insert.excluded[name] for name in ("kind", "endpoint", "workload")}
        await connection.execute(
            insert.on_conflict_do_update(index_elements=list(HOMES.primary_key), set_=changed), found
        )
    if gone := [{"own_key": home.key, "own_id": home.id} for home in ordered if not home.endpoint]:
        await connection.execute(delete(HOMES).where(_SAME), gone)


async def find(reads: AsyncEngine, key: str, ids: Sequence[str]) -> list[Home]:
    """Those of `ids` that are the key's own. Raises StoreError."""
    async with reached(), reads.connect() as connection:
        rows = await connection.execute(select(HOMES).where(HOMES.c.key == key, HOMES.c.id.in_(ids)))
        return [_home(row) for row in rows]


async def page(reads: AsyncEngine, asked: OwnHomes) -> HomePage:
    """So many of a key's own ids of one kind, in the order in which they came. Raises StoreError."""
    backward = bool(asked.before)
    falling = asked.descending != backward
    query: Select[Any] = select(HOMES).where(HOMES.c.key == asked.key, HOMES.c.kind == asked.kind)
    async with reached(), reads.connect() as connection:
        for cursor, down in ((asked.after, asked.descending), (asked.before, not asked.descending)):
            if not cursor:
                continue
            place = (
                await connection.execute(select(HOMES.c.at_us).where(HOMES.c.key == asked.key, HOMES.c.id == cursor))
            ).scalar_one_or_none()
            if place is None:
                return HomePage(known=False)
            at, name = HOMES.c.at_us, HOMES.c.id
            query = query.where(
                or_(at < place, and_(at == place, name < cursor))
                if down
                else or_(at > place, and_(at == place, name > cursor))
            )
        order = (HOMES.c.at_us.desc(), HOMES.c.id.desc()) if falling else (HOMES.c.at_us, HOMES.c.id)
        rows = await connection.execute(query.order_by(*order).limit(asked.limit))
        homes = [_home(row) for row in rows]
    return HomePage(homes[::-1] if backward else homes)


async def prune(writes: AsyncEngine, before: float, limit: int) -> int:
    """Deletes some homes of what endpoints forget by themselves, first seen before that moment (wall seconds)."""
    old = (
        select(HOMES.c.key, HOMES.c.id)
        .where(HOMES.c.kind.in_(FLEETING_KINDS), HOMES.c.at_us < round(before * _SECOND_US))
        .limit(limit)
    )
    async with reached(), writes.begin() as connection:
        names = [{"own_key": key, "own_id": name} for key, name in await connection.execute(old)]
        if names:
            await connection.execute(delete(HOMES).where(_SAME), names)
    return len(names)


def _row(home: Home) -> dict[str, Any]:
    return {
        "key": home.key,
        "id": home.id,
        "kind": home.kind,
        "endpoint": home.endpoint,
        "workload": home.workload,
        "at_us": round(home.at * _SECOND_US),
    }


def _home(row: Row[Any]) -> Home:
    return Home(row.key, row.id, row.kind, row.endpoint, row.workload, row.at_us / _SECOND_US)
