"""A random worker is killed with -9, again and again, under streams and short requests."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from loadtests.drills.fleet import key_of
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, late_p99_ms
from loadtests.drills.site import Site, site
from loadtests.lasting.load import tally
from loadtests.lasting.site import SLOW, WORKERS, client_ports, fleet_of, workers_of

WARM_S: Final = 1.0
EVERY_S: Final = 2.0  # from one kill to the next
BACK_S: Final = 1.0
_STREAMS: Final = 0.1  # of all requests: two seconds each, so there are some in each worker at each kill


@dataclass(frozen=True, slots=True)
class Kill:
    """`ports`: the clients' ends of all connections that the killed worker had."""

    at: float  # monotonic seconds
    worker: int
    ports: frozenset[int]


async def kills(scale: Scale) -> Outcome:
    """`scale.fault_s`: for how long a worker is killed every `EVERY_S`."""
    outcome = Outcome()
    async with site(fleet_of()) as running:
        async with Load(running.port, _traffics(scale.rate)) as load:
            await asyncio.sleep(WARM_S + scale.before_s)
            done = []
            for _ in range(round(scale.fault_s / EVERY_S)):
                done.append(await _kill(running))
                await asyncio.sleep(EVERY_S)
        restarts = await running.metric("router_worker_restarts_total")
    judge(outcome, done, load.shots)
    outcome.none("kills that nobody was started for", len(done) - round(restarts), f"{len(done)}")
    return outcome


def _traffics(rate: float) -> list[Traffic]:
    """Short requests on connections that stay, and on one each; and streams."""
    key = key_of("api")
    return [
        Traffic("kept", key, rate * (1 - _STREAMS) / 2),
        Traffic("fresh", key, rate * (1 - _STREAMS) / 2, stream_every=0, fresh=True),
        Traffic("streams", key, rate * _STREAMS, model=SLOW, stream_every=1),
    ]


async def _kill(running: Site) -> Kill:
    """Stopped first, so that what the kernel says of its connections stays true until it is dead."""
    worker, pid = random.choice(list((await workers_of(running)).items()))
    os.kill(pid, signal.SIGSTOP)
    try:
        ports = client_ports(pid, running.port)
    finally:
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
    return Kill(at, worker, frozenset(ports))


def judge(outcome: Outcome, done: Sequence[Kill], shots: Sequence[Shot]) -> None:
    failed = [one for one in shots if not one.ok]
    strangers = [one for one in failed if not any(_was_on(one, kill) for kill in done)]
    backs = [_back_s(kill, shots) for kill in done]
    outcome.late_ms = 0.0  # nothing is compared with another time
    outcome.none("failed requests that were not on a killed worker's connection", len(strangers), f"{len(failed)}")
    outcome.at_most("from a kill to an answer of the new worker, the longest", max(backs), BACK_S, " s")
    outcome.figures = {
        "kills": len(done),
        "workers": WORKERS,
        "connections_of_the_killed": [len(kill.ports) for kill in done],
        "back_s": sorted(backs),
        "strangers": [f"{one.marker} {one.status}" for one in strangers[:10]],
        "kinds": {name: asdict(each) for name, each in tally(shots).items()},
        "left_late_p99_ms": late_p99_ms(shots),
    }


def _was_on(one: Shot, kill: Kill) -> bool:
    """Whether a request was open, or just written, on a connection of the killed."""
    return one.port in kill.ports and one.begun <= kill.at + 0.05 and one.ended >= kill.at


def _back_s(kill: Kill, shots: Sequence[Shot]) -> float:
    """Until the first answer of a process that nobody had an answer of before."""
    known = {_process(one) for one in shots if one.ended <= kill.at}
    return min(
        (one.first - kill.at for one in shots if one.ok and one.first > kill.at and _process(one) not in known),
        default=float("inf"),
    )


def _process(one: Shot) -> str:
    """Of one process all ids begin alike."""
    return one.request_id.rpartition("-")[0]


DRILL: Final = Drill(
    "kills",
    f"{WORKERS} workers; a random one is killed (-9) every {EVERY_S:g} s. Before its end it is stopped, and the kernel "
    "says which connections it had accepted: a request that fails must have been on one of these, at that moment. It "
    "counts as back with the first answer of a process that had given none before; half of the short requests have a "
    "connection each, so that they meet all workers",
    kills,
    full=Scale(rate=120, before_s=2, fault_s=100),
    quick=Scale(rate=80, before_s=0, fault_s=6),
)
