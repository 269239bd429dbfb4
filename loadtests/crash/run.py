"""One crash run: kills at random moments, restarts, and the count of what the ledger has at the end."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from loadtests.crash.books import Books, read_books
from loadtests.crash.clients import Clients
from loadtests.crash.site import WORKERS, Site

LIVES_S: Final = (0.02, 0.5)  # how long after the last kill's end the next one comes


@dataclass(slots=True)
class Result:
    """`kills`: by what was killed."""

    kills: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    repeated: int = 0  # ids that were given to two answers
    broken: int = 0
    refused: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: int = 0
    gaps: int = 0
    stored: int = 0
    in_segments: int = 0
    took_s: float = 0.0

    @property
    def kept(self) -> bool:
        return self.answered > 0 and not (self.missing or self.doubled or self.gaps or self.repeated)


async def crash(folder: Path, times: int, seed: int, ledger: Mapping[str, Any], told: Callable[[int], None]) -> Result:
    """Kills `times` times. `told` hears how often it was, after each. Raises BenchError where something cannot run."""
    rng, began, result = random.Random(seed), time.monotonic(), Result()
    site = Site(folder, ledger)
    clients = Clients(site.port)
    try:
        await site.start()
        clients.start()
        while result.kills.total() < times:
            await _life(site, rng, times, result, told)
        await site.start_router(1)  # whatever is left is brought into the store by the last one
        await asyncio.sleep(0.5)
        await clients.stop()
        site.end_router()
    finally:
        site.end()
    books = await asyncio.to_thread(read_books, site.ledger)
    _judge(result, clients, books)
    result.took_s = time.monotonic() - began
    return result


async def _life(site: Site, rng: random.Random, times: int, result: Result, told: Callable[[int], None]) -> None:
    """Of one router: alone, or of several processes that lose some first. Each worker is killed once on average:

    one that dies young again and again is left alone for longer each time."""
    workers = rng.choice((1, WORKERS))
    await site.start_router(workers)
    parts: list[tuple[str, Callable[[random.Random], bool]]] = [("bookkeeper", site.kill_bookkeeper)]
    if workers > 1:
        parts += [("worker", site.kill_worker)] * WORKERS
    rng.shuffle(parts)
    for name, kill in parts:
        await asyncio.sleep(rng.uniform(*LIVES_S))
        if result.kills.total() < times - 1 and kill(rng):
            result.kills[name] += 1
            told(result.kills.total())
    await asyncio.sleep(rng.uniform(*LIVES_S))
    await asyncio.to_thread(site.kill_router)
    result.kills["all" if workers > 1 else "alone"] += 1
    told(result.kills.total())


def _judge(result: Result, clients: Clients, books: Books) -> None:
    result.answered, result.broken, result.refused = len(clients.answered), clients.broken, clients.refused
    result.repeated = len(clients.answered) - len(set(clients.answered))
    result.missing, result.doubled, result.gaps = books.missing(clients.answered), books.doubled, books.gaps
    result.stored, result.in_segments = len(books.stored), len(books.segments)
