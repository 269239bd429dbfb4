"""What is looked at several times a second because no request will: who is slow, and how far streams are."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from router.balancing.peers import tell_peers
from router.health.health import Health
from router.health.outliers import sweep
from router.proxy.backend import Backend
from router.proxy.runtime import Runtime

SWEEP_EVERY_S: Final = 0.25
EVENT_BYTES: Final = 180  # of a stream's event, which is about a token


@dataclass(frozen=True, slots=True)
class Sample:
    """A deployment at the moment of a sweep; see `health.outliers.Sample`."""

    id: str
    health: Health
    first_byte_s: float
    oldest_wait_s: float
    waiting: int


class Sweeps:
    """The job of one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rt: Runtime) -> None:
        self._loop, self._rt = loop, rt
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._handle = self._loop.call_later(SWEEP_EVERY_S, self._again)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def run(self, now: float) -> None:
        """One sweep."""
        rt = self._rt
        snapshot = rt.current()  # a rule's window may have ended without a request
        fleet = rt.fleet
        for backend in fleet.backends.values():
            _correct_outstanding(backend)
        streamed = {
            backend.deployment.model for backend in fleet.backends.values() if backend.meter.stream.mean_s > 0.0
        }
        samples = {
            backend: _sample(backend, now, streams=backend.deployment.model in streamed)
            for backend in fleet.backends.values()
        }
        groups = {
            tuple(samples[target.backend] for target in tier.targets)
            for plan in fleet.plans.values()
            for tier in plan.tiers
            if len(tier.targets) > 1
        }
        epoch_moved = False
        for group in groups:
            tell_peers(fleet.backends[sample.id].meter for sample in group)
        for deployment_id, reason in sweep(list(groups), snapshot.health, now):
            rt.books.event("health", deployment=deployment_id, change="ejected", reason=reason)
            epoch_moved = True
        late = _beyond_objective(groups, fleet.backends)
        if late is not None:
            late.health.eject("slow", now)
            rt.books.event("health", deployment=late.id, change="ejected", reason="objective")
            epoch_moved = True
        for backend in fleet.backends.values():
            health = backend.health
            if not health.clear:
                health.tick(now)
                epoch_moved = True
            backend.meter.ramp = 1.0 if health.clear else health.ramp(now)
        if epoch_moved:
            fleet.standing.changed()

    def _again(self) -> None:
        self._handle = self._loop.call_later(SWEEP_EVERY_S, self._again)
        self.run(self._loop.time())


def _beyond_objective(groups: Iterable[tuple[Sample, ...]], backends: Mapping[str, Backend]) -> Sample | None:
    """One whose streams usually begin later than its own objective, in tiers that can all spare it."""
    needed: set[str] = set()
    members: dict[str, Sample] = {}
    for group in groups:
        in_service = [sample for sample in group if not sample.health.out]
        members |= {sample.id: sample for sample in in_service}
        if len(in_service) == 1:
            needed.add(in_service[0].id)
    for name, sample in members.items():
        objective_ms = backends[name].deployment.ttft_objective_ms
        late = objective_ms is not None and backends[name].meter.quantile_s(0.5) * 1000 > objective_ms
        if late and name not in needed:
            return sample
    return None


def _sample(backend: Backend, now: float, *, streams: bool) -> Sample:
    """Of streams where the model has any: a whole answer's first byte says how long it is, not how slow."""
    waiting = len(backend.unanswered) if streams else 0
    oldest_wait_s = now - next(iter(backend.unanswered.values())) if waiting else 0.0
    return Sample(backend.deployment.id, backend.health, backend.meter.first_byte_s(streams), oldest_wait_s, waiting)


def _correct_outstanding(backend: Backend) -> None:
    """Takes what has streamed out meanwhile off the outstanding tokens."""
    for attempt, inbound in backend.streaming.items():
        left = max(0.0, attempt.completion_tokens - inbound.bytes_out / EVENT_BYTES)
        if left < attempt.tokens:
            backend.meter.progress(attempt.tokens - left)
            attempt.tokens = left
