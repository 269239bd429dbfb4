"""What a mode of the benchmark is, and what all of them share: how much is measured, and where their programs live."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from loadtests.bench.bodies import chat_body, fetch
from loadtests.bench.figures import Sample
from loadtests.bench.processes import BenchError, Cores
from loadtests.bench.subjects import SUBJECTS, Site, Subject, Target, started

SMALL: Final = 1024
WARM_REQUESTS: Final = 20
KIB: Final = 1024

Measure = Callable[[str], Sample]


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured. Seconds are of one subject in one round."""

    cores: Cores
    rounds: int = 7
    seconds: float = 3.0
    latency_rounds: int = 20
    latency_seconds: float = 5.0
    frontier_rounds: int = 5
    frontier_seconds: float = 2.0  # of each rate that is tried
    stream_seconds: float = 15.0  # of the open streams: each ends, and begins again, once
    memory_rounds: int = 3
    idle_streams: int = 2000
    open_streams: int = 5000
    burst: int = 1500
    recovery_s: float = 10.0  # from the end of a burst until memory is looked at again
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
    def added(self) -> bool:
        """The figure is what a proxy adds to that of the direct way."""
        ...

    @property
    def subjects(self) -> tuple[str, ...]: ...

    def rounds(self, options: Options) -> int: ...

    def session(self, options: Options, subjects: Sequence[str], /) -> contextlib.AbstractContextManager[Measure]:
        """Starts what the mode needs; yields what measures one subject once."""
        ...


@contextlib.contextmanager
def new_site(cores: Cores, *, streaming: bool = False) -> Iterator[Site]:
    """A folder for the mode's programs, which goes with it."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Site(Path(folder), cores, streaming=streaming)


@contextlib.contextmanager
def apart(site: Site) -> Iterator[Site]:
    """The same with a folder of its own, for a proxy that is started again and again."""
    with tempfile.TemporaryDirectory(dir=site.folder, ignore_cleanup_errors=True) as folder:
        yield replace(site, folder=Path(folder))


@contextlib.contextmanager
def fresh(name: str, site: Site) -> Iterator[Target]:
    """A proxy of its own for one measurement, warm: what a first crowd leaves behind would hide a second."""
    with apart(site) as own, started(SUBJECTS[name], own) as target:
        for _ in range(WARM_REQUESTS):
            fetch(target.port, target.path, chat_body(SMALL))
        yield target


def named(names: Sequence[str]) -> list[Subject]:
    return [SUBJECTS[name] for name in names]


def events_of(upstream: Target, body: bytes) -> list[bytes]:
    """The SSE events of one answer, as the upstream sends them."""
    payload = fetch(upstream.port, upstream.path, body, tls=upstream.tls)
    events = [event + b"\n\n" for event in payload.split(b"\n\n")[:-1]]
    if len(events) < 2 or b"".join(events) != payload:
        raise BenchError("the upstream's answer is no stream of events")
    return events
