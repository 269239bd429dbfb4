"""Memory: of streams that wait, of many streams that run, and of a burst of large bodies."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.bench.bodies import raw_request
from loadtests.bench.figures import DIRECT, Sample, percentile, percentiles
from loadtests.bench.frames import LATE, Crowd, Fidelity, Script
from loadtests.bench.mode import KIB, Measure, Options, events_of, fresh, new_site
from loadtests.bench.procfs import pss_bytes, serving
from loadtests.bench.streams import StreamClient, close_all, connected, first_events, idle_memory, raise_errors
from loadtests.bench.subjects import Target, stand
from router.base.loops import run_loop

IDLE_GAP_MS: Final = 6_000.0  # all streams have had their first event before one gets its second
OPEN_GAP_MS: Final = 250.0  # 5,000 streams are then 20,000 frames a second, which the load's core can do
OPEN_SPREAD_S: Final = 5.0
LOOK_S: Final = 0.05  # between two looks at the memory of a burst


@dataclass(frozen=True, slots=True)
class IdleStreams:
    """Memory of streams that wait. Each round has a fresh proxy."""

    name: str
    bar: str
    body: bytes
    unit: str = "KiB an open stream"
    added: bool = False
    subjects: tuple[str, ...] = ("nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.rounds

    @contextlib.contextmanager
    def session(self, options: Options, _: Sequence[str]) -> Iterator[Measure]:
        with new_site(options.cores, streaming=True) as site, stand(site, (), IDLE_GAP_MS) as here:

            def measure(name: str) -> Sample:
                with fresh(name, here.site) as target:
                    size = run_loop(idle_memory(target, self.body, options.idle_streams, settle_s=1.0))
                return Sample(size / KIB, options.idle_streams)

            yield measure


@dataclass(frozen=True, slots=True)
class OpenStreams:
    """Many streams that run, in one worker: what each takes, and whether its frames come, whole and in time."""

    name: str
    bar: str
    body: bytes
    unit: str = "KiB an open stream"
    added: bool = False
    subjects: tuple[str, ...] = (DIRECT, "nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.memory_rounds

    @contextlib.contextmanager
    def session(self, options: Options, _: Sequence[str]) -> Iterator[Measure]:
        with new_site(options.cores, streaming=True) as site, stand(site, (), OPEN_GAP_MS) as here:
            script = Script.of(events_of(here.direct, self.body))

            def measure(name: str) -> Sample:
                if name == DIRECT:
                    return self._sample(here.direct, script, options, memory=False)
                with fresh(name, here.site) as target:
                    return self._sample(target, script, options, memory=True)

            yield measure

    def _sample(self, target: Target, script: Script, options: Options, *, memory: bool) -> Sample:
        async def run() -> tuple[float, Fidelity]:
            before = pss_bytes(serving(target.pid)) if memory else 0
            crowd = Crowd(target, self.body, script)
            try:
                await crowd.start(options.open_streams, OPEN_SPREAD_S)
                grown = pss_bytes(serving(target.pid)) - before if memory else 0
                return grown / options.open_streams / KIB, await crowd.watch(options.stream_seconds)
            finally:
                await crowd.close()

        size_kib, seen = run_loop(run())
        more = frame_figures(seen, OPEN_GAP_MS)
        rate = seen.events / options.stream_seconds
        return Sample(size_kib, options.open_streams, rate, more=more, curve=percentiles(seen.gaps_s))


def frame_figures(seen: Fidelity, gap_ms: float) -> dict[str, float]:
    """What became of the frames, for a sample."""
    return {
        "frames": float(seen.events),
        "broken_streams": float(seen.broken),
        f"gaps_over_{LATE:g}_paces": float(seen.late(gap_ms / 1e3)),
        "gap_p99_ms": percentile(seen.gaps_s, 0.99) * 1e3,
        "gap_max_ms": seen.gaps_s[-1] * 1e3,
    }


@dataclass(frozen=True, slots=True)
class BurstMemory:
    """Large bodies all at once. They are streams whose first event is far away, so a proxy has to keep every body."""

    name: str
    bar: str
    body: bytes
    unit: str = "peak growth ÷ bytes in flight"
    added: bool = False
    subjects: tuple[str, ...] = ("nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.memory_rounds

    @contextlib.contextmanager
    def session(self, options: Options, _: Sequence[str]) -> Iterator[Measure]:
        with new_site(options.cores, streaming=True) as site, stand(site, (), IDLE_GAP_MS) as here:

            def measure(name: str) -> Sample:
                with fresh(name, here.site) as target:
                    idle = pss_bytes(serving(target.pid))
                    peak = run_loop(burst(target, self.body, options.burst))
                    time.sleep(options.recovery_s)
                    after = pss_bytes(serving(target.pid))
                in_flight = len(self.body) * options.burst
                more = {"idle_mib": idle / KIB**2, "peak_mib": peak / KIB**2, "after_mib": after / KIB**2}
                more |= {"in_flight_mib": in_flight / KIB**2, "kept_share": (after - idle) / in_flight}
                return Sample((peak - idle) / in_flight, options.burst, more=more)

            yield measure


async def burst(target: Target, body: bytes, count: int) -> int:
    """Sends so many requests at once; returns the most memory that was seen until each has had its first event."""
    request = raw_request(target.path, body)
    clients = await connected(target, lambda: StreamClient(request), count)
    try:
        for client in clients:
            client.ask()
        looking = asyncio.create_task(_peak(target.pid))
        await first_events(clients, IDLE_GAP_MS / 1e3 + 30.0)
        raise_errors(target, clients)
        looking.cancel()
        return await looking
    finally:
        await close_all(clients)


async def _peak(pid: int) -> int:
    """Looks until it is cancelled, and then returns the most that it has seen."""
    peak = 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            peak = max(peak, pss_bytes(serving(pid)))
            await asyncio.sleep(LOOK_S)
    return peak
