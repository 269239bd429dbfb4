"""Takes the ledger's database away under load, and counts what clients and the ledger have noticed of it.

    python -m loadtests.ledger.outage --dead 60

Real programs on this machine: a cloud, a router with its bookkeeper, a PostgreSQL that is killed and started again.
Clients ask at a constant rate in all, and note the id of each whole answer. At the end each of them must be in the
database once.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from loadtests.crash.clients import CLIENTS, Clients
from loadtests.crash.site import Site
from loadtests.ledger.databases import PostgresServer

RESULTS: Final = Path(__file__).parents[1] / "results"
BEFORE_S: Final = 10.0
AFTER_S: Final = 10.0
DRAINED_WITHIN_S: Final = 300.0
_LOOK_EVERY_S: Final = 1.0
_METRIC: Final = re.compile(r"^(router_ledger_\w+) (\S+)$", re.MULTILINE)


class Watch:
    """Looks at the router each second: its memory, and what it says of the ledger."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.worst: dict[str, float] = {}  # what was told, at its highest
        self.last: dict[str, float] = {}
        self.pss_mib: list[float] = []

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        self.last = await asyncio.to_thread(self._ledger)
        self.worst = {name: max(value, self.worst.get(name, 0.0)) for name, value in self.last.items()}
        self.pss_mib.append(round(sum(map(_pss_kib, self._site.pids)) / 1024, 1))

    def _ledger(self) -> dict[str, float]:
        with urlopen(f"http://127.0.0.1:{self._site.admin_port}/metrics", timeout=10) as page:
            return {name: float(value) for name, value in _METRIC.findall(page.read().decode())}


async def outage(folder: Path, server: PostgresServer, workers: int, per_s: float, dead_s: float) -> dict[str, Any]:
    """Raises BenchError where something cannot run, TimeoutError where the database never has all."""
    site = Site(folder, {"store": server.url})
    clients, watch = Clients(site.port, CLIENTS / per_s), Watch(site)
    try:
        await site.start()
        await site.start_router(workers)
        clients.start()
        watching = asyncio.create_task(watch.run())
        await asyncio.sleep(BEFORE_S)
        before = max(watch.pss_mib)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(dead_s)
        answered_dead = len(clients.answered)
        await asyncio.to_thread(server.start)
        back_at = time.monotonic()
        await asyncio.sleep(AFTER_S)
        await clients.stop()
        watching.cancel()
        await _drained(watch)
        caught_up_s = time.monotonic() - back_at
        site.end_router()
    finally:
        site.end()
    stored = server.psql("SELECT id FROM requests").split()
    counted = int(server.psql("SELECT sum(requests) FROM usage_hours"))
    return {
        "workers": workers,
        "dead_s": dead_s,
        "requests_per_s": round(answered_dead / (BEFORE_S + dead_s)),
        "answered": len(clients.answered),
        "failed": clients.broken + clients.refused,
        "missing": len(set(clients.answered) - set(stored)),
        "doubled": abs(counted - len(stored)),
        "lag_s_worst": round(watch.worst["router_ledger_lag_seconds"], 1),
        "waiting_mib_worst": round(watch.worst["router_ledger_waiting_bytes"] / 2**20, 1),
        "dropped": int(watch.worst["router_ledger_dropped_total"]),
        "caught_up_after_s": round(caught_up_s, 1),
        "pss_mib": {"before": before, "worst": max(watch.pss_mib), "at the end": watch.pss_mib[-1]},
    }


async def _drained(watch: Watch) -> None:
    """Until the store has all that was written."""
    async with asyncio.timeout(DRAINED_WITHIN_S):
        while not watch.last or watch.last["router_ledger_stored_total"] < watch.last["router_ledger_entries_total"]:
            await asyncio.sleep(_LOOK_EVERY_S / 4)
            await watch.look()


def _pss_kib(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:  # it has ended meanwhile
        return 0
    return int(found[1]) if found is not None else 0


def kept(figures: Mapping[str, Any]) -> bool:
    return figures["answered"] > 0 and not any(figures[name] for name in ("failed", "missing", "doubled", "dropped"))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.ledger.outage", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--dead", type=float, default=60.0, help="seconds without a database")
    parser.add_argument(
        "--rate", type=float, default=2000.0, help="requests a second, as far as answers come that fast"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="write the figures to loadtests/results")
    arguments = parser.parse_args()
    with PostgresServer() as server, tempfile.TemporaryDirectory(prefix="outage-") as folder:
        figures = asyncio.run(outage(Path(folder), server, arguments.workers, arguments.rate, arguments.dead))
    print(json.dumps(figures, indent=2))
    if arguments.keep:
        path = RESULTS / f"ledger-outage-{datetime.now(UTC):%Y-%m-%d-%H%M%S}.json"
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if kept(figures) else 3)


if __name__ == "__main__":
    main()
