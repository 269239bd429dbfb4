"""What a sweep does to deployments: who is beyond its own objective, and how far streams are."""

import random
from types import SimpleNamespace
from typing import Any

from router.balancing.meter import Meter
from router.health.health import Health
from router.health.settings import HealthSettings
from router.jobs.sweeps import EVENT_BYTES, Sample, _beyond_objective, _correct_outstanding


def sample(name: str) -> Sample:
    return Sample(name, Health(HealthSettings(), random.Random(1)), 0.1, 0.0, 0)


def backend(objective_ms: float | None, p50_s: float) -> Any:
    deployment = SimpleNamespace(ttft_objective_ms=objective_ms)
    return SimpleNamespace(deployment=deployment, meter=SimpleNamespace(quantile_s=lambda q: p50_s))


def test_who_is_slower_than_its_own_objective_goes_where_another_can_serve() -> None:
    late, good = sample("late"), sample("good")
    backends = {"late": backend(200.0, 0.3), "good": backend(200.0, 0.1)}

    assert _beyond_objective([(late, good)], backends) is late
    assert _beyond_objective([(good,)], backends) is None
    late.health.eject("slow", 0.0)
    assert _beyond_objective([(late, good)], backends) is None, "it is out already"


def test_the_last_in_service_of_any_tier_stays_however_late() -> None:
    late, other, out = sample("late"), sample("other"), sample("out")
    out.health.eject("slow", 0.0)
    backends = {"late": backend(200.0, 0.3), "other": backend(None, 9.0), "out": backend(None, 0.1)}

    assert _beyond_objective([(late, other)], backends) is late
    assert _beyond_objective([(late, other), (late, out)], backends) is None, "the second tier has nobody else"


def test_without_an_objective_nobody_is_judged_by_one() -> None:
    both = (sample("a"), sample("b"))
    assert _beyond_objective([both], {"a": backend(None, 9.0), "b": backend(None, 9.0)}) is None


class Attempt:
    """As far as a sweep looks at it."""

    def __init__(self, tokens: float) -> None:
        self.tokens = self.completion_tokens = tokens


def test_what_has_streamed_out_is_no_longer_outstanding() -> None:
    meter, attempt = Meter(100.0), Attempt(500.0)
    meter.begin(attempt.tokens)
    inbound = SimpleNamespace(bytes_out=200 * EVENT_BYTES)
    running: Any = SimpleNamespace(meter=meter, streaming={attempt: inbound})

    _correct_outstanding(running)
    assert meter.tokens == attempt.tokens == 300.0
    inbound.bytes_out = 10_000 * EVENT_BYTES  # far more than was thought
    _correct_outstanding(running)
    assert meter.tokens == attempt.tokens == 0.0
    meter.end(attempt.tokens, 0.0)
    assert meter.tokens == 0.0
