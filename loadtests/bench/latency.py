"""What a proxy adds to the time until an answer, or its first event, comes: always less the direct way's."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.bench import wrk
from loadtests.bench.bodies import raw_request
from loadtests.bench.closed import PACED_GAP_MS
from loadtests.bench.figures import DIRECT, Sample, percentile, percentiles
from loadtests.bench.frames import Crowd, Fidelity, Script
from loadtests.bench.memory import frame_figures
from loadtests.bench.mode import Measure, Options, events_of, named, new_site
from loadtests.bench.open_loop import Connection, open_loop
from loadtests.bench.subjects import Target, stand
from router.base.loops import run_loop

SPREAD_S: Final = 1.0
WARM: Final = 500  # requests of a serial connection that are not counted


@dataclass(frozen=True, slots=True)
class AddedLatency:
    """What a proxy adds to the slowest hundredth, at half of the rate that the router can do."""

    name: str
    bar: str
    body: bytes
    unit: str = "ms added to p99"
    added: bool = True
    subjects: tuple[str, ...] = (DIRECT, "nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.latency_rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        proxies = [name for name in subjects if name != DIRECT]
        with new_site(options.cores) as site, stand(site, named(proxies), 0.0) as here:
            targets = {**here.targets, DIRECT: here.direct}
            file = site.folder / "body.json"
            file.write_bytes(self.body)
            slowest = targets["router" if "router" in targets else proxies[0]]
            rate = fastest(slowest, file, options) / 2

            def measure(name: str) -> Sample:
                run = open_loop(targets[name], self.body, rate, options.latency_seconds)
                more = {"late_p99_ms": run.late_p99_ms}
                return Sample(run.p99_ms, run.requests, run.rate, run.p50_ms, run.p99_ms, more)

            yield measure


def fastest(target: Target, file: Path, options: Options) -> float:
    """Requests a second that it can do: the best of three, as a disturbed one would make the load too light."""
    runs = [wrk.run(target, file, max(2.0, options.seconds), options.cores.load) for _ in range(3)]
    return max(run.rate for run in runs)


@dataclass(frozen=True, slots=True)
class SerialLatency:
    """One connection, one request at a time: the way itself, with no queue anywhere."""

    name: str
    bar: str
    body: bytes
    unit: str = "ms added to p99"
    added: bool = True
    subjects: tuple[str, ...] = (DIRECT, "nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.latency_rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        with new_site(options.cores) as site, stand(site, named([n for n in subjects if n != DIRECT]), 0.0) as here:
            targets = {**here.targets, DIRECT: here.direct}

            def measure(name: str) -> Sample:
                seen = serial(targets[name], self.body, options.seconds)
                p50_ms, p99_ms = percentile(seen, 0.5) * 1e3, percentile(seen, 0.99) * 1e3
                return Sample(p99_ms, len(seen), len(seen) / sum(seen), p50_ms, p99_ms, curve=percentiles(seen))

            yield measure


def serial(target: Target, body: bytes, seconds: float) -> list[float]:
    """Sorted seconds from the sending of each request to the last byte of its answer, after WARM that do not count.

    There are at least as many that do, however slow the answers are.
    """
    request = raw_request(target.path, body)
    clock = time.perf_counter
    seen: list[float] = []
    connection = Connection(target.port, blocking=True)
    try:
        ends = 0.0
        while (began := clock()) < ends or len(seen) < 2 * WARM:
            if len(seen) == WARM:
                ends = began + seconds
            connection.send(request, began)
            while not connection.take():
                pass
            seen.append(clock() - began)
    finally:
        connection.socket.close()
    return sorted(seen[WARM:])


@dataclass(frozen=True, slots=True)
class PacedFrames:
    """Streams at a token's pace, each frame of which is checked and timed: what is added until the first one."""

    name: str
    bar: str
    body: bytes
    streams: int
    unit: str = "ms added to TTFT p99"
    added: bool = True
    subjects: tuple[str, ...] = (DIRECT, "nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.latency_rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        proxies = named([name for name in subjects if name != DIRECT])
        with (
            new_site(options.cores, streaming=True) as site,
            stand(site, proxies, PACED_GAP_MS, first_at_once=True) as here,
        ):
            targets = {**here.targets, DIRECT: here.direct}
            script = Script.of(events_of(here.direct, self.body))

            def measure(name: str) -> Sample:
                seen = run_loop(self._run(targets[name], script, options.latency_seconds))
                p50_ms, p99_ms = percentile(seen.first_s, 0.5) * 1e3, percentile(seen.first_s, 0.99) * 1e3
                rate = seen.events / options.latency_seconds
                more, curve = frame_figures(seen, PACED_GAP_MS), percentiles(seen.gaps_s)
                return Sample(p99_ms, seen.events, rate, p50_ms, p99_ms, more, curve)

            yield measure

    async def _run(self, target: Target, script: Script, seconds: float) -> Fidelity:
        crowd = Crowd(target, self.body, script)
        try:
            await crowd.start(self.streams, SPREAD_S)
            return await crowd.watch(seconds)
        finally:
            await crowd.close()
