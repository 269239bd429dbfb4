"""Wiring: the one place that names concrete classes of the rooms and puts them together."""

import asyncio
import random

from router.balancing.power_of_two import PowerOfTwo
from router.base.clock import SystemClock
from router.config.snapshot import Snapshot
from router.jobs.upkeep import Upkeep
from router.model.outcome import RequestRecord
from router.proxy.fleet import Fleet
from router.proxy.gateway import Gateway
from router.proxy.runtime import Runtime
from router.telemetry.access_log import AccessLog
from router.telemetry.exposition import DeploymentReading, Gauges, MetricsPage
from router.telemetry.metrics import RequestMetrics
from router.transport.names import Names
from router.transport.wheel import Wheel


class Ledgers:
    """The books of one process: each finished request is counted and logged."""

    def __init__(self, log: AccessLog) -> None:
        self.log = log
        self.metrics = RequestMetrics()
        self.event = log.event

    def request(self, record: RequestRecord) -> None:
        self.metrics.record(record)
        self.log.record(record)


class Assembly:
    """One process, put together and not yet started."""

    def __init__(self, snapshot: Snapshot, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError where the access log cannot be opened."""
        self.loop = loop
        self.wheel = Wheel(loop)
        self.names = Names(loop)
        self.books = Ledgers(AccessLog(snapshot.server.access_log))
        self.fleet = Fleet(loop, self.names)
        self.runtime = Runtime(snapshot, self.fleet, PowerOfTwo(random.Random()), self.books, SystemClock())
        self.runtime.adopt(snapshot)
        self.gateway = Gateway(loop, self.wheel, self.runtime)
        self.upkeep = Upkeep(loop, self.fleet, self.names)
        self.reloads = {"ok": 0, "refused": 0}

    def metrics_page(self) -> MetricsPage:
        return MetricsPage(self.books.metrics, self.read_gauges)

    def read_gauges(self) -> Gauges:
        """Everything that is a state and not an event, as it is now."""
        now = self.loop.time()
        server = self.gateway.server
        return Gauges(
            config_version=self.runtime.snapshot.version,
            draining=server.draining,
            in_flight=dict(self.runtime.in_flight),
            deployments=[
                DeploymentReading(
                    deployment=backend.deployment.id,
                    cloud=backend.deployment.cloud,
                    in_flight=backend.in_flight,
                    idle=backend.pool.idle,
                    busy=backend.pool.busy,
                    available=not backend.refusal(now),
                )
                for backend in self.fleet.backends.values()
            ],
            client_connections=len(server.connections),
            buffered_bytes=server.buffered_bytes,
            dials=self.fleet.total(lambda pool: pool.dials),
            reuses=self.fleet.total(lambda pool: pool.reuses),
            violations=self.runtime.violations,
            reloads=self.reloads,
            access_log_dropped=self.books.log.dropped,
            loop_lag_s=self.wheel.lag_s,
        )
