"""What a drill comes to: bars with their figures, and how they were taken."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from loadtests.bench.figures import percentile
from loadtests.drills.load import Shot

# A p99 of some hundred requests wobbles by about this much with nothing changed.
P99_WOBBLE: Final = 1.15
# Where the load itself left this late, other programs had the machine: its p99s say nothing about the router.
LATE_MS_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of a drill is run. Each drill says what `fault_s` is the time of."""

    rate: float  # requests a second, in all; 0: the drill measures first what there can be
    before_s: float
    fault_s: float
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise, what was measured, and whether it was kept."""

    what: str
    bar: str
    figure: str
    kept: bool


@dataclass(slots=True)
class Outcome:
    """Of one drill. `figures`: everything else worth keeping, as JSON values.

    `late_ms`: how late the load left, at its p99, where times are measured; such a run can be void.
    """

    bars: list[Bar] = field(default_factory=list)
    late_ms: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def void(self) -> bool:
        return self.late_ms > LATE_MS_MAX

    @property
    def kept(self) -> bool:
        return all(bar.kept for bar in self.bars)

    def at_most(self, what: str, figure: float, limit: float, unit: str = "", form: str = "{:.3g}") -> None:
        shown = form.format(figure)
        self.bars.append(Bar(what, f"≤ {limit:g}{unit}", f"{shown}{unit}", figure <= limit))

    def at_least(self, what: str, figure: float, limit: float, unit: str = "", form: str = "{:.3g}") -> None:
        self.bars.append(Bar(what, f"≥ {limit:g}{unit}", f"{form.format(figure)}{unit}", figure >= limit))

    def none(self, what: str, count: int, of: str = "") -> None:
        self.bars.append(Bar(what, "0", f"{count}{f' of {of}' if of else ''}", count == 0))


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill, in full and at its quickest. `method`: how its figures are taken, for the result's reader."""

    name: str
    method: str
    run: Callable[[Scale], Coroutine[Any, Any, Outcome]]
    full: Scale
    quick: Scale


def p99_first_ms(shots: Sequence[Shot]) -> float:
    """Of those that were answered well; `inf` where none was."""
    times = sorted(one.first_s for one in shots if one.ok)
    return percentile(times, 0.99) * 1000 if times else float("inf")


def late_p99_ms(shots: Sequence[Shot]) -> float:
    """How late requests left after they were due: what the load itself, or a missing connection, added."""
    late = sorted(one.begun - one.due for one in shots if one.begun)
    return percentile(late, 0.99) * 1000 if late else float("inf")


def failures(shots: Sequence[Shot]) -> dict[str, int]:
    """Why requests failed: the status, or how the answer broke, and how often."""
    found: dict[str, int] = {}
    for one in shots:
        if not one.ok and not one.left:
            why = f"{one.status} {_code(one.text)}" if one.failed_before_commit else "broken after its begin"
            found[why] = found.get(why, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _code(text: bytes) -> str:
    _, found, rest = text.partition(b'"code":"')
    return rest.partition(b'"')[0].decode("ascii", "replace") if found else "no answer"


def share_bins(
    counts: Mapping[str, Sequence[float]], name: str, since: float, until: float, bin_s: float
) -> list[float]:
    """A cloud's share of all arrivals, bin by bin. `counts`: arrival times by cloud; a bin without any has share 0."""
    bins = int((until - since) / bin_s)
    mine, everyone = [0] * bins, [0] * bins
    for cloud, times in counts.items():
        for at in times:
            index = int((at - since) // bin_s)
            if 0 <= index < bins:
                everyone[index] += 1
                mine[index] += cloud == name
    return [own / total if total else 0.0 for own, total in zip(mine, everyone, strict=True)]
