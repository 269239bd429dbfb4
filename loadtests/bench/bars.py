"""What the router must keep, and what of it this run shows. A bar is judged by the median of the rounds that count."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.baselines.peers import PEERS
from loadtests.bench.figures import BASELINE, DIRECT, Round, Spread
from loadtests.bench.frames import LATE

Figure = Callable[[Round], float]  # KeyError where the round does not have it

ROUTER: Final = "router"
_LATE: Final = f"gaps_over_{LATE:g}_paces"


@dataclass(frozen=True, slots=True)
class Bar:
    """`limit` must be kept, `beyond` is hoped for; both are the most that is allowed."""

    what: str
    mode: str
    unit: str
    limit: float
    figure: Figure
    beyond: float | None = None
    always: bool = False  # in every round, and not only in the median


@dataclass(frozen=True, slots=True)
class Verdict:
    bar: Bar
    found: Spread | None  # None: not measured in this run

    @property
    def words(self) -> str:
        if self.found is None:
            return "not measured"
        value = self.found.high if self.bar.always else self.found.median
        if self.bar.beyond is not None and value <= self.bar.beyond:
            return "beyond"
        return "met" if value <= self.bar.limit else "not met"


def against(subject: str, base: str) -> Figure:
    return lambda r: r.samples[subject].value / r.samples[base].value


def against_fastest(names: Sequence[str]) -> Figure:
    """The router beside the cheapest of those that a round has."""

    def figure(r: Round) -> float:
        costs = [r.samples[name].value for name in names if name in r.samples]
        if not costs:
            raise KeyError(f"none of {', '.join(names)}")
        return r.samples[ROUTER].value / min(costs)

    return figure


def permille(figure: Figure) -> Figure:
    return lambda r: 1000 * figure(r)


def own(subject: str) -> Figure:
    return lambda r: r.samples[subject].value


def added(subject: str) -> Figure:
    return lambda r: r.samples[subject].value - r.samples[DIRECT].value


def part(name: str, subject: str = ROUTER) -> Figure:
    return lambda r: r.samples[subject].more[name]


def beside_direct(name: str) -> Figure:
    return lambda r: r.samples[ROUTER].more[name] - r.samples[DIRECT].more[name]


_LLM_AWARE: Final = against_fastest([peer.name for peer in PEERS if peer.aware])


def _of_accounts(r: Round) -> float:
    on, off = r.samples[ROUTER].value, r.samples["router-no-accounts"].value
    return (on - off) / r.samples[BASELINE].value


_TO_NGINX: Final = against(ROUTER, BASELINE)

BARS: Final = (
    Bar("CPU of a 1 KB request", "json-1k", "× nginx", 2.2, _TO_NGINX, 1.5),
    Bar("CPU of a 16 KB request", "json-16k", "× nginx", 1.6, _TO_NGINX),
    Bar("CPU of a 128 KB request", "json-128k", "× nginx", 1.6, _TO_NGINX),
    Bar("CPU of the metrics", "metrics-onoff", "× nginx's request", 0.1, against("router-on-off", BASELINE)),
    Bar("CPU of limits and ledger", "accounts", "× nginx's request", 0.2, _of_accounts),
    Bar("CPU of a chunk, back to back", "stream-50", "× nginx", 1.25, _TO_NGINX, 1.0),
    Bar("CPU of a chunk, 200 streams at 20 ms", "stream-paced", "× nginx", 1.25, _TO_NGINX, 1.0),
    Bar("CPU of a request, two workers", "workers-2", "× one worker", 1.1, against("router-2-workers", ROUTER)),
    Bar("CPU of a 1 KB request", "peers-json-1k", "× the fastest LLM-aware router", 0.6, _LLM_AWARE, 0.4),
    Bar("CPU of a chunk, back to back", "peers-stream-50", "× the fastest LLM-aware router", 1.0, _LLM_AWARE),
    Bar("CPU of a 1 KB request", "peers-json-1k", "‰ of LiteLLM's", 4.0, permille(against(ROUTER, "litellm")), 2.5),
    Bar("added p99, one connection", "added-c1", "ms", 0.150, added(ROUTER), 0.107),
    Bar("added TTFT p99, 500 paced streams", "added-ttft-500", "ms", 1.0, added(ROUTER), 0.273),
    Bar("broken streams of 200 at 20 ms", "fidelity", "streams", 0, part("broken_streams"), always=True),
    Bar("broken streams of 500 at 20 ms", "added-ttft-500", "streams", 0, part("broken_streams"), always=True),
    Bar(f"gaps over {LATE:g} × the pace, 200 streams", "fidelity", "more than direct", 0, beside_direct(_LATE)),
    Bar("memory of 5,000 open streams", "streams-5000", "KiB each", 16, own(ROUTER), 10),
    Bar("broken streams of 5,000", "streams-5000", "streams", 0, part("broken_streams"), always=True),
    Bar(f"gaps over {LATE:g} × the pace, 5,000 streams", "streams-5000", "more than direct", 0, beside_direct(_LATE)),
    Bar("peak of 150 KB × 1,500 at once", "memory-burst", "× bytes in flight", 1.3, own(ROUTER)),
    Bar("of which kept 10 s after", "memory-burst", "× bytes in flight", 0.1, part("kept_share")),
    Bar("start to ready", "startup", "s", 1.0, part("ready_s")),
)


def judged(rounds: Mapping[str, Sequence[Round]]) -> list[Verdict]:
    """Every bar against the valid rounds of its mode; a bar whose mode or subject was left out is not measured."""
    return [Verdict(bar, _found(bar, rounds.get(bar.mode, ()))) for bar in BARS]


def _found(bar: Bar, rounds: Sequence[Round]) -> Spread | None:
    try:
        values = [bar.figure(r) for r in rounds]
    except KeyError:
        return None
    return Spread.of(values) if values else None
