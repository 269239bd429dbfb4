"""Simulates fleets far larger than this machine: the router's own policies, on a fake clock, with made-up clouds.

    python -m loadtests.simulate --routers 100 --deployments 500 --seconds 60 --seed 1

Each router sees only its own requests. Our balancer and three others get the same requests, the same clouds and the
same events. `--trace` takes recorded requests, a JSON list or CSV with what `simulation/trace.py` calls a sample.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Final

from loadtests.plots.lines import Panel
from loadtests.plots.lines import drawn as picture
from loadtests.simulation.cloud import KINDS, Cloud, Event, Timeline
from loadtests.simulation.contenders import CONTENDERS
from loadtests.simulation.figures import Figures, figures
from loadtests.simulation.gateway import Ask, Books, Gateway
from loadtests.simulation.trace import Sample, drawn, read, recorded
from router.limits.estimate import tokens_of

RESULTS: Final = Path(__file__).parent / "results"
_SIZES: Final = (0.5, 1.0, 1.0, 2.0)  # of deployments, times `--slots`
_SPEEDS: Final = (0.8, 1.0, 1.0, 1.25)
_PROBED: Final = 4000  # requests that the means of a trace are taken from


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated. `load`: of all slots; `quota`: offered tokens over all quotas, 0 for no quotas."""

    routers: int = 10
    deployments: int = 20
    seconds: int = 30
    seed: int = 1
    slots: int = 16
    load: float = 0.7
    quota: float = 0.8
    sweep_s: float = 0.25
    judge: bool = True
    alike: bool = False  # all deployments of one size and speed
    events: tuple[Event, ...] = ()
    samples: tuple[Sample, ...] = ()  # recorded ones; none: drawn

    def trace(self, rng: random.Random) -> Iterator[Sample]:
        return recorded(list(self.samples), rng) if self.samples else drawn(rng)


def simulate(setup: Setup, contender: str, progress: Callable[[int], None] | None = None) -> Figures:
    """Runs one balancer. The same setup gives the same figures, and other balancers the same requests."""
    timeline = Timeline()
    few = list(islice(setup.trace(random.Random(f"{setup.seed}/means")), _PROBED))
    clouds, rate = _clouds(setup, few, timeline)
    books = Books(setup.deployments, setup.seconds)
    rng = random.Random(f"{setup.seed}/{contender}")
    gateways = [
        Gateway(timeline, clouds, CONTENDERS[contender](rng), books, rng, judge=setup.judge)
        for _ in range(setup.routers)
    ]
    _arrive(setup, timeline, gateways, rate)
    for event in setup.events:
        cloud = clouds[event.deployment]
        timeline.at(event.since_s, partial(cloud.change, event, begins=True))
        timeline.at(event.until_s, partial(cloud.change, event, begins=False))
    for number, gateway in enumerate(gateways):
        _every(timeline, setup.sweep_s, setup.sweep_s * number / setup.routers, gateway.sweep)
    _every(timeline, 1.0, 0.999, lambda: books.in_flight.append([cloud.in_flight for cloud in clouds]))
    for second in range(setup.seconds):
        timeline.run(second + 1 - 1e-9)
        if progress is not None:
            progress(second + 1)
    return figures(books, [cloud.slots for cloud in clouds], {event.deployment for event in setup.events})


def _clouds(setup: Setup, few: Sequence[Sample], timeline: Timeline) -> tuple[list[Cloud], float]:
    """The deployments, and the requests a second that load them as the setup wants."""
    rng = random.Random(f"{setup.seed}/clouds")
    sizes = [1.0 if setup.alike else rng.choice(_SIZES) for _ in range(setup.deployments)]
    speeds = [1.0 if setup.alike else rng.choice(_SPEEDS) for _ in range(setup.deployments)]
    slots = [max(1, round(setup.slots * size)) for size in sizes]
    rate = setup.load * sum(slots) / fmean(sample.total_s for sample in few)
    tokens = fmean(tokens_of(ask_of(sample)) for sample in few)
    minute = rate * 60 * tokens / setup.quota / sum(slots) if setup.quota else 1e12  # for each slot
    return [
        Cloud(timeline, slot, speed, int(minute * slot), rng.random() * 60.0)
        for slot, speed in zip(slots, speeds, strict=True)
    ], rate


def ask_of(sample: Sample) -> Ask:
    """Clients allow up to four times the tokens that they get."""
    return Ask(sample.prompt_tokens, 2 << sample.completion_tokens.bit_length())


def _arrive(setup: Setup, timeline: Timeline, gateways: Sequence[Gateway], rate: float) -> None:
    """Requests come by themselves (Poisson), each to any router."""
    rng = random.Random(f"{setup.seed}/arrivals")
    trace = setup.trace(rng)

    def arrive() -> None:
        sample = next(trace)
        rng.choice(gateways).serve(sample, ask_of(sample))
        timeline.at(timeline.now + rng.expovariate(rate), arrive)

    timeline.at(rng.expovariate(rate), arrive)


def _every(timeline: Timeline, period_s: float, first: float, do: Callable[[], object]) -> None:
    def again() -> None:
        do()
        timeline.at(timeline.now + period_s, again)

    timeline.at(first, again)


