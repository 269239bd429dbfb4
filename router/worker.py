"""One process: it listens, obeys its operators, and ends without losing a request."""

import asyncio
import contextlib
import gc
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Final

from router.admin.control import ReloadResult
from router.admin.server import AdminServer
from router.assembly import Assembly
from router.base.clock import Clock, SystemClock
from router.base.errors import RefusedError
from router.config.explain import explain_request
from router.config.faults import ConfigError, Fault
from router.config.load import load
from router.config.snapshot import Snapshot
from router.proxy.backend import Backend
from router.telemetry.reading import Reading
from router.transport.inbound import LINGER_S

BACKLOG: Final = 4096


class Worker:
    """Implements the control plane's `ControlledRouter` over one `Assembly`."""

    def __init__(self, file: Path, environ: Mapping[str, str], snapshot: Snapshot, clock: Clock | None = None) -> None:
        self._file, self._environ = file, environ
        self._clock = clock or SystemClock()
        self._snapshot = snapshot
        self._assembly: Assembly | None = None
        self._listening: asyncio.Server | None = None
        self._admin: AdminServer | None = None
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
        """Opens both ports. Raises OSError where one is taken or the access log cannot be opened."""
        loop = asyncio.get_running_loop()
        assembly = self._assembly = Assembly(self._snapshot, loop, self._clock)
        settings = self._snapshot.server
        try:
            await assembly.start_jobs()
            self._listening = await loop.create_server(
                assembly.gateway.server.protocol, settings.listen.host, settings.listen.port, backlog=BACKLOG
            )
            self.port = _port(self._listening)
            self._admin = AdminServer(self, settings.admin_token)
            self.admin_port = await self._admin.start(settings.admin.host, settings.admin.port)
        except BaseException:
            await self.close()
            raise
        assembly.books.event(
            "started",
            config_version=self._snapshot.version,
            pid=os.getpid(),
            port=self.port,
            admin_port=self.admin_port,
        )
        # What is here now lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains. A second signal ends it at once. SIGHUP reloads."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)
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
        if self._listening is not None:
            self._listening.close()
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
        if self._listening is not None:
            self._listening.close()
        self._abort_all()
        if self._admin is not None:
            await self._admin.close()
        await assembly.close()

    def _abort_all(self) -> None:
        for connection in tuple(self.assembly.gateway.server.connections):
            connection.abort()

    def _reload_on_signal(self) -> None:
        self.assembly.books.log.reopen()  # a log that was rotated meanwhile
        self._reload_task = asyncio.get_running_loop().create_task(self._reload_and_tell())

    async def _reload_and_tell(self) -> None:
        """A signal has no answer, so a refusal goes to standard error, as it does at the start."""
        result = await self.reload()
        if not result.ok:
            lines = [*map(str, result.faults), f"reload refused, configuration {result.version} stays in force"]
            sys.stderr.write("\n".join(lines) + "\n")

    # -- ControlledRouter

    def is_ready(self) -> bool:
        return self._listening is not None and not self.assembly.gateway.server.draining

    async def reload(self) -> ReloadResult:
        async with self._reloading:
            assembly = self.assembly
            old = assembly.runtime.snapshot
            loop = asyncio.get_running_loop()
            try:
                # Reading and checking is slow and touches nothing that requests use: off the loop.
                new = await loop.run_in_executor(None, load, str(self._file), self._environ, self._clock.wall())
                faults = _unchangeable(self._file, old, new)
            except ConfigError as error:
                faults = tuple(error.faults)
            if faults:
                assembly.reloads["refused"] += 1
                assembly.books.event("reload_refused", faults=[str(fault) for fault in faults])
                return ReloadResult(ok=False, version=old.version, faults=faults)
            assembly.runtime.adopt(new)
            assembly.reloads["ok"] += 1
            assembly.books.event("reloaded", config_version=new.version, was=old.version)
            return ReloadResult(ok=True, version=new.version)

    async def set_drain(self, deployment_id: str, draining: bool) -> bool:
        backend = self.assembly.fleet.backends.get(deployment_id)
        if backend is None:
            return False
        backend.drain(draining)
        self.assembly.books.event("deployment_drain", deployment=deployment_id, draining=draining)
        return True

    async def reading(self) -> Reading:
        return self.assembly.reading()

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


def _port(listening: asyncio.Server) -> int:
    address = listening.sockets[0].getsockname()
    return int(address[1])


def _unchangeable(file: Path, old: Snapshot, new: Snapshot) -> tuple[Fault, ...]:
    """What a running process cannot take over, as faults: it needs a restart."""
    names = ("listen", "admin", "workers", "access_log", "admin_token")
    changed = [f"server.{name}" for name in names if getattr(old.server, name) != getattr(new.server, name)]
    if old.decision_log != new.decision_log:
        changed.append("decision_log")
    if not changed:
        return ()
    lines = file.read_text(encoding="utf-8").splitlines()
    text = "cannot change in a reload; restart the router for it"
    return tuple(Fault(str(file), _line_of(path, lines), path, text) for path in changed)


def _line_of(path: str, lines: list[str]) -> int:
    """The line of a key that no other section has; that of its section, or 1, where it is left out."""
    for key in reversed(path.split(".")):
        for number, line in enumerate(lines, 1):
            if re.search(rf"""(?:^|[\s{{,"']){key}["']?\s*:""", line):
                return number
    return 1


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

    # A stream is two open files; the usual soft limit (1,024) is for programs that use select().
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    return 0
