"""How many users there are at each moment. A shape is asked once a second, and keeps a window for each of its stages.

Users ask one after another: when the gateway stalls, they all wait, and less is asked. So times beyond the knee are
too good, and it is the knee that counts. What leaves at a constant rate whatever happens is `make bench`'s open loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.locust.limits import Window, percentile

SETTLE_S: Final = 1.0  # of a stage, in which users still come or go: in no window
STEP_S: Final = 5.0
STEP_FACTOR: Final = 1.5
KNEE_P99_RATIO: Final = 2.5  # of the first step's
KNEE_ERROR_SHARE: Final = 0.01
GENERATOR_CPU_MAX: Final = 0.9  # of a core: from here on Locust measures itself


@dataclass(frozen=True, slots=True)
class Totals:
    """What Locust has counted so far."""

    requests: int
    failures: int
    times: Mapping[int, int]

    def since(self, before: "Totals") -> "Totals":
        times = {time: count - before.times.get(time, 0) for time, count in self.times.items()}
        return Totals(
            self.requests - before.requests,
            self.failures - before.failures,
            {time: count for time, count in times.items() if count},
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """So many users for so long."""

    name: str
    users: int
    seconds: float


def steady(users: int, seconds: float) -> tuple[Stage, ...]:
    return (Stage("steady", users, seconds),)


def spike(users: int, seconds: float) -> tuple[Stage, ...]:
    """A quarter of the users, all of them, a quarter again."""
    few = max(1, users // 4)
    return Stage("before", few, seconds / 3), Stage("spike", users, seconds / 3), Stage("after", few, seconds / 3)


class Plan:
    """The stages of a shape, passed one after another. Pure: `at` is seconds since the start."""

    knee: Window | None = None
    stopped_by = ""  # why a ramp ended

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.windows: list[Window] = []
        self._stages = list(stages)
        self._began = 0.0
        self._from: tuple[float, Totals] | None = None

    def users(self, at: float, totals: Totals, generator_cpu: float = 0.0) -> int | None:
        """How many there should be now; None: the run is over. `generator_cpu`: cores that Locust itself takes."""
        stage = self._stages[len(self.windows)]
        if self._from is None and at >= self._began + min(SETTLE_S, stage.seconds / 2):
            self._from = at, totals
        if at < self._began + stage.seconds:
            return stage.users
        since, before = self._from or (self._began, totals)
        seen = totals.since(before)
        window = Window(stage.name, stage.users, at - since, seen.requests, seen.failures, seen.times)
        self.windows.append(window)
        self._began, self._from = at, (at, totals) if len(self._stages) == len(self.windows) else None
        if not self._goes_on(window, generator_cpu):
            return None
        return self._stages[len(self.windows)].users

    def _goes_on(self, _window: Window, _generator_cpu: float) -> bool:
        return len(self.windows) < len(self._stages)


class Ramp(Plan):
    """Half as many users again each step, until answers become slow or fail: the step before is the knee."""

    def __init__(self, users_max: int, seconds: float) -> None:
        steps: list[Stage] = []
        users = float(max(1, users_max // 16))
        while len(steps) < int(seconds / STEP_S):
            steps.append(Stage(f"step {len(steps) + 1}", min(round(users), users_max), STEP_S))
            if round(users) >= users_max:
                break
            users *= STEP_FACTOR
        super().__init__(steps or steady(users_max, seconds))

    def _goes_on(self, window: Window, generator_cpu: float) -> bool:
        first = percentile(self.windows[0].times, 0.99)
        now = percentile(window.times, 0.99)
        if window.error_share > KNEE_ERROR_SHARE:
            self.stopped_by = f"{window.error_share:.1%} of the requests failed"
        elif first is None or now is None:
            self.stopped_by = "nothing was answered"
        elif now > first * KNEE_P99_RATIO:
            self.stopped_by = f"p99 was {now / first:.1f} times the first step's"
        elif generator_cpu > GENERATOR_CPU_MAX:
            self.stopped_by = "Locust itself had no CPU left: the router's knee is further on"
        else:
            self.knee = window
            if super()._goes_on(window, generator_cpu):
                return True
            self.stopped_by = "it had no more steps: the knee is further on"
        return False


def plan(shape: str, users: int, seconds: float) -> Plan:
    """Of a shape by its name."""
    if shape == "ramp":
        return Ramp(users, seconds)
    return Plan(spike(users, seconds) if shape == "spike" else steady(users, seconds))


SHAPES: Final = ("steady", "ramp", "spike", "soak", "outage")  # a soak and an outage are steady: others watch, or break
