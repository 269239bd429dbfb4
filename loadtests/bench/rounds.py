"""Interleaved rounds: each subject in turn, in rotating order, and again when the machine was not itself."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from loadtests.bench.figures import (
    ATTEMPTS_PER_ROUND,
    DIRECT,
    Round,
    Spread,
    differences,
    ratios,
    rotated,
    spreads,
)
from loadtests.bench.mode import Measure, Mode, Options
from loadtests.bench.modes import GAUGE
from loadtests.bench.procfs import bookkeeping_s, cpu_s, machine_time


@dataclass(slots=True)
class Result:
    """A mode's rounds, also those that do not count."""

    mode: Mode
    subjects: Sequence[str]
    wanted: int
    rounds: list[Round] = field(default_factory=list)

    @property
    def valid(self) -> list[Round]:
        return [r for r in self.rounds if not r.void]

    @property
    def complete(self) -> bool:
        return len(self.valid) >= self.wanted


def proxies(result: Result) -> list[str]:
    return [name for name in result.subjects if name != DIRECT]


def compared(result: Result) -> dict[str, Spread]:
    """Differences where the figure is already one (added latency), ratios elsewhere."""
    compare = differences if result.mode.added else ratios
    return compare(result.valid, proxies(result))


def figures(result: Result) -> dict[str, Spread]:
    """Each proxy's own figure."""
    return spreads(result.valid, proxies(result), added=result.mode.added)


def run_mode(mode: Mode, options: Options, subjects: Sequence[str], report: Callable[[Result], None]) -> Result:
    """Runs rounds until enough of them count, at most ATTEMPTS_PER_ROUND times as many as wanted."""
    result = Result(mode, subjects, mode.rounds(options))
    with mode.session(options, subjects) as measure, _gauge(mode, options, subjects) as gauge:
        while not result.complete and len(result.rounds) < ATTEMPTS_PER_ROUND * result.wanted:
            result.rounds.append(_round(len(result.rounds), subjects, measure, gauge))
            report(result)
    return result


def _round(number: int, subjects: Sequence[str], measure: Measure, gauge: Measure | None) -> Round:
    before, own_s = machine_time(), _own_s()
    samples = {name: measure(name) for name in rotated(subjects, number)}
    cost = gauge or (lambda name: samples[name])
    ratio = cost("naive").value / cost("nginx").value
    after, own_s = machine_time(), _own_s() - own_s
    return Round(samples, ratio, after.steal_share_since(before), after.foreign_share_since(before, own_s))


def _own_s() -> float:
    """Seconds of CPU of the benchmark and all that it has started."""
    return cpu_s(os.getpid()) + bookkeeping_s(os.getpid())


@contextlib.contextmanager
def _gauge(mode: Mode, options: Options, subjects: Sequence[str]) -> Iterator[Measure | None]:
    """Measures naive aiohttp beside nginx with 1 KB requests, in each round; None where the mode does just that."""
    if mode.name == "json-1k" and {"nginx", "naive"} <= set(subjects):
        yield None
        return
    with GAUGE.session(replace(options, seconds=options.gauge_seconds), GAUGE.subjects) as measure:
        yield measure
