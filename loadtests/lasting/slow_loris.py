"""Ten thousand clients that never finish anything, beside a usual load.

Run as a program, it is those clients: `python -m loadtests.lasting.slow_loris PORT COUNT`.
"""

import asyncio
import os
import random
import socket
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Final, cast

from loadtests.bench.processes import BenchError
from loadtests.drills.fleet import key_of
from loadtests.drills.load import Load, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, late_p99_ms, p99_first_ms
from loadtests.drills.site import Program, Site, site
from loadtests.lasting.load import tally
from loadtests.lasting.site import fleet_of, workers_of

WORKERS: Final = 2
WARM_S: Final = 2.0
GATHER_S: Final = 60.0  # for all of them to be connected
LEAVE_S: Final = 15.0
BACK_S: Final = 0.2  # before one that was ended comes again
STEP_S: Final = 5.0  # from one byte to the next
HELD: Final = 0.95  # as a rule: all whose head was late at one moment are on their way back together
SAMPLE_S: Final = 1.0
P99_MAX: Final = 1.5  # times that of before
KIB_MAX: Final = 24.0  # a connection
ATTACKERS: Final = 10_000
ATTACKERS_QUICK: Final = 500
_PROC: Final = Path("/proc")
_HEAD: Final = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
)
_ENDLESS: Final = b"X-A: b\r\n"


class Loris(asyncio.Protocol):
    """One of them. Whichever is ended comes again."""

    begin = b""  # sent at once
    drip = b""  # sent from then on, a byte or all of it at a time
    reads = True

    def __init__(self, swarm: "Swarm") -> None:
        self.swarm = swarm
        self.transport: asyncio.Transport | None = None
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast("asyncio.Transport", transport)
        if not self.reads:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            transport.pause_reading()
        transport.write(self.begin)

    def step(self) -> None:
        if self.transport is not None and self.drip and not self.transport.is_closing():
            self.transport.write(self.drip[self.sent % len(self.drip) :][:1] if self.reads else self.drip)
            self.sent += 1

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self.swarm.lost(self)


class SlowHead(Loris):
    begin, drip = _HEAD % b"x", _ENDLESS


class SlowBody(Loris):
    begin, drip = _HEAD % key_of("api").encode() + b"Content-Length: 100000\r\n\r\n{", b" "


class SlowChunks(Loris):
    begin, drip = _HEAD % key_of("api").encode() + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"


class SlowReader(Loris):
    """Asks again and again, and takes none of the answers."""

    drip = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % key_of("api").encode()
    begin, reads = drip, False


class Silent(Loris):
    """Connects, and says nothing."""


class Idle(Loris):
    """Asks once, and stays."""

    begin = SlowReader.drip


KINDS: Final = (SlowHead, SlowHead, SlowHead, SlowBody, SlowChunks, SlowReader, Silent, Silent, Idle, Idle)


