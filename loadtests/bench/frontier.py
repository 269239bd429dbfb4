"""The frontier: how many requests a second a proxy does while its slowest hundredth stays below a bound."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.bench.figures import DIRECT, Sample
from loadtests.bench.latency import fastest
from loadtests.bench.mode import Measure, Options, named, new_site
from loadtests.bench.open_loop import OpenLoop, TooSlowError, open_loop
from loadtests.bench.subjects import Target, stand

BOUNDS_MS: Final = (1.0, 5.0, 10.0, 50.0, 100.0)
SHOWN_MS: Final = 10.0  # the bound whose rate is the mode's figure
STEPS: Final = 32  # the rates that are tried are so many parts of the highest one
ABOVE: Final = 1.1  # the highest rate that is tried, in parts of what a closed loop reached


def highest_rates(p99_ms: Callable[[float], float], top: float, bounds_ms: Sequence[float]) -> dict[float, float]:
    """For each bound the highest rate, in STEPS of `top`, at which p99 is below it; 0 when there is none.

    A binary search for each bound over the same rates, so that what was measured for one serves the others.
    """
    seen: dict[int, float] = {}
    found: dict[float, float] = {}
    for bound in bounds_ms:
        passed, failed = 0, STEPS + 1
        while failed - passed > 1:
            step = (passed + failed) // 2
            if step not in seen:
                seen[step] = p99_ms(top * step / STEPS)
            if seen[step] < bound:
                passed = step
            else:
                failed = step
        found[bound] = top * passed / STEPS
    return found


def figure_name(bound_ms: float) -> str:
    return f"rate_p99_under_{bound_ms:g}_ms"


@dataclass(frozen=True, slots=True)
class Frontier:
    """Constant rates, searched for each subject in each round. `direct` is the load generator's own limit."""

    name: str
    bar: str
    body: bytes
    unit: str = f"requests/s, p99 < {SHOWN_MS:g} ms"
    added: bool = False
    subjects: tuple[str, ...] = (DIRECT, "nginx", "router")

    def rounds(self, options: Options) -> int:
        return options.frontier_rounds

    @contextlib.contextmanager
    def session(self, options: Options, subjects: Sequence[str]) -> Iterator[Measure]:
        with new_site(options.cores) as site, stand(site, named([n for n in subjects if n != DIRECT]), 0.0) as here:
            targets = {**here.targets, DIRECT: here.direct}
            file = site.folder / "body.json"
            file.write_bytes(self.body)
            tops = {name: ABOVE * fastest(targets[name], file, options) for name in subjects}
            yield lambda name: self._sample(targets[name], tops[name], options.frontier_seconds)

    def _sample(self, target: Target, top: float, seconds: float) -> Sample:
        runs: list[OpenLoop] = []

        def p99_ms(rate: float) -> float:
            try:
                runs.append(open_loop(target, self.body, rate, seconds))
            except TooSlowError:
                return math.inf
            return runs[-1].p99_ms

        rates = highest_rates(p99_ms, top, BOUNDS_MS)
        more = {figure_name(bound): rate for bound, rate in rates.items()}
        kept = [run.late_p99_ms for run in runs if run.rate <= rates[SHOWN_MS]]
        more["generator_late_p99_ms"] = max(kept, default=0.0)
        curve = sorted((run.rate, run.p99_ms) for run in runs)
        return Sample(rates[SHOWN_MS], sum(run.requests for run in runs), more=more, curve=curve)
