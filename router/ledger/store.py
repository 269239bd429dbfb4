"""The ledger's database: takes entries in, each once, and says what has been used.

One process writes to it for each folder of segments. Whoever reads has connections of their own, which cannot write.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, case, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from router.ledger import homes as stored_homes
from router.ledger import migrations
from router.ledger.engines import StoreError, TakenError, UnstorableError, database_of, reached
from router.ledger.rows import SUMS, Rows, mended
from router.ledger.tables import ATTEMPTS, POSITIONS, PRICES, REQUESTS, USAGE_HOURS
from router.model.fleet import Price
from router.model.outcome import RequestRecord
from router.model.stored import Home, HomePage, OwnHomes

__all__ = ["Position", "Store", "StoreError"]

_ASKED_AT_ONCE: Final = 500  # ids in one question
PRUNED_AT_ONCE: Final = 5000  # rows in one transaction, between which entries are taken in
_SECOND_US: Final = 1_000_000
_OWNERS: Final = ("key", "workload", "model")


@dataclass(frozen=True, slots=True)
class Position:
    """All before that segment, and so many bytes of it, are in the store. `writer`: the identity of its folder."""

    writer: str
    segment: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Extent:
    """Requests and attempts that were ever stored, and the first and last arrival of those that still are."""

    requests: int
    attempts: int
    since: float | None  # wall seconds
    until: float | None


class Store:
    """Raises StoreError, from whatever it is asked."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for a URL that names no database that it knows."""
        self._database = database_of(url)
        self.writes: AsyncEngine = self._database.engine(reads=False)
        self.reads: AsyncEngine = self._database.engine(reads=True)

    async def migrate(self) -> list[str]:
        """Brings the tables to what this code works with; returns the steps that were taken."""
        async with reached(), self.writes.begin() as connection:
            return await _stepped(connection, migrations.migrate)

    async def pending(self) -> list[str]:
        """The steps that `migrate` would take."""
        async with reached(), self.reads.connect() as connection:
            return await _stepped(connection, migrations.pending)

    async def extent(self) -> Extent:
        """How much there is; of a store whose tables are made."""
        async with reached(), self.reads.connect() as connection:
            requests, attempts = (
                await connection.execute(select(func.sum(USAGE_HOURS.c.requests), func.sum(USAGE_HOURS.c.attempts)))
            ).one()
            since, until = (
                await connection.execute(select(func.min(REQUESTS.c.at_us), func.max(REQUESTS.c.at_us)))
            ).one()
        if since is None:
            return Extent(int(requests or 0), int(attempts or 0), None, None)
        return Extent(int(requests), int(attempts), since / _SECOND_US, until / _SECOND_US)

    async def close(self) -> None:
        async with reached():
            await self.writes.dispose()
            await self.reads.dispose()

    async def position(self, writer: str) -> Position:
        """How far that folder's segments have been read."""
        async with reached(), self.reads.connect() as connection:
            row = (await connection.execute(select(POSITIONS).where(POSITIONS.c.writer == writer))).one_or_none()
        return Position(*row) if row is not None else Position(writer, 0, 0)

    async def add(self, records: Sequence[RequestRecord], position: Position, homes: Sequence[Home] = ()) -> int:
        """Takes entries in, with how far that brings their segment; all or nothing. Returns how many were new; homes
        are always taken as new.
        """
        try:
            await self._add(Rows(records), position, homes)
            return len(records) + len(homes)
        except TakenError:
            new = await self._unknown(records)
        except UnstorableError:
            new = mended(await self._unknown(records))
        await self._add(Rows(new), position, homes)
        return len(new) + len(homes)

    async def _add(self, rows: Rows, position: Position, homes: Sequence[Home]) -> None:
        async with reached(), self.writes.begin() as connection:
            # First, since it begins the transaction that the others take part in.
            await self._put(connection, POSITIONS, [asdict(position)])
            if rows.requests:
                await self._database.fill(connection, REQUESTS, rows.requests)
                await self._put(connection, USAGE_HOURS, rows.sums, add=SUMS)
            if rows.attempts:
                await self._database.fill(connection, ATTEMPTS, rows.attempts)
            if homes:
                await stored_homes.write(connection, homes)

    async def find_homes(self, key: str, ids: Sequence[str]) -> list[Home]:
        """Those of `ids` that are the key's own."""
        return await stored_homes.find(self.reads, key, ids)

    async def own_homes(self, asked: OwnHomes) -> HomePage:
        """A page of a key's own ids of one kind."""
        return await stored_homes.page(self.reads, asked)

    async def _put(
        self, connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]], add: Sequence[str] = ()
    ) -> None:
        """Adds rows, or changes those with the same primary key: `add` says in which columns numbers are added up."""
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
        new = insert.excluded
        changed = {
            column.name: table.c[column.name] + new[column.name] if column.name in add else new[column.name]
            for column in table.c
            if not column.primary_key
        }
        await connection.execute(
            insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed), list(rows)
        )

    async def _unknown(self, records: Sequence[RequestRecord]) -> list[RequestRecord]:
        """Those that the store does not have, each once."""
        wanted = {record.id: record for record in reversed(records)}
        ids = list(wanted)
        async with reached(), self.reads.connect() as connection:
            for start in range(0, len(ids), _ASKED_AT_ONCE):
                some = ids[start : start + _ASKED_AT_ONCE]
                for (known,) in await connection.execute(select(REQUESTS.c.id).where(REQUESTS.c.id.in_(some))):
                    del wanted[known]
        return list(wanted.values())

    async def price(self, prices: Iterable[Price], at: float) -> None:
        """Keeps figures by their version, so that a cost can be checked when the configuration has others."""
        rows = [
            {
                "version": price.version,
                "prompt_nano_usd": price.prompt_nano_usd_per_mtok,
                "completion_nano_usd": price.completion_nano_usd_per_mtok,
                "cached_nano_usd": price.cached_nano_usd_per_mtok,
                "since_us": round(at * _SECOND_US),
            }
            for price in prices
        ]
        async with reached(), self.reads.connect() as connection:
            known = {version for (version,) in await connection.execute(select(PRICES.c.version))}
        if new := [row for row in rows if row["version"] not in known]:
            async with reached(), self.writes.begin() as connection:
                await self._put(connection, PRICES, new)

    async def spent(self, at: float) -> dict[str, int]:
        """Nano-dollars by limit id: what attempts have cost since the begin of that moment's day and month in UTC, the
        hour of that moment (wall seconds) included. Who has spent nothing is left out.
        """
        now = datetime.fromtimestamp(at, UTC)
        day = int(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
        month = int(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())
        sums = USAGE_HOURS.c
        of_day = func.sum(case((sums.hour >= day, sums.cost_nano_usd), else_=0))
        owners = [sums[owner] for owner in _OWNERS]
        wanted = select(*owners, func.sum(sums.cost_nano_usd), of_day).group_by(*owners)
        spent: Counter[str] = Counter()
        async with reached(), self.reads.connect() as connection:
            for *names, cost_of_month, cost_of_day in await connection.execute(
                wanted.where(sums.hour >= month, sums.hour <= at)
            ):
                for owner, name in zip(_OWNERS, names, strict=True):
                    if name:
                        spent[f"{owner}/{name}/month_usd"] += int(cost_of_month)
                        spent[f"{owner}/{name}/day_usd"] += int(cost_of_day)
        return {limit_id: cost for limit_id, cost in spent.items() if cost}

    async def prune(self, before: float) -> int:
        """Deletes some entries of requests that arrived before that moment (wall seconds); the sums of their hours
        stay. Returns how many: none is left where it is less than `PRUNED_AT_ONCE`.
        """
        pruned = 0
        for table in (ATTEMPTS, REQUESTS):
            old = select(table.c.id).where(table.c.at_us < round(before * _SECOND_US)).limit(PRUNED_AT_ONCE)
            async with reached(), self.writes.begin() as connection:
                result = await connection.execute(delete(table).where(table.c.id.in_(old)))
                pruned += result.rowcount
        return pruned + await stored_homes.prune(self.writes, before, PRUNED_AT_ONCE)


async def _stepped(connection: AsyncConnection, steps: Callable[[Connection], list[str]]) -> list[str]:
    try:
        return await connection.run_sync(steps)
    except migrations.NewerError as error:
        raise StoreError(str(error)) from None
