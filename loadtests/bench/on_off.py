"""What the metrics cost a request, told inside one process: counted for 250 requests, not for the next 250.

Two processes side by side differ by more than what is asked for here (the placing of their memory, the moment); blocks
that follow one another do not. The switch is here and not in the router: `python -m loadtests.bench.on_off` runs the
router with one method wrapped, and appends a line for each pair of blocks to the file beside its configuration.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from loadtests.bench import wrk
from loadtests.bench.figures import BASELINE, Sample
from loadtests.bench.mode import Measure, Options, named, new_site
from loadtests.bench.processes import BenchError
from loadtests.bench.subjects import stand
from router.cli import main as cli
from router.model.outcome import RequestRecord
from router.telemetry.metrics import RequestMetrics

BLOCK: Final = 250
_SUFFIX: Final = ".pairs"


class Alternation:
    """Passes records on in every other block, and says what both kinds of block took."""

    def __init__(self, record: Callable[[RequestMetrics, RequestRecord], None], pairs: TextIO) -> None:
        self._record, self._pairs = record, pairs
        self._on, self._left = True, BLOCK
        self._on_ns = 0
        self._since_ns = time.thread_time_ns()

    def take(self, metrics: RequestMetrics, record: RequestRecord) -> None:
        if self._on:
            self._record(metrics, record)
        self._left -= 1
        if not self._left:
            self._switch()

    def _switch(self) -> None:
        spent_ns = time.thread_time_ns() - self._since_ns
        if self._on:
            self._on_ns = spent_ns
        else:
            print(self._on_ns, spent_ns, file=self._pairs, flush=True)
        self._on, self._left = not self._on, BLOCK
        self._since_ns = time.thread_time_ns()  # what the writing took is in no block


def difference_us(lines: Sequence[str]) -> float:
    """Microseconds a request: the median over pairs of blocks. Raises BenchError when there are too few."""
    pairs = [[int(word) for word in line.split()] for line in lines]
    if len(pairs) < 3:
        raise BenchError(f"{len(pairs)} pairs of {BLOCK} requests are too few to tell a difference: give it more time")
    return statistics.median((on_ns - off_ns) / BLOCK / 1e3 for on_ns, off_ns in pairs)


@dataclass(frozen=True, slots=True)
class MetricsOnOff:
    """The figure is a difference for the router, and a whole request for nginx: the ratio is the metrics' share."""

    name: str
    bar: str
    body: bytes
    unit: str = "CPU µs a request"
    added: bool = False
    subjects: tuple[str, ...] = (BASELINE, "router-on-off")

    def rounds(self, options: Options) -> int:
        return options.rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        with new_site(options.cores) as site, stand(site, named(subjects), 0.0) as here:
            body = site.folder / "body.json"
            body.write_bytes(self.body)
            pairs = site.folder / f"router-on-off.yaml{_SUFFIX}"

            def measure(name: str) -> Sample:
                before = len(_lines(pairs))
                run = wrk.run(here.targets[name], body, options.seconds, options.cores.load)
                value = difference_us(_lines(pairs)[before:]) if name != BASELINE else run.cpu_s / run.requests * 1e6
                return Sample(value, run.requests, run.rate, run.p50_ms, run.p99_ms)

            for name in subjects:
                wrk.run(here.targets[name], body, 1, options.cores.load)  # warm
            yield measure


def _lines(file: Path) -> list[str]:
    return file.read_text("utf-8").splitlines() if file.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    file: Path = parser.parse_args().config
    with file.with_name(file.name + _SUFFIX).open("w", encoding="utf-8") as pairs:
        alternation = Alternation(RequestMetrics.record, pairs)

        def record(metrics: RequestMetrics, request: RequestRecord) -> None:
            alternation.take(metrics, request)

        RequestMetrics.record = record  # type: ignore[assignment,method-assign]
        cli(["serve", "--config", str(file)])


if __name__ == "__main__":
    main()
