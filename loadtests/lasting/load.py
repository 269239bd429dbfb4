"""The clients: the drills' open loop, a closed one beside it, and what became of each kind of request."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from loadtests.bench.figures import percentile
from loadtests.drills.load import TICK_S, Load, Shot, Traffic
from loadtests.drills.outcome import failures


class Held(Load):
    """A closed loop: so many requests are open all the time, and each that ends makes room for the next."""

    def __init__(self, port: int, traffic: Traffic, clients: int) -> None:
        super().__init__(port, [traffic])
        self._clients_max = clients

    @property
    def open(self) -> int:
        """Requests that have no whole answer yet."""
        return self._open

    async def _tick(self) -> None:
        (traffic,) = self.traffics
        while True:
            while self._open < self._clients_max:
                self._fire(Shot(traffic, len(self.shots), asyncio.get_running_loop().time()))
            await asyncio.sleep(TICK_S)


@dataclass(frozen=True, slots=True)
class Tally:
    """Of one kind of request. Times are from when each was due."""

    requests: int
    failed: int
    why: dict[str, int]
    p50_ms: float
    p99_ms: float


def tally(shots: Iterable[Shot]) -> dict[str, Tally]:
    """By the name of the traffic."""
    kinds: dict[str, list[Shot]] = {}
    for one in shots:
        kinds.setdefault(one.traffic.name, []).append(one)
    return {name: _tally(mine) for name, mine in kinds.items()}


def _tally(shots: list[Shot]) -> Tally:
    times = sorted(one.first_s * 1000 for one in shots if one.ok) or [float("inf")]
    failed = sum(not one.ok and not one.left for one in shots)
    return Tally(len(shots), failed, failures(shots), percentile(times, 0.5), percentile(times, 0.99))
