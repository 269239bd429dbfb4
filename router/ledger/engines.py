"""The two databases, where they differ: how they are reached, and how many rows are put into a table at once.

All other statements are SQLAlchemy's, the same for both.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import URL, Table, event
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from router.ledger.rows import Row

CONNECT_S: Final = 5.0
COMMAND_S: Final = 60.0  # a batch takes a tenth of a second, a report some; who takes a minute hangs
READERS: Final = 2
_CACHE_KIB: Final = 64 << 10
# So many pages gather in SQLite's log before they go into its file, where one that changes often is written once then.
_CHECKPOINT_PAGES: Final = 8192
_BUSY_MS: Final = 5000


class StoreError(Exception):
    """The store did not do it. The text says why, and holds neither a secret nor an entry."""


class TakenError(StoreError):
    """Some of the rows are there already."""


class UnstorableError(StoreError):
    """A value that this database cannot hold."""


class Database(Protocol):
    """Makes engines for one database."""

    def engine(self, *, reads: bool) -> AsyncEngine: ...

    async def fill(self, connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
        """Adds rows, in the transaction that `connection` is in already. Raises as `reached`."""
        ...


def database_of(url: str) -> Database:
    """`sqlite:///PATH`, or `postgresql://` as its own programs write it. Raises ValueError for anything else."""
    if url.startswith("sqlite:///"):
        return Sqlite(url.removeprefix("sqlite:///"))
    if url.startswith(("postgresql://", "postgres://")):
        return Postgres(url)
    raise ValueError("is neither sqlite:///PATH nor postgresql://…")


@asynccontextmanager
async def reached() -> AsyncIterator[None]:
    """Turns what a database and its driver raise into StoreError, TakenError, UnstorableError."""
    try:
        yield
    except IntegrityError as error:
        raise TakenError(_told(error)) from None
    except (DataError, OverflowError) as error:
        raise UnstorableError(_told(error)) from None
    except (SQLAlchemyError, OSError) as error:  # a TimeoutError is an OSError
        raise StoreError(_told(error)) from None


def _told(error: BaseException) -> str:
    """The driver's own words, in one line, without SQLAlchemy's around them."""
    cause = getattr(error, "orig", None) or error
    cause = cause.__cause__ or cause
    words = str(cause).partition("\n")[0].strip() or getattr(cause, "strerror", None) or "no answer"
    return f"{type(cause).__name__}: {words}"[:300]


class Sqlite:
    """A file of this machine. Readers see the last commit, and hold nobody up."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inserts: dict[str, str] = {}

    def engine(self, *, reads: bool) -> AsyncEngine:
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=self._path),
            pool_size=READERS if reads else 1,
            max_overflow=0,
            hide_parameters=True,
            connect_args={"timeout": _BUSY_MS / 1000},
        )

        def connected(connection: Any, _: object) -> None:
            connection.isolation_level = None  # else the module begins transactions by its own rules, not before DDL
            cursor = connection.cursor()
            for pragma in (
                # The file remembers it. Where two change it at once, SQLite refuses one of them without a wait.
                *(() if reads else ("journal_mode = WAL",)),
                "synchronous = FULL",  # a segment is deleted once its last entry is here: then it has to stay
                f"cache_size = -{_CACHE_KIB}",
                f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
                f"query_only = {int(reads)}",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        def begun(connection: Any) -> None:
            if not reads and not Path(self._path).exists():
                # What goes into a file without a name ends with this process, and segments would be deleted for it.
                raise StoreError(f"{self._path} was removed: the next start makes a new one")
            # Whoever means to write says so at the begin: one that reads first may find that another wrote meanwhile.
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

        event.listen(engine.sync_engine, "connect", connected)
        event.listen(engine.sync_engine, "begin", begun)
        return engine

    async def fill(self, connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
        # Text and tuples go through as they are: what SQLAlchemy does for each row of its own takes longer than SQLite.
        if table.name not in self._inserts:
            self._inserts[table.name] = str(table.insert().compile(dialect=connection.dialect))
        async with reached():
            await connection.exec_driver_sql(self._inserts[table.name], list(rows))


class Postgres:
    """A server, which other routers may share."""

    def __init__(self, url: str) -> None:
        self._url = url

    def engine(self, *, reads: bool) -> AsyncEngine:
        async def connect() -> Any:
            import asyncpg  # type: ignore[import-untyped]  # an extra: missing where nobody has such a store

            settings = {"application_name": "inference-router"}
            if reads:
                settings["default_transaction_read_only"] = "on"
            return await asyncpg.connect(
                self._url, timeout=CONNECT_S, command_timeout=COMMAND_S, server_settings=settings
            )

        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            pool_size=READERS if reads else 1,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
        )

    async def fill(self, connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
        """By COPY, in a quarter of the time that INSERT takes."""
        import asyncpg

        raw: Any = (await connection.get_raw_connection()).driver_connection
        async with reached():
            try:
                await raw.copy_records_to_table(table.name, records=rows, columns=[column.name for column in table.c])
            except asyncpg.UniqueViolationError as error:
                raise TakenError(_told(error)) from None
            except asyncpg.DataError as error:
                raise UnstorableError(_told(error)) from None
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise StoreError(_told(error)) from None
