"""Between probes and fleet: which endpoints can be asked, and what an answer means for the deployments there."""

from collections.abc import Iterator
from math import inf
from typing import Final

from router.health.engine import EngineLoad
from router.jobs.outward import ProbeTarget
from router.jobs.probes import ProbeResult
from router.proxy.backend import Backend
from router.proxy.runtime import Runtime

QUEUE_FULL: Final = 8  # waiting requests in an engine that count for one whole load more
KV_FULL_FROM: Final = 0.9  # share of the KV cache from which on an engine is about to evict


class Outlook:
    """The fleet by endpoints."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt

    def targets(self) -> Iterator[ProbeTarget]:
        by_endpoint: dict[str, list[Backend]] = {}
        for backend in self._rt.fleet.backends.values():
            by_endpoint.setdefault(backend.deployment.endpoint.id, []).append(backend)
        for endpoint_id, backends in by_endpoint.items():
            identity = self._rt.fleet.identities[endpoint_id]
            lines = (identity.tail or b"").decode("latin-1").split("\r\n")
            credential = dict(line.split(": ", 1) for line in lines if line)
            yield ProbeTarget(
                backends[0].deployment.endpoint,
                self._rt.fleet.ways[endpoint_id],
                credential,
                max(backend.health.last_traffic_at for backend in backends),
                out=any(backend.health.out for backend in backends),
            )

    def probed(self, endpoint_id: str, result: ProbeResult) -> None:
        rt, now = self._rt, self._rt.clock.monotonic()
        backends = rt.fleet.at_endpoint(endpoint_id)
        if result.reason == "credential" and backends:
            # A key may be good for completions and not for the list of models. So requests, where there are any, have
            # the word; and who is out already is not held there, since a request has to find out.
            unheard = all(backend.health.last_traffic_at == -inf and not backend.health.out for backend in backends)
            rt.credential_refused(backends[0], now, condemn=unheard)
            return
        for backend in backends:
            was = backend.health.out
            backend.health.probed(result.ok, now)
            if backend.health.out is not was:
                change = "opened" if backend.health.out else "probing"
                rt.books.event(
                    "health", deployment=backend.deployment.id, change=change, reason=f"probe_{result.reason}"
                )
        rt.fleet.standing.changed()

    def loaded(self, endpoint_id: str, load: EngineLoad) -> None:
        """Turns an engine's queue and cache into a multiplier of its load; what it does not say counts for nothing."""
        queued = (load.waiting or 0.0) / QUEUE_FULL
        pressed = 1.0 if load.kv_used is not None and load.kv_used >= KV_FULL_FROM else 0.0
        for backend in self._rt.fleet.at_endpoint(endpoint_id):
            backend.meter.engine = 1.0 + queued + pressed
