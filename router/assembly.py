"""Wiring: the one place that names concrete classes of the rooms and puts them together."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from router.admin.picture import Scene
from router.admin.scene import scene_of
from router.admin.stories import Stories
from router.base.clock import Clock, SystemClock
from router.base.segments import free_writer
from router.config.snapshot import Snapshot
from router.config.tls import own_certificates
from router.jobs.accounts import Accounts
from router.jobs.anchoring import Anchoring
from router.jobs.engine_load import EngineLoads
from router.jobs.key_book import KeyBook
from router.jobs.keyring import KeyRing
from router.jobs.loops import Surprised, tell_failures
from router.jobs.outlook import Outlook
from router.jobs.probes import Probes
from router.jobs.supplies import supply_of
from router.jobs.sweeps import Sweeps
from router.jobs.tokens import TokenKeeper
from router.jobs.upkeep import Upkeep
from router.ledger.settings import LedgerSettings
from router.ledger.writer import Ledger, LedgerWriter, NoLedger
from router.model.outcome import RequestRecord
from router.proxy.figures import fleet_numbers, limit_numbers, limits_left
from router.proxy.fleet import Fleet
from router.proxy.gateway import Gateway
from router.proxy.limiting import Limiting, Supply
from router.proxy.queues import Queues
from router.proxy.runtime import Runtime
from router.telemetry import names
from router.telemetry.access_log import AccessLog
from router.telemetry.decision_log import DecisionLog, NoDecisionLog
from router.telemetry.metrics import RequestMetrics
from router.telemetry.process import process_numbers
from router.telemetry.reading import Numbers, Reading
from router.telemetry.recent import Recent
from router.telemetry.reloads import Reloads
from router.telemetry.tracing import Tracing
from router.transport.names import Names
from router.transport.server import Server
from router.transport.wheel import Wheel

TOKENS_WITHIN_S: Final = 10.0  # a start waits so long for the clouds' tokens
ANCHOR_EVERY_S: Final = 10.0
SIGNERS: Final = 2  # threads: what is signed is signed by OpenSSL, without the interpreter's lock


@cache  # reading it parses the whole README
def _version() -> str:
    try:
        return version("inference-router")
    except PackageNotFoundError:  # run from its sources, not installed
        return "unknown"


class Ledgers:
    """The books of one process: each finished request is accounted, counted and logged."""

    def __init__(self, log: AccessLog, worker: int | None = None) -> None:
        self.log = log
        self.ledger: Ledger = NoLedger()
        self.metrics = RequestMetrics()
        self.recent = Recent()
        self.gaps = self.metrics.gaps
        self.event: Callable[..., None] = log.event if worker is None else partial(log.event, worker=worker)

    def request(self, record: RequestRecord) -> None:
        self.ledger.add(record)
        self.metrics.record(record)
        self.log.record(record)
        self.recent.add(record)


@dataclass(frozen=True, slots=True)
class Jobs:
    """The loops of one process that outlive a request."""

    upkeep: Upkeep
    sweeps: Sweeps
    tokens: TokenKeeper
    probes: Probes
    engine_loads: EngineLoads
    anchoring: Anchoring

    async def start(self) -> None:
        """Starts all, and waits a while for the clouds' tokens."""
        self.upkeep.start()
        self.sweeps.start()
        self.tokens.start()
        await self.tokens.settle(TOKENS_WITHIN_S)
        self.probes.start()
        self.engine_loads.start()
        self.anchoring.start()

    async def stop(self) -> None:
        self.sweeps.stop()
        for job in (self.anchoring, self.engine_loads, self.probes, self.tokens, self.upkeep):
            await job.stop()


