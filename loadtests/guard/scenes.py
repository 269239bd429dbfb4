"""What is counted: three ways of using the router, each as the cost of one more request or chunk."""

import socket
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.bench.bodies import chat_body
from loadtests.bench.processes import Cores, free_port
from loadtests.bench.subjects import ROOT, Site, derive_config
from loadtests.guard.counting import Counting, Method, Tally, counted
from loadtests.guard.stage import Stage

WARM: Final = 60  # requests of each kind until pools are filled and CPython has specialised its code
ROUNDS: Final = 3  # of which the median counts: a timer that falls into one does not
REQUESTS: Final = 100
STREAMS: Final = 6
EVENTS_FEW: Final = 5
EVENTS_MANY: Final = 85

SMALL: Final = chat_body(1024)
LARGE: Final = chat_body(16 * 1024)
STREAM: Final = chat_body(1024, stream=True, usage=True)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one more unit: in all, and by function."""

    total: float
    by_function: Mapping[str, float]

    @staticmethod
    def of(tally: Tally, units: int) -> "Cost":
        return Cost(tally.total() / units, {name: count / units for name, count in tally.items()})


def _requests(body: bytes) -> Callable[[Stage, Counting], Cost]:
    def play(stage: Stage, counting: Counting) -> Cost:
        for _ in range(REQUESTS):
            stage.ask(body)
        return Cost.of(counting.take(), REQUESTS)

    return play


def _chunk(stage: Stage, counting: Counting) -> Cost:
    """Long streams less short ones: what is left are chunks."""
    tallies = []
    for events in (EVENTS_FEW, EVENTS_MANY):
        for _ in range(STREAMS):
            stage.stream(STREAM, events)
        tallies.append(counting.take())
    few, many = tallies
    difference: Tally = Counter(many)
    difference.subtract(few)
    return Cost.of(difference, STREAMS * (EVENTS_MANY - EVENTS_FEW))


SCENES: Final[Mapping[str, Callable[[Stage, Counting], Cost]]] = {
    "json-1k": _requests(SMALL),
    "json-16k": _requests(LARGE),
    "stream-chunk": _chunk,
}


def measure(method: Method, tree: Path = ROOT) -> dict[str, Cost]:
    """The median of the rounds, for each scene. Raises BenchError when the router does not serve."""
    with tempfile.TemporaryDirectory(prefix="guard-") as name, socket.create_server(("127.0.0.1", 0)) as listener:
        folder = Path(name)
        site = Site(folder, Cores(0, 0), upstream_port=listener.getsockname()[1])
        port, admin = free_port(), free_port()
        config = folder / "router.yaml"
        derive_config(tree / "config" / "bench.yaml", config, site, port, admin, "router")
        with counted(method, tree, config, admin, folder) as counting:
            stage = Stage(port, listener)
            _warm(stage, counting)
            rounds = [{scene: play(stage, counting) for scene, play in SCENES.items()} for _ in range(ROUNDS)]
            stage.close()
    return {scene: _median([costs[scene] for costs in rounds]) for scene in SCENES}


def _warm(stage: Stage, counting: Counting) -> None:
    """Before the counting, which is slow, and a little of it after: what happens once does not count."""
    for requests in (WARM, 2):
        for _ in range(requests):
            stage.ask(SMALL)
            stage.ask(LARGE)
            stage.stream(STREAM, 2)
        counting.begin()
    counting.take()


def _median(costs: list[Cost]) -> Cost:
    """`median_low`: a round that took place, with its functions."""
    total = statistics.median_low(cost.total for cost in costs)
    return next(cost for cost in costs if cost.total == total)