class Swarm:
    """All of them, each on a connection of its own, as long as the program runs."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._count = port, count
        self._all: set[Loris] = set()

    async def run(self) -> None:
        for number in range(self._count):
            await self._join(KINDS[number % len(KINDS)])
        while True:
            await asyncio.sleep(0.1)
            for each in random.sample(tuple(self._all), int(len(self._all) * 0.1 / STEP_S)):
                each.step()

    def lost(self, loris: Loris) -> None:
        self._all.discard(loris)
        asyncio.get_running_loop().call_later(
            BACK_S * (1 + random.random()), lambda: asyncio.ensure_future(self._join(type(loris)))
        )

    async def _join(self, kind: type[Loris]) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, loris = await loop.create_connection(lambda: kind(self), "127.0.0.1", self._port)
        except OSError:
            loop.call_later(BACK_S, lambda: asyncio.ensure_future(self._join(kind)))
        else:
            self._all.add(loris)


async def slow_loris(scale: Scale) -> Outcome:
    """`scale.fault_s`: how long all of them are there; `scale.after_s`: their number."""
    attackers = int(scale.after_s)
    outcome = Outcome()
    async with site(fleet_of(WORKERS)) as running:
        words = [sys.executable, "-m", "loadtests.lasting.slow_loris", str(running.port), str(attackers)]
        swarm = Program("swarm", words, running.folder)
        async with Load(running.port, _traffics(scale.rate)) as load:
            await asyncio.sleep(WARM_S)
            quiet = asyncio.get_running_loop().time()
            await asyncio.sleep(scale.before_s)
            pids = list((await workers_of(running)).values())
            before = _resident_kib(pids), _files(pids)
            swarm.start()
            gathered = asyncio.get_running_loop().time()
            try:
                await _connected(running, attackers)
                there = asyncio.get_running_loop().time()
                during = []
                while (over := asyncio.get_running_loop().time()) < there + scale.fault_s:
                    during.append((_resident_kib(pids), _files(pids)))
                    await asyncio.sleep(SAMPLE_S)
                page = await running.metrics()
            finally:
                swarm.kill()
            await asyncio.sleep(min(LEAVE_S, scale.before_s))
            after = _files(pids)
        resident_kib, files = max(kib for kib, _ in during), statistics.median(count for _, count in during)
        before_ms, during_ms = p99_first_ms(load.between(quiet, gathered)), p99_first_ms(load.between(there, over))
        restarts = await running.metric("router_worker_restarts_total")
    failed = [one for one in load.shots if not one.ok]
    outcome.late_ms = late_p99_ms(load.between(there, over))
    outcome.at_least("connections of theirs that are held, half of the time", files - before[1], attackers * HELD)
    outcome.none("failed requests of usual clients", len(failed), f"{len(load.shots)}")
    outcome.at_most("p99 of usual clients, times that of before", during_ms / before_ms, P99_MAX)
    outcome.at_most("memory a connection of theirs, at most", (resident_kib - before[0]) / attackers, KIB_MAX, " KiB")
    outcome.at_most("open files once they are gone, over those before", after - before[1], 64)
    outcome.none("workers that died", round(restarts))
    outcome.figures = {
        "attackers": attackers,
        "p99_ms": {"before": before_ms, "during": during_ms},
        "resident_kib": {"before": before[0], "during": resident_kib},
        "open_files": {"before": before[1], "during": files, "after": after},
        "ended": {key: value for key, value in page.items() if "connections_ended" in key and value},
        "kinds": {name: asdict(each) for name, each in tally(load.shots).items()},
    }
    return outcome


def _traffics(rate: float) -> list[Traffic]:
    """Usual clients, on connections that stay and on one for each request."""
    key = key_of("api")
    return [Traffic("kept", key, rate * 0.8), Traffic("fresh", key, rate * 0.2, stream_every=0, fresh=True)]


async def _connected(running: Site, attackers: int) -> None:
    """Waits until they are there. Raises BenchError where they do not come."""
    for _ in range(round(GATHER_S)):
        await asyncio.sleep(1.0)
        if await running.metric("router_client_connections") >= attackers * 0.97:
            return
    raise BenchError("the slow clients did not all get connections")


def _resident_kib(pids: Iterable[int]) -> float:
    return sum(int((_PROC / str(pid) / "statm").read_text().split()[1]) * 4 for pid in pids)


def _files(pids: Iterable[int]) -> int:
    return sum(len(os.listdir(_PROC / str(pid) / "fd")) for pid in pids)


DRILL: Final = Drill(
    "slow_loris",
    "Of ten slow clients three drip a head, one a body, one chunks, one asks and never reads, two say nothing and two "
    "stay after their answer; each that is ended comes again. Usual clients' times are from when each request was due; "
    "memory and files are the kernel's, of all workers.",
    slow_loris,
    full=Scale(rate=100, before_s=20, fault_s=60, after_s=ATTACKERS),
    quick=Scale(rate=40, before_s=3, fault_s=4, after_s=ATTACKERS_QUICK),
)


if __name__ == "__main__":
    asyncio.run(Swarm(int(sys.argv[1]), int(sys.argv[2])).run())
