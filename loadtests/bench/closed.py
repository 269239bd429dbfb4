"""What a request or a chunk costs: CPU of the whole process tree, while as much is asked for as the proxy can do."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.bench import wrk
from loadtests.bench.bodies import fetch
from loadtests.bench.figures import Sample
from loadtests.bench.mode import Measure, Options, events_of, named, new_site
from loadtests.bench.streams import paced
from loadtests.bench.subjects import stand
from router.base.loops import run_loop

PACED_STREAMS: Final = 200
PACED_GAP_MS: Final = 20.0


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """wrk with 64 connections. `router_body`: what the router is asked where that differs from the others."""

    name: str
    bar: str
    body: bytes
    router_body: bytes | None = None
    streams: bool = False
    tls: bool = False  # with the upstream
    tls_clients: bool = False  # and with the clients
    shared: bool = False  # both cores for all
    added: bool = False
    subjects: tuple[str, ...] = ("nginx", "naive", "router")

    @property
    def unit(self) -> str:
        return "CPU µs a chunk" if self.streams else "CPU µs a request"

    def rounds(self, options: Options) -> int:
        return options.rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        cores = options.cores.shared() if self.shared else options.cores
        with (
            new_site(cores, streaming=self.streams) as site,
            stand(site, named(subjects), 0.0, self.tls, tls_clients=self.tls_clients) as here,
        ):
            files = {name: site.folder / f"{name}.json" for name in subjects}
            for name, file in files.items():
                file.write_bytes(self._body_for(name))
            chunks = len(events_of(here.direct, self.body)) if self.streams else 1

            def measure(name: str) -> Sample:
                run = wrk.run(here.targets[name], files[name], options.seconds, cores.load)
                units = run.requests * chunks
                more = {"bookkeeper_us": run.books_s / units * 1e6} if run.books_s else {}
                return Sample(run.cpu_s / units * 1e6, units, run.rate * chunks, run.p50_ms, run.p99_ms, more)

            for name in subjects:
                target = here.targets[name]
                fetch(target.port, target.path, self._body_for(name), tls=target.tls)  # may take seconds, once
                wrk.run(target, files[name], 1, cores.load)  # warm: pools filled, code specialised
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
    added: bool = False
    subjects: tuple[str, ...] = ("nginx", "naive", "router")

    def rounds(self, options: Options) -> int:
        return options.rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        with new_site(options.cores, streaming=True) as site, stand(site, named(subjects), PACED_GAP_MS) as here:

            def measure(name: str) -> Sample:
                run = run_loop(paced(here.targets[name], self.body, PACED_STREAMS, options.seconds, spread_s=1.0))
                return Sample(run.cpu_s / run.events * 1e6, run.events, run.events / run.seconds)

            yield measure
