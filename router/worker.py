"""One process: it listens, obeys its operators or its supervisor, and ends without losing a request."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

from router.admin.control import ReloadResult, refusal_of
from router.admin.hangup import Hangup
from router.admin.keys import KeyOffice
from router.admin.live import Live
from router.admin.server import AdminServer
from router.assembly import Assembly
from router.base.clock import Clock, SystemClock
from router.base.errors import RefusedError
from router.config.compare import compare
from router.config.explain import explain_request
from router.config.faults import ConfigError, Fault
from router.config.load import load
from router.config.snapshot import Snapshot, Source
from router.jobs.loops import Surprised
from router.proxy.backend import Backend
from router.proxy.limiting import Supply
from router.telemetry.reading import Reading
from router.transport.client_connection import LINGER_S

BACKLOG: Final = 4096


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place among several: its number, the sockets that the supervisor keeps open for it, and its part of
    what all may use.
    """

    index: int
    sockets: tuple[socket.socket, ...]
    supply: Callable[[Surprised], Supply]  # of limits: leased of the supervisor


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
    ) -> None:
        self._file, self._environ, self._seat = file, environ, seat
        self._clock = clock or SystemClock()
        self._snapshot = snapshot
        self._assembly: Assembly | None = None
        self._prepared: Snapshot | None = None
        self._listening: list[asyncio.Server] = []
        self._admin: AdminServer | None = None
        self._live = Live()
        self._stop = asyncio.Event()
        self._stopping = 0
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
        alone = (None, None)
        self._assembly = Assembly(
            *(self._snapshot, asyncio.get_running_loop(), self._clock),
            *((seat.index, seat.supply) if seat is not None else alone),
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
            await self._listen()
            if self._seat is None:
                settings = self._snapshot.server
                self._admin = AdminServer(self, settings.admin_token, settings.cors_origins)
                self.admin_port = await self._admin.start(settings.admin.host, settings.admin.port)
        except BaseException:
            await self.close()
            raise
        if self._seat is None:
            ports = {"port": self.port, "admin_port": self.admin_port}
            self.assembly.books.event("started", config_version=self._snapshot.version, pid=os.getpid(), **ports)
        # What is here now lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    async def _listen(self) -> None:
        loop, protocol, listen = self.assembly.loop, self.assembly.gateway.server.protocol, self._snapshot.server.listen
        if self._seat is None:
            self._listening.append(await loop.create_server(protocol, listen.host, listen.port, backlog=BACKLOG))
        else:
            for each in self._seat.sockets:
                self._listening.append(await loop.create_server(protocol, sock=each, backlog=BACKLOG))
        address = self._listening[0].sockets[0].getsockname()
        self.port = int(address[1])

    async def run(self) -> None:
        """Serves until `stop`, then drains. Without a supervisor it is SIGTERM and SIGINT that stop; SIGHUP reloads."""
        loop = asyncio.get_running_loop()
        if self._seat is None:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            loop.add_signal_handler(signal.SIGHUP, Hangup(self.reopen_logs, self.reload))
        await self._stop.wait()
        await self.drain()
        await self.close()

    def stop(self) -> None:
        """Begins the drain; the second call cuts it short."""
        self._stopping += 1
        self._stop.set()
        if self._stopping > 1 and self._assembly is not None:
            self._abort_all()

    async def drain(self) -> None:
        """Takes no new connection, lets what runs finish within `drain_s`, and ends the rest."""
        assembly = self.assembly
        server = assembly.gateway.server
        for listening in self._listening:
            listening.close()
        server.drain()
        assembly.books.event("draining", connections=len(server.connections))
        if not await self._empty_within(assembly.runtime.snapshot.server.drain_s):
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
                if server.connections:
                    await empty.wait()
        return not server.connections

    async def close(self) -> None:
        """Ends everything that is open."""
        assembly = self.assembly
        for listening in self._listening:
            listening.close()
        self._abort_all()
        if self._admin is not None:
            await self._admin.close()
        await assembly.close()

    def _abort_all(self) -> None:
        for connection in tuple(self.assembly.gateway.server.connections):
            connection.abort()

    def reopen_logs(self) -> None:
        """Lets go of a log that was rotated meanwhile."""
        self.assembly.books.log.reopen()

    # -- ControlledRouter

    @property
    def keys(self) -> KeyOffice:
        assembly = self.assembly
        return KeyOffice(lambda: assembly.runtime.snapshot, assembly.key_book, self._clock)

    def is_ready(self) -> bool:
        return bool(self._listening) and not self.assembly.gateway.server.draining

    async def reload(self) -> ReloadResult:
        async with self._reloading:
            assembly, old = self.assembly, self.assembly.runtime.snapshot
            faults, new = await self._prepare(None), self._prepared
            if new is None:
                return assembly.reloads.ended(ReloadResult(old.version, refusal_of(faults), faults), old.version)
            self._adopt_prepared()
            changed = await assembly.loop.run_in_executor(None, compare, old, new, self._clock.wall())
            return assembly.reloads.ended(ReloadResult(new.version, changed=changed), old.version)

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
            self._prepared = await self.assembly.loop.run_in_executor(None, read)
        except ConfigError as error:
            return tuple(error.faults)
        faults = unchangeable(self._file, self.assembly.runtime.snapshot, new)
        if not faults:
            self._prepared = new
        return faults

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
        return await self.assembly.read()

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


def run(file: Path, environ: Mapping[str, str], snapshot: Snapshot, on_ready: Callable[[int, int], None]) -> int:
    """Runs one worker to its end on uvloop and returns the exit status. Raises OSError where it cannot start.

    `on_ready` is told the ports of the data plane and of the control plane, once both are open.
    """

    async def main() -> None:
        worker = Worker(file, environ, snapshot)
        await worker.start()
        on_ready(worker.port, worker.admin_port)
        await worker.run()

    import uvloop  # not on Windows, so not at import

    raise_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    return 0


def raise_open_files() -> None:
    """A stream is two open files; the usual soft limit (1,024) is for programs that use select()."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
