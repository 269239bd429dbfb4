"""The ways of loading a proxy. A mode sets its programs up, then measures one subject at a time."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import uvloop

from loadtests.bench import wrk
from loadtests.bench.bodies import chat_body, fetch
from loadtests.bench.figures import DIRECT, Sample
from loadtests.bench.open_loop import open_loop
from loadtests.bench.processes import BenchError, Cores
from loadtests.bench.streams import idle_memory, paced
from loadtests.bench.subjects import SUBJECTS, Site, Subject, Target, stand, started

PACED_STREAMS: Final = 200
PACED_GAP_MS: Final = 20.0
IDLE_GAP_MS: Final = 6_000.0  # all streams have had their first event before one gets its second
SMALL: Final = 1024
LARGE: Final = 16 * 1024
WARM_REQUESTS: Final = 20

Measure = Callable[[str], Sample]


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    cores: Cores
    rounds: int = 7
    seconds: float = 3.0
    latency_rounds: int = 20
    latency_seconds: float = 5.0
    idle_streams: int = 2000
    gauge_seconds: float = 1.0


class Mode(Protocol):
    """One line of the result's table."""

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def bar(self) -> str:
        """What the router must keep, in the table's words."""
        ...

    @property
    def subjects(self) -> tuple[str, ...]: ...

    def rounds(self, options: Options) -> int: ...

    def session(self, options: Options, subjects: Sequence[str], /) -> contextlib.AbstractContextManager[Measure]:
        """Starts what the mode needs; yields what measures one subject once."""
        ...


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """wrk with 64 connections. `router_body`: what the router is asked where that differs from the others."""

    name: str
    bar: str
    body: bytes
    router_body: bytes | None = None
    streams: bool = False
    tls: bool = False
    subjects: tuple[str, ...] = ("nginx", "naive", "router")

    @property
    def unit(self) -> str:
        return "CPU µs a chunk" if self.streams else "CPU µs a request"

    def rounds(self, options: Options) -> int:
        return options.rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        with _site(options, self.streams) as site, stand(site, _named(subjects), 0.0, self.tls) as here:
            files = {name: site.folder / f"{name}.json" for name in subjects}
            for name, file in files.items():
                file.write_bytes(self._body_for(name))
            chunks = _events(here.direct, self.body) if self.streams else 1

            def measure(name: str) -> Sample:
                run = wrk.run(here.targets[name], files[name], options.seconds, options.cores.load)
                units = run.requests * chunks
                return Sample(run.cpu_s / units * 1e6, units, run.rate * chunks, run.p50_ms, run.p99_ms)

            for name in subjects:
                wrk.run(here.targets[name], files[name], 1, options.cores.load)  # warm: pools filled, code specialised
            yield measure

    def _body_for(self, name: str) -> bytes:
        return self.router_body if name == "router" and self.router_body is not None else self.body


@dataclass(frozen=True, slots=True)
class PacedStreams:
    """Many streams at a token's pace: each chunk is a wake-up of its own."""

    name: str
    bar: str
    body: bytes
    unit: str = "CPU µs a chunk"
    subjects: tuple[str, ...] = ("nginx", "naive", "router")

    def rounds(self, options: Options) -> int:
        return options.rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        with _site(options, streaming=True) as site, stand(site, _named(subjects), PACED_GAP_MS) as here:

            def measure(name: str) -> Sample:
                run = uvloop.run(paced(here.targets[name], self.body, PACED_STREAMS, options.seconds, spread_s=1.0))
                return Sample(run.cpu_s / run.events * 1e6, run.events, run.events / run.seconds)

            yield measure


@dataclass(frozen=True, slots=True)
class IdleStreams:
    """Memory of streams that wait. Each round has a fresh proxy: what a first crowd left behind would hide a second."""

    name: str
    bar: str
    body: bytes
    unit: str = "KiB an open stream"
    subjects: tuple[str, ...] = ("nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.rounds

    @contextlib.contextmanager
    def session(self, options: Options, _: Sequence[str]) -> Iterator[Measure]:
        with _site(options, streaming=True) as site, stand(site, (), IDLE_GAP_MS) as here:

            def measure(name: str) -> Sample:
                with tempfile.TemporaryDirectory(dir=site.folder) as folder:
                    fresh = Site(Path(folder), options.cores, here.direct.port, streaming=True)
                    with started(SUBJECTS[name], fresh) as target:
                        for _warm in range(WARM_REQUESTS):
                            fetch(target.port, target.path, chat_body(SMALL))
                        size = uvloop.run(idle_memory(target, self.body, options.idle_streams, settle_s=1.0))
                return Sample(size / 1024, options.idle_streams)

            yield measure


@dataclass(frozen=True, slots=True)
class AddedLatency:
    """What a proxy adds to the slowest hundredth, at half of the rate that the router can do."""

    name: str
    bar: str
    body: bytes
    unit: str = "ms added to p99"
    subjects: tuple[str, ...] = (DIRECT, "nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.latency_rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        proxies = [name for name in subjects if name != DIRECT]
        with _site(options) as site, stand(site, _named(proxies), 0.0) as here:
            targets = {**here.targets, DIRECT: here.direct}
            file = site.folder / "body.json"
            file.write_bytes(self.body)
            slowest = targets["router" if "router" in targets else proxies[0]]
            runs = [wrk.run(slowest, file, max(2.0, options.seconds), options.cores.load) for _ in range(3)]
            rate = max(run.rate for run in runs) / 2  # the best of three: a disturbed one would make the load too light

            def measure(name: str) -> Sample:
                run = uvloop.run(open_loop(targets[name], self.body, rate, options.latency_seconds))
                return Sample(run.p99_ms, run.requests, run.rate, run.p50_ms, run.p99_ms)

            yield measure


MODES: Final[tuple[Mode, ...]] = (
    ClosedLoop("json-1k", "≤ 2.3 ×", chat_body(SMALL)),
    ClosedLoop(
        "decision-log",
        "on − off ≤ 0.25 ×",
        chat_body(SMALL),
        subjects=("nginx", "router", "router-no-decisions"),
    ),
    ClosedLoop("json-16k", "", chat_body(LARGE)),
    ClosedLoop("stream-50", "≤ 1.3 ×", chat_body(SMALL, stream=True, usage=True), streams=True),
    PacedStreams("stream-paced", "≤ 1.3 ×", chat_body(SMALL, stream=True, usage=True)),
    ClosedLoop(
        "stream-hidden-usage",
        "≤ 1.6 ×",
        chat_body(SMALL, stream=True, usage=True),
        router_body=chat_body(SMALL, stream=True),
        streams=True,
    ),
    ClosedLoop("tls-json-1k", "≤ 2.0 ×", chat_body(SMALL), tls=True),
    IdleStreams("idle-streams", "≤ 1.0 ×", chat_body(SMALL, stream=True, usage=True)),
    AddedLatency("added-p99", "≤ nginx + 1 ms", chat_body(SMALL)),
)
GAUGE: Final = ClosedLoop("gauge", "", chat_body(SMALL), subjects=("nginx", "naive"))


@contextlib.contextmanager
def _site(options: Options, streaming: bool = False) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Site(Path(folder), options.cores, streaming=streaming)


def _named(names: Sequence[str]) -> list[Subject]:
    return [SUBJECTS[name] for name in names]


def _events(upstream: Target, body: bytes) -> int:
    """SSE events of one answer, as the upstream sends it."""
    events = fetch(upstream.port, upstream.path, body).count(b"\n\n")
    if events < 2:
        raise BenchError("the upstream's answer is no stream of events")
    return events
