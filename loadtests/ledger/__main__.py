"""Measures the ledger's store: how fast segments are drained into it, and how long reports over many entries take.

    python -m loadtests.ledger --entries 10000000

Both databases are this machine's own: an SQLite file, and a PostgreSQL that is started here, as Debian's package has
it, and ended. Entries are requests and attempts together, framed as a router under load writes them. One process
drains, as the bookkeeper does; PostgreSQL's own CPU is not in its figures.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from loadtests.ledger.databases import PostgresServer
from loadtests.ledger.entries import entries
from router.accounting.entries import frame
from router.base.segments import segment_path
from router.ledger.drain import READ_BYTES, Drain
from router.ledger.reports import usage
from router.ledger.store import Position, Store
from router.model.outcome import RequestRecord

RESULTS: Final = Path(__file__).parents[1] / "results"
ROUTER_PER_S: Final = 18_000  # what one process answers on one core, at its best
_FRAME: Final = 8  # requests that end in one turn of a busy loop
_SEGMENT_BYTES: Final = 16 << 20
_BATCH: Final = 4000
_DAYS: Final = 90
_NOW: Final = datetime(2026, 6, 30, 12, 40, tzinfo=UTC).timestamp()


async def measure(database: str, url: str, folder: Path, *, drained: int, stored: int) -> dict[str, Any]:
    """`drained`: requests that come through segments; `stored`: that the reports are over."""
    store = Store(url)
    await store.migrate()
    load = round(os.getloadavg()[0], 1)  # of all programs of this machine; beyond its cores they wait for each other
    figures: dict[str, Any] = {
        "database": database,
        "load_average": load,
        "drain": await drain(store, folder / "segments", drained),
    }
    told(database, figures["drain"])
    figures["fill"] = await fill(store, stored)
    told(database, figures["fill"])
    figures["again"] = await drain(store, folder / "again", drained, seed=3)
    told(database, figures["again"])
    figures["reports_s"] = await reports(store)
    told(database, figures["reports_s"])
    figures["load_average_at_end"] = round(os.getloadavg()[0], 1)
    figures["bytes"] = await size(store)
    await store.close()
    return figures


async def drain(store: Store, folder: Path, count: int, seed: int = 2) -> dict[str, float]:
    """Requests a second from segments into the store, and what one takes of this process's CPU."""
    requests, attempts = write_segments(folder / "worker-0", entries(count, _NOW, _NOW + count / ROUTER_PER_S, seed))
    began, cpu = time.perf_counter(), time.process_time()
    job = Drain(folder, store, lambda *_, **__: None)
    while await job.run_once():
        pass
    job.close()
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    assert job.stored == requests
    return {
        "requests": requests,
        "entries": requests + attempts,
        "requests_per_s": round(requests / took_s),
        "entries_per_s": round((requests + attempts) / took_s),
        "cpu_us_per_request": round(cpu_s / requests * 1e6, 2),
        "of_the_routers_rate": round(requests / took_s / ROUTER_PER_S, 2),
    }


def write_segments(folder: Path, records: Iterator[RequestRecord]) -> tuple[int, int]:
    """Returns how many requests and attempts it wrote."""
    folder.mkdir(parents=True)
    requests = attempts = sequence = 0
    segment, number = bytearray(), 1
    while some := list(islice(records, _FRAME)):
        sequence += 1
        segment += frame(some, sequence)
        requests, attempts = requests + len(some), attempts + sum(len(record.attempts) for record in some)
        if len(segment) > _SEGMENT_BYTES - READ_BYTES // 100:
            segment_path(folder, number).write_bytes(segment)
            segment, number = bytearray(), number + 1
    segment_path(folder, number).write_bytes(segment)
    return requests, attempts


async def fill(store: Store, count: int) -> dict[str, float]:
    """Entries over `_DAYS` days, put in as the drain does; returns how fast the first and the last of them went."""
    records = entries(count, _NOW - _DAYS * 86_400, _NOW)
    done, rates = 0, []
    while some := list(islice(records, _BATCH)):
        began = time.perf_counter()
        await store.add(some, Position("fill", 1, done))
        rates.append(len(some) / (time.perf_counter() - began))
        done += len(some)
        if done % (_BATCH * 50) == 0:
            print(f"  {done:,} of {count:,}", end="\r", file=sys.stderr)
    tenth = max(1, len(rates) // 10)
    return {
        "requests": done,
        "first_tenth_per_s": round(sum(rates[:tenth]) / tenth),
        "last_tenth_per_s": round(sum(rates[-tenth:]) / tenth),
    }


async def reports(store: Store) -> dict[str, float]:
    """How long each takes, in seconds."""
    quarter, odd = _NOW - _DAYS * 86_400, _NOW - 30 * 86_400 + 1234.5
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "all, by key": lambda: usage(store, ["key"], quarter - 3600),
        "all, by key, model and cloud": lambda: usage(store, ["key", "model", "cloud"], quarter - 3600),
        "all, by day and cloud": lambda: usage(store, ["day", "cloud"], quarter - 3600),
        "30 days that begin and end within an hour, by key": lambda: usage(store, ["key"], odd, _NOW - 4321.5),
        "the last day of one key, by hour": lambda: usage(store, ["hour"], _NOW - 86_400, key="key-7"),
        "what day and month have cost": lambda: store.spent(_NOW - 0.5),
    }
    took: dict[str, float] = {}
    for name, ask in asked.items():
        began = time.perf_counter()
        await ask()
        took[name] = round(time.perf_counter() - began, 3)
    return took


async def size(store: Store) -> int:
    """Bytes of the tables and their indexes."""
    async with store.reads.connect() as connection:
        if connection.dialect.name == "sqlite":
            pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
            return int(pages * (await connection.exec_driver_sql("PRAGMA page_size")).scalar_one())
        return int((await connection.exec_driver_sql("SELECT pg_database_size(current_database())")).scalar_one())


def told(database: str, figures: dict[str, Any]) -> None:
    print(f"{database}: {json.dumps(figures)}", file=sys.stderr)


async def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    counts = {"drained": arguments.drained, "stored": arguments.entries // 2}
    with tempfile.TemporaryDirectory(prefix="ledger-", dir=arguments.folder) as place:
        folder = Path(place)
        if "sqlite" in arguments.databases:
            found.append(await measure("sqlite", f"sqlite:///{folder}/ledger.db", folder / "a", **counts))
            (folder / "ledger.db").unlink()
        if "postgresql" in arguments.databases:
            with PostgresServer() as server:
                found.append(await measure("postgresql", server.url, folder / "b", **counts))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.ledger", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", type=int, default=10_000_000, help="requests and attempts that reports are over")
    parser.add_argument("--drained", type=int, default=200_000, help="requests that are drained, before and after")
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--folder", help="where the databases are made; left out, that for temporary files")
    parser.add_argument("--keep", action="store_true", help="write the figures to loadtests/results")
    arguments = parser.parse_args()
    os.nice(10)  # as the bookkeeper is
    figures = asyncio.run(run(arguments))
    whole = {"cores": os.cpu_count(), "databases": figures}
    print(json.dumps(whole, indent=2))
    if arguments.keep:
        name = f"ledger-{datetime.now(UTC):%Y-%m-%d-%H%M%S}.json"
        (RESULTS / name).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
