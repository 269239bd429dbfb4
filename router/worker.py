"""One process: it listens, obeys its operators or its supervisor, and ends without losing a request."""

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final

from router.admin.control import ReloadResult, ended, refusal_of
from router.admin.hangup import Hangup
from router.admin.keys import KeyOffice
from router.admin.live import Live
from router.admin.server import AdminServer
from router.assembly import Assembly
from router.base.clock import Clock, SystemClock
from router.base.errors import RefusedError
from router.base.loops import run_loop
from router.config.compare import compare
from router.config.explain import explain_request
from router.config.faults import ConfigError, Fault
from router.config.load import load
from router.config.snapshot import Snapshot, Source
from router.jobs.inheritance import Inheritance, addresses_of
from router.jobs.loops import Surprised
from router.jobs.succession import Estate, Taken
from router.jobs.tenure import Tenure
from router.jobs.watching import Watching
from router.model.keys import StoredKey
from router.proxy.backend import Backend
from router.proxy.limiting import Supply
from router.telemetry.reading import Reading
from router.transport.arrivals import Arrivals
from router.transport.channel import Verb
from router.transport.client_connection import LINGER_S
from router.transport.listening import BACKLOG, Sockets, deal, emptied, open_alone, open_sockets
from router.transport.sockets import raise_open_files

