"""What must hold for a run to pass, as data, and the verdict on what was measured. Pure.

A limit is `FIGURE=NUMBER`, and figures are named

    errors                 the share of requests that failed
    wrong                  requests whose answer was wrong; 0 in every set, also where a set of one's own leaves it out
    TYPE.p95, TYPE.p99     of all statistics of a type, in ms: POST.p99, TTFT.p95, GAP.p99
    TYPE:NAME.p99          of one statistic: POST:embeddings.p99
    after.p95, after.p99   of the last stage ÷ the first one's
    knee.users, knee.rate  at the knee of a ramp: at least so many
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtests.locust.checks import WrongAnswerError

NONE: Final = "none"
# What the emulated clouds take stands behind these: 90 ms to the first token, 12 ms between tokens, 400 ms in all,
# at the median; and two cores that clouds, router and load share. They catch what is broken, not what is slow by 10 %.
LIMITS: Final[Mapping[str, Mapping[str, float]]] = {
    NONE: {"errors": 0.01, "wrong": 0},
    "steady": {
        "errors": 0.001,
        "wrong": 0,
        "POST.p95": 1200,
        "POST.p99": 2000,
        "POST:embeddings.p99": 600,
        "TTFT.p95": 400,
        "TTFT.p99": 800,
        "GAP.p95": 60,
        "GAP.p99": 150,
    },
    "ramp": {"errors": 0.02, "wrong": 0, "knee.users": 40, "knee.rate": 60},
    "spike": {"errors": 0.01, "wrong": 0, "TTFT.p99": 4000, "after.p95": 1.5},
    "soak": {"errors": 0.001, "wrong": 0, "POST.p99": 2000, "TTFT.p95": 400, "TTFT.p99": 800, "GAP.p99": 150},
    # A killed region ends the answers that it was sending; the first requests that all throttle have nowhere to go.
    "outage": {"errors": 0.02, "wrong": 0, "TTFT.p95": 2000, "POST.p99": 6000},
}
_AT_LEAST: Final = ("knee.users", "knee.rate")
_PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_TYPES: Final = ("POST", "TTFT", "GAP", "TOKENS/S")


class LimitsError(ValueError):
    """A limit that cannot be read."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """One row of Locust's. `times`: how often each rounded time was seen, in ms (of TOKENS/S: tokens a second)."""

    type: str
    name: str
    count: int
    failures: int
    times: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """What one stage of a shape came to. `times` as in `Statistic`, of all requests."""

    stage: str
    users: int
    seconds: float
    requests: int
    failures: int
    times: Mapping[int, int]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def error_share(self) -> float:
        return self.failures / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """All that a run measured. `errors`: what requests failed of, by its text; `knee`: of a ramp that was passed."""

    statistics: Sequence[Statistic]
    errors: Mapping[str, int] = field(default_factory=dict)
    windows: Sequence[Window] = ()
    knee: Window | None = None

    def figure(self, name: str) -> float | None:
        """None: nothing was measured. Raises LimitsError where there is no such figure."""
        what, _, share = name.rpartition(".")
        if name == "errors":
            return self._error_share()
        if name == "wrong":
            return sum(count for text, count in self.errors.items() if text.startswith(WrongAnswerError.__name__))
        if what == "knee" and share in ("users", "rate"):
            return None if self.knee is None else float(getattr(self.knee, share))
        if share not in _PERCENTILES:
            raise LimitsError(f"there is no figure {name}")
        if what == "after":
            return self._after(_PERCENTILES[share])
        kind, _, wanted = what.partition(":")
        if kind not in _TYPES:
            raise LimitsError(f"there is no figure {name}: types are {', '.join(_TYPES)}")
        mine = (one.times for one in self.statistics if one.type == kind and wanted in ("", one.name))
        return percentile(summed(mine), _PERCENTILES[share])

    def _error_share(self) -> float | None:
        requests = sum(one.count for one in self.statistics if one.type == "POST")
        return sum(one.failures for one in self.statistics) / requests if requests else None

    def _after(self, share: float) -> float | None:
        if len(self.windows) < 2:
            return None
        first, last = (percentile(self.windows[index].times, share) for index in (0, -1))
        return last / first if first and last is not None else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit, what was measured, and whether it was kept. What was not measured does not keep its limit."""

    what: str
    limit: str
    figure: str
    kept: bool


def read_limits(text: str) -> dict[str, float]:
    """Reads `errors=0.01 TTFT.p99=2000`. Raises LimitsError."""
    found: dict[str, float] = {"wrong": 0.0}
    # Names of statistics hold spaces, so a limit ends at its number.
    rest = text.strip()
    while rest:
        name, equals, rest = rest.partition("=")
        number, _, rest = rest.strip().partition(" ")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise LimitsError(f"{name.strip()}{equals}{number}: not FIGURE=NUMBER") from None
        Figures(()).figure(name.strip())
    return found


def judged(limits: Mapping[str, float], figures: Figures) -> list[Verdict]:
    """A verdict for each limit, in their order."""
    return [_judged(name, limit, figures.figure(name)) for name, limit in limits.items()]


def percentile(times: Mapping[int, int], share: float) -> float | None:
    """The nearest rank: a time that was seen, below or at which `share` of all are; None: there are none."""
    rank = math.ceil(sum(times.values()) * share)
    for time in sorted(times):
        rank -= times[time]
        if rank <= 0:
            return float(time)
    return None


def summed(several: Iterable[Mapping[int, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for times in several:
        for time, count in times.items():
            found[time] = found.get(time, 0) + count
    return found


def _judged(name: str, limit: float, figure: float | None) -> Verdict:
    at_least = name in _AT_LEAST
    kept = figure is not None and (figure >= limit if at_least else figure <= limit)
    return Verdict(name, f"{'≥' if at_least else '≤'} {_shown(name, limit)}", _shown(name, figure), kept)


def _shown(name: str, figure: float | None) -> str:
    if figure is None:
        return "not measured"
    if name == "errors":
        return f"{figure * 100:.3g} %"
    if name.startswith("after."):
        return f"{figure:.2f} ×"
    if name.startswith("knee.rate"):
        return f"{figure:,.0f} /s"
    if name in ("wrong", "knee.users") or name.startswith("TOKENS/S"):
        return f"{figure:,.0f}"
    return f"{figure:,.0f} ms"
