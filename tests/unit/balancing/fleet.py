"""Candidates and work for tests of balancing."""

import random
from dataclasses import dataclass, field
from zlib import crc32

from router.balancing.meter import Meter
from router.model.work import Work


@dataclass(frozen=True)
class Ask:
    """A request."""

    prompt_tokens: int = 100
    completion_tokens_max: int = 0
    stream: bool = True
    affinity: int = 0


@dataclass(eq=False)
class Place:
    """A candidate; equal to no other."""

    id: str
    meter: Meter = field(default_factory=lambda: Meter(100.0))
    pressed: bool = False
    price: int = 0

    @property
    def hash(self) -> int:
        return crc32(self.id.encode())

    def price_nano_usd(self, work: Work) -> int:
        return self.price


def fleet(*loads: float, capacity: float = 100.0) -> list[Place]:
    """One for each load: its outstanding tokens, in one request."""
    places = [Place(f"place-{number}", Meter(capacity)) for number in range(len(loads))]
    for place, load in zip(places, loads, strict=True):
        if load:
            place.meter.begin(load)
    return places


class Drawn(random.Random):
    """Draws what it is told to."""

    def __init__(self, *draws: float) -> None:
        super().__init__()
        self.draws = list(draws)

    def random(self) -> float:
        return self.draws.pop(0)