def event_of(text: str) -> Event:
    """Reads `slow:3@20-40` or `slow:3@20-40x5`. Raises ValueError."""
    kind, _, rest = text.partition(":")
    number, _, when = rest.partition("@")
    span, _, factor = when.partition("x")
    since, _, until = span.partition("-")
    if kind not in KINDS:
        raise ValueError(f"{text}: there are {', '.join(KINDS)}")
    return Event(kind, int(number), float(since), float(until), float(factor or 10.0))


def story(seconds: int, deployments: int) -> tuple[Event, ...]:
    """One deployment slows, one dies, one is throttled, each in the middle third, and recovers."""
    since, until = seconds / 3, seconds * 2 / 3
    return tuple(Event(kind, number, since, until) for number, kind in zip(range(deployments), KINDS, strict=False))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    events = tuple(options.event) if options.event else story(options.seconds, options.deployments)
    setup = Setup(
        routers=options.routers,
        deployments=options.deployments,
        seconds=options.seconds,
        seed=options.seed,
        slots=options.slots,
        load=options.load,
        quota=options.quota,
        # So many sweeps would take longer than all that they judge; fewer only make us slower to see what happened.
        sweep_s=0.25 if options.routers * options.deployments <= 5000 else 2.0,
        judge=not options.no_health,
        alike=options.alike,
        events=() if options.calm else events,
        samples=tuple(read(options.trace)) if options.trace else (),
    )
    results = {name: _timed(setup, name) for name in options.only or CONTENDERS}
    print(_table(results))
    if options.write:
        _write(setup, results, f"simulate-{options.routers}x{options.deployments}{options.suffix}")
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.simulate", description=(__doc__ or "").partition("\n")[0]
    )
    usual = Setup()
    parser.add_argument("--routers", type=int, default=usual.routers)
    parser.add_argument("--deployments", type=int, default=usual.deployments)
    parser.add_argument("--seconds", type=int, default=usual.seconds)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument(
        "--slots", type=int, default=usual.slots, help="requests that a usual deployment runs at a time"
    )
    parser.add_argument("--load", type=float, default=usual.load, help="of all slots")
    parser.add_argument("--quota", type=float, default=usual.quota, help="offered tokens over all quotas; 0: no quotas")
    parser.add_argument("--trace", type=Path, help="recorded requests, .json or .csv")
    parser.add_argument("--event", type=event_of, action="append", help="slow:3@20-40x10; also die, throttle")
    parser.add_argument("--calm", action="store_true", help="nothing happens")
    parser.add_argument("--alike", action="store_true", help="all deployments of one size and speed")
    parser.add_argument("--no-health", action="store_true", help="balancing alone")
    parser.add_argument("--only", action="append", choices=CONTENDERS, help="of the balancers")
    parser.add_argument("--write", action="store_true", help="keep figures and a plot in loadtests/results")
    parser.add_argument("--suffix", default="", help="of the files' names")
    return parser


def _timed(setup: Setup, name: str) -> Figures:
    began = time.perf_counter()

    def progress(second: int) -> None:
        taken = time.perf_counter() - began
        print(f"\r{name}: {second}/{setup.seconds} s in {taken:.0f} s ", end="", file=sys.stderr, flush=True)

    found = simulate(setup, name, progress)
    print(file=sys.stderr)
    return found


_COLUMNS: Final[tuple[tuple[str, Callable[[Figures], str]], ...]] = (
    ("p50 s", lambda f: f"{f.first_byte_p50_s:.3f}"),
    ("p95 s", lambda f: f"{f.first_byte_p95_s:.3f}"),
    ("p99 s", lambda f: f"{f.first_byte_p99_s:.3f}"),
    ("429s", lambda f: str(f.throttled)),
    ("failed", lambda f: str(f.failed_sends)),
    ("retries", lambda f: str(f.retries)),
    ("unserved", lambda f: str(f.unserved)),
    ("ejected", lambda f: str(f.ejections)),
    ("peak share", lambda f: f"{f.peak_share:.2f}"),
    ("peak in flight", lambda f: f"{f.peak_in_flight:.2f}"),
    ("dispersion", lambda f: f"{f.dispersion:.2f}"),
    ("autocorr 1-10 s", lambda f: f"{min(f.autocorrelation):+.2f}..{max(f.autocorrelation):+.2f}"),
)


def _table(results: dict[str, Figures]) -> str:
    rows = [["", *(heading for heading, _ in _COLUMNS)]]
    rows += [[name, *(show(found) for _, show in _COLUMNS)] for name, found in results.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _write(setup: Setup, results: dict[str, Figures], stem: str) -> None:
    described = asdict(setup) | {"samples": len(setup.samples)}
    content = {"setup": described, "balancers": {name: asdict(found) for name, found in results.items()}}
    (RESULTS / f"{stem}.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    spans = {(event.since_s, event.until_s) for event in setup.events}
    marks = [
        (*span, ", ".join(event.kind for event in setup.events if (event.since_s, event.until_s) == span))
        for span in sorted(spans)
    ]
    panels = [
        Panel(
            "p99 of the time to the first byte, seconds",
            {name: found.first_byte_p99_by_second for name, found in results.items()},
            marks,
        )
    ]
    panels += [
        Panel(
            f"share of deployment {event.deployment} over its ideal",
            {name: found.shares[str(event.deployment)] for name, found in results.items()},
            [(event.since_s, event.until_s, event.kind)],
        )
        for event in setup.events
    ]
    (RESULTS / f"{stem}.svg").write_text(picture(panels), "utf-8")
    print(f"loadtests/results/{stem}.json and .svg")


if __name__ == "__main__":
    sys.exit(main())