class Assembly:
    """One process, put together and not yet started."""

    def __init__(
        self,
        snapshot: Snapshot,
        loop: asyncio.AbstractEventLoop,
        clock: Clock | None = None,
        worker: int | None = None,
        supply: Callable[[Surprised], Supply] | None = None,
        beside: bool = False,
    ) -> None:
        """`worker`: its number, where several processes share the port and the logs. `supply`: of their limits.

        `beside`: a router before may still write what has this one's name; then another is found.

        Raises OSError where a log or the ledger cannot be opened, ValueError where their settings cannot work.
        """
        self.loop = loop
        self._alone = worker is None
        self.wheel = Wheel(loop)
        self.names = Names(loop)
        # Shared in any case: the next router writes to it while this one ends.
        self.books = Ledgers(AccessLog(snapshot.server.access_log, shared=True), worker)
        clock = clock or SystemClock()
        self._open_books(snapshot, clock, f"worker-{worker}" if worker is not None else "0", beside=beside)
        self.signers = ThreadPoolExecutor(max_workers=SIGNERS, thread_name_prefix="signer")
        self.fleet = Fleet(loop, self.names, random.Random())
        self.supply = (supply or partial(supply_of, snapshot.redis, loop, clock, self.books.event))(self._surprised)
        self.limits = Limiting(self.supply)
        self.runtime = Runtime(
            *(loop, snapshot, self.fleet, Queues(loop, self.wheel), self.limits),
            *(self.books, self.decisions, self.signers, clock),
        )
        self.runtime.homes.keep = self.books.ledger.add
        if snapshot.tracing is not None:
            self.runtime.tracing = Tracing(snapshot.tracing, self.books.event, random.Random())
        self.runtime.adopt(snapshot)
        self.gateway = Gateway(loop, self.wheel, self.runtime)
        self.keyring = KeyRing(loop, lambda: self.runtime.snapshot, self.runtime.adopt_keys, self.books.event)
        self.accounts: Accounts | None = None  # several processes have them in common
        self.key_book: KeyBook | None = None
        if snapshot.ledger is not None and self._alone:
            self._keep_ledger(snapshot, snapshot.ledger)
        tell_failures(loop, self._surprised)
        self.jobs = self._jobs(snapshot)
        self.gateway.server.outbox.gate = self.books.ledger
        self._version = _version()
        self.reloads = Reloads(self.books.event)
        self.loaded_at = clock.wall()  # the configuration in force

    def _open_books(self, snapshot: Snapshot, clock: Clock, name: str, *, beside: bool) -> None:
        """Those that have one writer at a time, who goes by that name if nobody else does."""
        self.decisions: DecisionLog | NoDecisionLog = NoDecisionLog()
        decided, settings = None, snapshot.decision_log
        if settings is not None:
            writer = free_writer(settings.folder, name) if beside else name
            self.decisions = DecisionLog(settings, clock=clock, writer=writer)
            decided = Path(settings.folder) / writer
        if snapshot.ledger is not None:
            writer = free_writer(snapshot.ledger.folder, name) if beside else name
            self.books.ledger = LedgerWriter(snapshot.ledger, self.loop, writer=writer, event=self.books.event)
        self.stories = Stories(self.books.recent, snapshot.server.access_log, decided)

    def _jobs(self, snapshot: Snapshot) -> Jobs:
        runtime, fleet = self.runtime, self.fleet
        outlook = Outlook(runtime)
        identities = fleet.identities.items
        return Jobs(
            Upkeep(self.loop, fleet, self.names, self._tidy, self._surprised),
            Sweeps(self.loop, runtime),
            TokenKeeper(identities, self._identity_failed, self._identity_refreshed, self._surprised),
            Probes(self.loop, lambda: runtime.snapshot.health, outlook.targets, outlook.probed),
            EngineLoads(self.loop, outlook.targets, outlook.loaded),
            Anchoring(
                self.decisions,
                snapshot.decision_log.anchor_every_s if snapshot.decision_log is not None else ANCHOR_EVERY_S,
                lambda event, reason: self.books.event(event, reason=reason),
            ),
        )

    def _keep_ledger(self, snapshot: Snapshot, settings: LedgerSettings) -> None:
        """What comes back out of a ledger that is this process's alone: keys, figures, what budgets have left."""
        begin, event = self.supply.begin, self.books.event
        accounts = self.accounts = Accounts(
            *(snapshot, settings, self.loop, self.runtime.clock, begin, event, self._surprised)
        )
        self.runtime.own_usage.ask = accounts.bookkeeping.usage
        self.runtime.homes.find_homes = accounts.bookkeeping.find_homes
        self.runtime.homes.page_homes = accounts.bookkeeping.own_homes
        self.key_book = KeyBook(accounts.bookkeeping, settings, event, self.keyring.put)

    async def start_jobs(self) -> None:
        """Starts all that outlives a request, with the tokens of its clouds."""
        if self.accounts is not None:
            self.accounts.start()
        if self.key_book is not None and self.key_book.known is not None:
            await self.keyring.take(self.key_book.known)
        self.wheel.start()
        await self.supply.start()
        await self.jobs.start()

    async def close(self) -> None:
        """Ends the jobs, the connections to clouds and the books, in this order."""
        await self.supply.stop()
        await self.jobs.stop()
        self.fleet.close()
        for identity in self.fleet.identities.values():
            await identity.close()
        await asyncio.sleep(0)  # aborted transports report their end in the next iteration
        self.wheel.stop()
        self.signers.shutdown(wait=False)
        try:
            await self.loop.run_in_executor(None, self.decisions.close)  # it waits for the disk
        except OSError as error:
            self.books.event("anchor_failed", reason=error.strerror or "unknown")
        if self.runtime.tracing is not None:
            await self.loop.run_in_executor(None, self.runtime.tracing.close)  # it waits for the collector
        await self.loop.run_in_executor(None, self.books.ledger.close)  # likewise for the disk
        if self.accounts is not None:
            await self.accounts.stop()
        self.books.log.close()

    def _tidy(self) -> None:
        server = self.gateway.server
        server.outbox.flush()  # first: what it finds settled, its answers wait for
        self.books.ledger.commit()  # requests whose clients had gone: no answer took them along
        server.heap.look(server.buffered_bytes, idle=not any(self.runtime.in_flight.values()))

    def _surprised(self, job: str, error: str) -> None:
        self.books.event("job_failed", job=job, error=error)

    def _identity_failed(self, endpoint_id: str, text: str) -> None:
        failures = self.runtime.credential_failures
        failures[endpoint_id] = failures.get(endpoint_id, 0) + 1
        self.books.event("identity_failed", endpoint=endpoint_id, error=text)

    def _identity_refreshed(self, endpoint_id: str) -> None:
        """A new token: what was out for the old one's sake may be asked again."""
        for backend in self.fleet.at_endpoint(endpoint_id):
            backend.health.pardon()
        self.fleet.standing.changed()

    def scene(self) -> Scene:
        """What the console shows beside the numbers."""
        return scene_of(self.runtime, self.books.recent, self.loop.time())

    async def read(self, worker: str = "0") -> Reading:
        """All numbers of this process as they are now; `worker`: its label among those that share the port.

        A thread walks those of requests, which takes tens of milliseconds for a large fleet.
        """
        self.books.metrics.count_pending()
        requests = await self.loop.run_in_executor(None, self.books.metrics.read_counted)
        return self._with_state(requests, worker)

    def _with_state(self, requests: Reading, worker: str) -> Reading:
        return Reading(
            {
                **requests.numbers,
                **fleet_numbers(self.fleet, self.loop.time()),
                **limit_numbers(self.limits),
                **(limits_left(self.limits, self.loop.time()) if self._alone else {}),
                **self.supply.numbers(),
                **self._own_numbers(worker),
                **process_numbers(),
            },
            requests.histograms,
        )

    def _keys(self) -> dict[tuple[str, ...], float]:
        """By where they stand. One that is being rotated counts once."""
        snapshot = self.runtime.current()
        stored = {key.name for key in snapshot.stored_keys}
        names_of = {key.name for key in snapshot.keys.values()}
        return {("file",): len(names_of - stored), ("store",): len(names_of & stored)}

    def _own_numbers(self, worker: str) -> Numbers:
        runtime, server = self.runtime, self.gateway.server
        return {
            names.REQUESTS_IN_FLIGHT.name: {(name,): count for name, count in runtime.in_flight.items()},
            names.CREDENTIAL_FAILURES.name: {
                (endpoint,): runtime.credential_failures.get(endpoint, 0) for endpoint in runtime.snapshot.endpoints
            },
            names.PLACEMENT_VIOLATIONS.name: {(): runtime.violations},
            names.STRANGERS.name: {(): runtime.strangers.unheard},
            **_client_numbers(server),
            **self._arrival_numbers(),
            names.EVENT_LOOP_LAG.name: {(worker,): self.wheel.lag_s},
            names.WORKER_UP.name: {(worker,): 1},
            names.WORKER_RESTARTS.name: {(worker,): 0},
            names.WORKER_STUCK.name: {(worker,): 0},
            names.DRAINING.name: {(): int(server.draining)},
            names.BUILD.name: {(self._version,): 1},
            names.CONFIG.name: {(runtime.snapshot.version,): 1},
            names.CONFIG_LOADED.name: {(): self.loaded_at},
            names.KEYS.name: self._keys(),
            **self.reloads.numbers(),
            names.DECISIONS.name: {(): self.decisions.sequence},
            names.DECISIONS_DROPPED.name: {(): self.decisions.dropped},
            names.ANCHOR_FAILURES.name: {(): self.jobs.anchoring.failures},
            names.ACCESS_LOG_DROPPED.name: {(): self.books.log.dropped},
            names.LOG_BUFFERED.name: {
                ("access",): self.books.log.buffered_bytes,
                ("decisions",): self.decisions.unsynced_bytes,
            },
            names.SPANS_DROPPED.name: {(): runtime.tracing.dropped if runtime.tracing is not None else 0},
            **runtime.sessions.numbers(),
            **self._ledger_numbers(),
        }

    def _arrival_numbers(self) -> Numbers:
        """Of what stands before HTTP on a connection; nothing where nothing does."""
        runtime, server = self.runtime, self.gateway.server
        settings, wall = runtime.snapshot.server, runtime.clock.wall()
        certificates = own_certificates(runtime.snapshot)
        numbers: Numbers = {
            names.CERTIFICATE_LEFT.name: {(name,): each.expires_at - wall for name, each in certificates.items()}
        }
        if settings.tls is not None or settings.proxy_protocol:
            numbers[names.CLIENTS_ARRIVING.name] = {(): len(server.arriving)}
        if settings.tls is not None:
            numbers[names.HANDSHAKES.name] = {(result,): count for result, count in server.handshakes.items()}
        if settings.proxy_protocol:
            numbers[names.PROXY_HEADERS.name] = {(result,): count for result, count in server.proxy_headers.items()}
        return numbers

    def _ledger_numbers(self) -> Numbers:
        """None where no ledger is kept: one that is not up would be an outage."""
        ledger = self.books.ledger
        if self.runtime.snapshot.ledger is None:
            return {}
        return {
            names.LEDGER_ENTRIES.name: {(): ledger.entries},
            names.LEDGER_DROPPED.name: {(): ledger.dropped},
            names.LEDGER_HELD.name: {(): ledger.held_bytes},
            **(self.accounts.bookkeeping.numbers() if self.accounts is not None else {}),
        }


def _client_numbers(server: Server) -> Numbers:
    crowd = server.crowd
    return {
        names.CLIENT_CONNECTIONS.name: {(): len(server.connections)},
        names.CLIENT_CONNECTIONS_MAX.name: {(): crowd.most(server.bounds)},
        names.CLIENT_ENDS.name: {(reason,): count for reason, count in crowd.ends.items()},
        names.WAITING_BYTES.name: {(): crowd.waiting_bytes},
        names.BUFFERED_BYTES.name: {(): server.buffered_bytes},
    }