SWITCH_S: Final = 0.0005  # a thread that reads a configuration gives way to the loop ten times as often as usual


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place among several: its number, the sockets that the supervisor keeps open for it, and its part of
    what all may use.
    """

    index: int
    sockets: Sockets
    supply: Callable[[Surprised], Supply]  # of limits: leased of the supervisor
    beside: bool = False  # another router may still write what this one would


class Worker:
    """Implements the control plane's `ControlledRouter` over one `Assembly`.

    With a `seat` it serves beside others: it has no control plane of its own, and the supervisor tells of reloads and
    drains, once for all of them.
    """

    def __init__(
        self,
        file: Path,
        environ: Mapping[str, str],
        snapshot: Snapshot,
        clock: Clock | None = None,
        seat: Seat | None = None,
        inheritance: Inheritance | None = None,
    ) -> None:
        self._file, self._environ, self._seat = file, environ, seat
        self._inheritance = inheritance or Inheritance()
        self._tenure = Tenure(self, self._inheritance, environ) if seat is None else None
        self._clock = clock or SystemClock()
        self._snapshot = snapshot
        self._assembly: Assembly | None = None
        self._prepared: Snapshot | None = None
        self._sockets: Sockets = seat.sockets if seat is not None else ()
        self._listening: list[asyncio.Server | Arrivals] = []
        self._admin: AdminServer | None = None
        self._live = Live()
        self._watching = Watching(file, lambda: self.assembly.runtime.snapshot, self.reload, self._surprised)
        self._stop, self._cut = asyncio.Event(), asyncio.Event()
        self._stopping = 0
        self._shared = self._patient = False  # see `leave`
        self._hangup = Hangup(self.reopen_logs, self._reload_by_signal)
        self._reloading = asyncio.Lock()
        self.port = 0  # as bound, once started
        self.admin_port = 0

    @property
    def assembly(self) -> Assembly:
        assert self._assembly is not None, "the worker has not been started"
        return self._assembly

    async def start(self) -> None:
        """Opens the ports. Raises OSError where one is taken or the access log cannot be opened."""
        await self.assemble()
        await self.listen()

    async def assemble(self) -> None:
        """Everything but the ports: it obeys from then on, and serves nobody yet. Raises as `start`."""
        seat = self._seat
        alone = (None, None, self._inheritance.line is not None)
        self._assembly = Assembly(
            *(self._snapshot, asyncio.get_running_loop(), self._clock),
            *((seat.index, seat.supply, seat.beside) if seat is not None else alone),
        )
        try:
            await self._assembly.start_jobs()
        except BaseException:
            await self.close()
            raise

    async def listen(self) -> None:
        """Opens the ports. Raises OSError where one is taken."""
        try:
            if not self.assembly.runtime.keys_known:
                await self.assembly.keyring.known()
            if self._tenure is None:
                await self._listen()
            else:
                await self._listen_alone(self._tenure)
        except BaseException:
            await self.close()
            raise
        # What is here now lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        sys.setswitchinterval(SWITCH_S)

    async def _listen_alone(self, tenure: Tenure) -> None:
        """With the sockets of the router before, where there are some: of both planes, before anybody is served."""
        settings, found = self._snapshot.server, self._inheritance
        for deployment_id in await tenure.meet():
            await self.drain_here(deployment_id, True)
        dealt = deal(found.data, 1) if found.data else open_sockets(settings.listen.host, settings.listen.port, 1)
        self._sockets = dealt[0]
        admin = found.admin or open_alone(settings.admin.host, settings.admin.port)
        self._admin = AdminServer(self, settings.admin_token, settings.cors_origins)
        await self._listen()
        self.admin_port = await self._admin.start(settings.admin.host, settings.admin.port, admin)
        self._watching.start()

    async def _listen(self) -> None:
        loop, server = self.assembly.loop, self.assembly.gateway.server
        if server.bounds.tls_context is not None or server.bounds.proxy_protocol:
            arrivals = Arrivals(server)
            self._listening.append(arrivals)
            for each in self._sockets:
                arrivals.listen(each)
        else:
            for each in self._sockets:
                self._listening.append(await loop.create_server(server.protocol, sock=each, backlog=BACKLOG))
        self.port = int(self._sockets[0].getsockname()[1])

    async def run(self) -> None:
        """Serves until `stop`, or until another router does, then drains. Raises OSError where it cannot take over."""
        try:
            if self._tenure is not None:
                await self._tenure.begin()
                ports = {"port": self.port, "admin_port": self.admin_port}
                self.event("started", config_version=self._snapshot.version, pid=os.getpid(), **ports)
            await self._stop.wait()
            await self.drain()
            if self._tenure is not None:
                await self._tenure.end()
        finally:
            await self.close()

    def stop(self) -> None:
        """Begins the drain; the second call cuts it short."""
        self._stopping += 1
        self.leave(shared=self._tenure is None or self._tenure.sockets_are_shared)
        if self._stopping > 1:
            self.cut()

    def leave(self, *, shared: bool, patient: bool = False) -> None:
        """Begins the drain, once. `shared`: others go on with the sockets, and with who waits there. `patient`: another
        router takes the new connections, so that the old ones have their usual time to ask for something.
        """
        if not self._stop.is_set():
            self._shared, self._patient = shared, patient
            self._stop.set()
        elif self._patient and not patient:  # by now nobody is to have time
            self.assembly.gateway.server.drain()

    def cut(self) -> None:
        """Ends a drain at once."""
        self._cut.set()
        if self._assembly is not None:
            self._abort_all()

    async def drain(self) -> None:
        """Takes no new connection, lets what runs finish within `drain_s`, and ends the rest."""
        assembly = self.assembly
        server, settings = assembly.gateway.server, assembly.runtime.snapshot.server
        server.draining = True  # from here on answers say so, and `/readyz`
        assembly.books.event("draining", connections=len(server.connections))
        if not self._patient and settings.drain_delay_s:
            await self._unless_cut(asyncio.sleep(settings.drain_delay_s))
        if not self._shared:
            await self._unless_cut(emptied(self._sockets))
        for listening in self._listening:
            listening.close()
        for _ in range(2):  # who was accepted in this turn is known in the next
            await asyncio.sleep(0)
        server.drain(patient=self._patient)
        if self._patient and self._tenure is not None:
            await self._give_up_office(self._tenure)
        if not await self._empty_within(settings.drain_s):
            assembly.books.event("drain_timeout", connections=len(server.connections))
            server.cut(RefusedError("The router is going down. Send the request again."))
            if not await self._empty_within(LINGER_S):
                self._abort_all()
                await asyncio.sleep(0)
        assembly.books.event("drained")

    async def _empty_within(self, seconds: float) -> bool:
        """Waits until no client is connected any more, for at most so long."""
        server = self.assembly.gateway.server
        empty = asyncio.Event()
        server.on_empty = empty.set
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if not server.empty:
                    await empty.wait()
        return server.empty

    async def _give_up_office(self, tenure: Tenure) -> None:
        """Another router answers operators, and keeps the books: of this one's segments, too."""
        if self._admin is not None:
            await self._admin.close()
        await self._watching.stop()
        if self.assembly.accounts is not None:
            await self.assembly.accounts.stop(tenure.deputy)

    async def _unless_cut(self, job: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.ensure_future(job), asyncio.ensure_future(self._cut.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    async def close(self) -> None:
        """Ends everything that is open."""
        assembly = self.assembly
        for listening in self._listening:
            listening.close()
        self._abort_all()
        if self._admin is not None:
            await self._admin.close()
        await self._watching.stop()
        await assembly.close()

    def _surprised(self, job: str, error: str) -> None:
        self.assembly.books.event("job_failed", job=job, error=error)

    def _abort_all(self) -> None:
        self.assembly.gateway.server.abort()

    def reopen_logs(self) -> None:
        """Lets go of a log that was rotated meanwhile."""
        self.assembly.books.log.reopen()

    # -- Ruler

    @property
    def event(self) -> Callable[..., None]:
        return self.assembly.books.event

    def hang_up(self) -> None:
        self._hangup()

    def estate(self) -> Estate:
        admin = self._admin.sockets if self._admin is not None else ()
        kept = self._inheritance.kept
        addresses = () if kept else addresses_of(self.assembly.runtime.snapshot.server)
        return Estate([self._sockets], admin, addresses, kept, self._drained)

    def _drained(self) -> list[str]:
        return [name for name, backend in self.assembly.fleet.backends.items() if backend.draining]

    def retire(self, taken: Taken) -> None:
        self.leave(shared=taken.data, patient=True)

    async def own_reading(self) -> Reading:
        return await self.assembly.read()

    def answers(self) -> dict[str, Verb]:
        return self.assembly.accounts.bookkeeping.verbs() if self.assembly.accounts is not None else {}

    def known_keys(self) -> list[StoredKey] | None:
        return self.assembly.key_book.known if self.assembly.key_book is not None else None

    async def take_keys(self, stored: list[StoredKey]) -> None:
        await self.assembly.keyring.take(stored)

    async def _reload_by_signal(self) -> ReloadResult:
        return await (self._tenure.reloading(self.reload()) if self._tenure is not None else self.reload())

    # -- ControlledRouter

    @property
    def keys(self) -> KeyOffice:
        assembly = self.assembly
        return KeyOffice(lambda: assembly.runtime.snapshot, assembly.key_book, self._clock)

    def is_ready(self) -> bool:
        return bool(self._listening) and not self.assembly.gateway.server.draining

    async def reload(self) -> ReloadResult:
        result = await self._reload()
        if self._tenure is not None:
            self._tenure.hung_up()
        return result

    async def _reload(self) -> ReloadResult:
        async with self._reloading:
            assembly, old = self.assembly, self.assembly.runtime.snapshot
            faults, new = await self._prepare(None), self._prepared
            if new is None:
                return ended(ReloadResult(old.version, refusal_of(faults), faults), assembly.reloads, old.version)
            self._adopt_prepared()
            changed = await assembly.loop.run_in_executor(None, compare, old, new, self._clock.wall())
            return ended(ReloadResult(new.version, changed=changed), assembly.reloads, old.version)

    async def prepare(self, source: Source) -> tuple[Fault, ...]:
        """The first half of a supervisor's reload: reads what may come into force. Returns why it cannot."""
        async with self._reloading:
            return await self._prepare(source)

    async def adopt(self, version: str) -> bool:
        """The second half: puts that version in force. False where it was not prepared, and is not in force yet."""
        async with self._reloading:
            if self._prepared is not None and self._prepared.version == version:
                self._adopt_prepared()
            return self.assembly.runtime.snapshot.version == version

    async def _prepare(self, source: Source | None) -> tuple[Fault, ...]:
        """Under the lock. `source`: None: what the file holds now."""
        self._prepared = None
        running, wall = self.assembly.runtime.snapshot, self._clock.wall()
        try:
            # Reading and checking is slow and touches nothing that requests use: off the loop.
            read = partial(load, self._file, self._environ, wall, source, running)
            new = await self.assembly.loop.run_in_executor(None, read)
        except ConfigError as error:
            return error.faults
        await self.assembly.loop.run_in_executor(None, self.assembly.fleet.prepare, new)
        self._prepared = new
        return ()

    def _adopt_prepared(self) -> None:
        assert self._prepared is not None
        self.assembly.runtime.adopt(self._prepared)
        if self.assembly.accounts is not None:
            self.assembly.accounts.bookkeeping.adopt(self._prepared)
        self.assembly.loaded_at = self._clock.wall()
        if self._seat is None:
            self.assembly.keyring.refresh()
        self._prepared = None

    async def set_drain(self, deployment_id: str, draining: bool) -> bool:
        if self._tenure is not None:
            return await self._tenure.set_drain(deployment_id, draining)
        return await self.drain_here(deployment_id, draining)

    async def drain_here(self, deployment_id: str, draining: bool) -> bool:
        backend = self.assembly.fleet.backends.get(deployment_id)
        if backend is None:
            return False
        backend.drain(draining)
        if self._seat is None:
            self.assembly.books.event("deployment_drain", deployment=deployment_id, draining=draining)
        return True

    async def live(self) -> dict[str, object]:
        assembly = self.assembly
        reading, scenes = await assembly.read(), [assembly.scene()]
        look = assembly.loop.time(), self._clock.wall()
        return await assembly.loop.run_in_executor(None, self._live.picture, reading, scenes, *look)

    async def story(self, request_id: str) -> dict[str, object] | None:
        return await self.assembly.stories.find(request_id)

    async def reading(self) -> Reading:
        own = await self.own_reading()
        return self._tenure.reading(own) if self._tenure is not None else own

    async def explain(self, key: str, model: str, operation: str) -> dict[str, object]:
        assembly = self.assembly
        now = assembly.loop.time()
        refusals = {name: why for name, backend in assembly.fleet.backends.items() if (why := backend.refusal(now))}
        return explain_request(assembly.runtime.current(), key, model, operation, refusals)

    async def status(self) -> dict[str, object]:
        assembly = self.assembly
        now = assembly.loop.time()
        snapshot = assembly.runtime.snapshot
        workloads: dict[str, dict[str, object]] = {}
        for name in snapshot.workloads:
            models: dict[str, bool] = {}
            for (workload, model, _), plan in assembly.fleet.plans.items():
                if workload == name:
                    up = any(not target.backend.refusal(now) for target in plan.targets())
                    models[model] = models.get(model, False) or up
            workloads[name] = {"servable": any(models.values()), "models": models}
        return {
            "config_version": snapshot.version,
            "draining": assembly.gateway.server.draining,
            **({"predecessor": self._tenure.before} if self._tenure is not None else {}),
            "client_connections": len(assembly.gateway.server.connections),
            "in_flight": dict(assembly.runtime.in_flight),
            "placement_violations": assembly.runtime.violations,
            "decisions": {"sequence": assembly.decisions.sequence, "dropped": assembly.decisions.dropped},
            "waiting": assembly.runtime.waiting.count,
            "workloads": workloads,
            "deployments": [
                {
                    "id": backend.deployment.id,
                    "cloud": backend.deployment.cloud,
                    "available": not backend.refusal(now),
                    "reason": backend.refusal(now),
                    "verdict": _verdict(backend, now),
                    "in_flight_max": int(backend.in_flight_max(now)),
                    "in_flight": backend.in_flight,
                    "connections": {"idle": backend.pool.idle, "busy": backend.pool.busy},
                    "draining": backend.draining,
                }
                for backend in assembly.fleet.backends.values()
            ],
        }


def _verdict(backend: Backend, now: float) -> dict[str, object]:
    verdict = backend.verdict(now)
    left_s = round(verdict.until - now, 3) if verdict.until != inf else None
    return {"state": verdict.state.value, "reason": verdict.reason, "for_s": left_s}


def run(
    file: Path,
    environ: Mapping[str, str],
    snapshot: Snapshot,
    on_ready: Callable[[int, int], None],
    inheritance: Inheritance,
) -> int:
    """Runs one worker to its end and returns the exit status. Raises OSError where it cannot start.

    `on_ready` is told the ports of the data plane and of the control plane, once both are open.
    """

    async def main() -> None:
        worker = Worker(file, environ, snapshot, inheritance=inheritance)
        await worker.start()
        on_ready(worker.port, worker.admin_port)
        await worker.run()

    raise_open_files()
    run_loop(main())
    return 0
