"""The process that operators see: it keeps the workers' sockets, commands them, and speaks for all of them."""

import asyncio
import contextlib
import gc
import os
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import msgspec

from router.admin.control import Refusal, ReloadResult, ended, refusal_of
from router.admin.hangup import Hangup
from router.admin.keys import KeyOffice
from router.admin.live import Live, unjudged
from router.admin.picture import Scene
from router.admin.server import AdminServer
from router.base.clock import SystemClock
from router.base.loops import run_loop
from router.config.compare import compare
from router.config.explain import explain_request
from router.config.faults import ConfigError, Fault
from router.config.load import load
from router.config.snapshot import Snapshot
from router.jobs.accounts import Accounts
from router.jobs.inheritance import Inheritance, addresses_of
from router.jobs.loops import tell_failures
from router.jobs.succession import Estate, Taken
from router.jobs.supplies import supply_of
from router.jobs.tenure import Tenure
from router.jobs.watching import Watching
from router.limits.lease import Ask, Grant
from router.model.keys import ApiKey, StoredKey
from router.model.stored import Home, HomePage, OwnHomes
from router.supervisor import child
from router.supervisor.copies import Copy, make_copies
from router.supervisor.crew import ANSWER_S, Crew
from router.supervisor.keys import SharedKeys
from router.supervisor.limits import SharedLimits
from router.supervisor.merging import merged_status
from router.supervisor.nursery import Nursery, make_nursery
from router.supervisor.order import Order
from router.supervisor.slot import Slot
from router.telemetry import names
from router.telemetry import reading as readings
from router.telemetry.access_log import AccessLog
from router.telemetry.process import process_numbers
from router.telemetry.reading import Reading
from router.telemetry.reloads import Reloads
from router.transport.channel import NO_ANSWER, ClosedError, FailedError, Verb
from router.transport.listening import Sockets, close_sockets, deal, open_alone, open_sockets

PREPARE_S: Final = 30.0  # to read and check a large configuration
PICTURE_S: Final = 0.5  # nobody is served at its place meanwhile
STORY_S: Final = 20.0  # to look for a request in the logs
END_S: Final = 10.0  # beyond `drain_s`: for the clients that are cut off to hear of it, and the logs to be closed


class Supervisor:
    """Implements the control plane's `ControlledRouter` over several workers."""

    def __init__(
        self,
        file: Path,
        environ: Mapping[str, str],
        snapshot: Snapshot,
        sockets: Sequence[Sockets] = (),
        copies: Sequence[Copy] = (),
        nursery: Nursery | None = None,
        inheritance: Inheritance | None = None,
    ) -> None:
        """`sockets`, `copies`: what there is of them already, for each worker. `nursery`: where later ones come from.

        Raises OSError where the access log cannot be opened.
        """
        self._file, self._environ, self._snapshot = file, environ, snapshot
        self._clock = SystemClock()
        self._inheritance = inheritance or Inheritance()
        self._tenure = Tenure(self, self._inheritance, environ)
        self._log = AccessLog(snapshot.server.access_log, shared=True)
        self.event = self._log.event
        self._sockets, self._copies, self._nursery = sockets, copies, nursery
        self._crew = Crew((), self)
        tell_failures(asyncio.get_running_loop(), self._surprised)
        self._supply = supply_of(snapshot.redis, asyncio.get_running_loop(), self._clock, self.event, self._surprised)
        self._limits = SharedLimits(self._supply, lambda holders, limit_ids: self._crew.recall(holders, limit_ids))
        self._limits.adopt(snapshot)
        self._accounts: Accounts | None = None
        if snapshot.ledger is not None:
            self._accounts = Accounts(
                *(snapshot, snapshot.ledger, asyncio.get_running_loop(), self._clock),
                *(self._supply.begin, self.event, self._surprised),
            )
        bookkeeping = self._accounts.bookkeeping if self._accounts is not None else None
        self._keys = SharedKeys(bookkeeping, lambda: self._snapshot, self._adopt_keys, self._tell_keys, self.event)
        self.keys = KeyOffice(lambda: self._snapshot, self._keys.book, self._clock)
        self._live = Live()
        self._watching = Watching(file, lambda: self._snapshot, self.reload, self._surprised)
        self._scenes: list[Scene] = []
        self._admin = AdminServer(self, snapshot.server.admin_token, snapshot.server.cors_origins)
        self._loaded_at = self._clock.wall()
        self._drained: set[str] = set()  # deployments
        self._reloads = Reloads(self.event)
        self._reloading = asyncio.Lock()
        self._complete = False  # all workers have listened once
        self._stop = asyncio.Event()
        self._stopping = 0
        self._leaving = (True, False)  # how, once it is to
        self._hangup = Hangup(self._reopen_logs, lambda: self._tenure.reloading(self.reload()))
        self.port = 0  # as bound, once started
        self.admin_port = 0

    async def start(self) -> None:
        """Opens the ports and starts the workers. Raises OSError where a port is taken or a worker cannot start."""
        server, found = self._snapshot.server, self._inheritance
        try:
            self._drained.update(await self._tenure.meet())
            admin = found.admin or open_alone(server.admin.host, server.admin.port)
            if not self._sockets:
                self._sockets = open_sockets(server.listen.host, server.listen.port, server.workers)
            self.port = int(self._sockets[0][0].getsockname()[1])
            places = enumerate(zip_longest(self._sockets, self._copies))
            await self._supply.start()
            if self._accounts is not None:
                self._accounts.start()
            await self._keys.spread()
            self._crew = Crew(
                [Slot(index, own, random.Random(), copy, self._nursery) for index, (own, copy) in places], self
            )
            await self._crew.start()
            await self._look()
            self.admin_port = await self._admin.start(server.admin.host, server.admin.port, admin)
            self._watching.start()
        except BaseException:
            await self.close()
            raise
        self._complete = True
        # What is here now lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()

    async def run(self) -> None:
        """Serves until `stop`, or until another router does, then drains. Raises OSError where it cannot take over."""
        try:
            await self._tenure.begin()
        except BaseException:
            await self.close()
            raise
        self.event(
            "started",
            config_version=self._snapshot.version,
            pid=os.getpid(),
            port=self.port,
            admin_port=self.admin_port,
            workers=[slot.pid for slot in self._crew.slots],
        )
        loop = asyncio.get_running_loop()
        stopped, surprised = loop.create_task(self._stop.wait()), loop.create_task(self._crew.surprise())
        try:
            await asyncio.wait({stopped, surprised}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                await surprised
            await self.drain()
            await self._tenure.end()
        finally:
            stopped.cancel()
            surprised.cancel()
            await self.close()

    def stop(self) -> None:
        """Begins the drain; the second call cuts it short."""
        self._stopping += 1
        self._leave(shared=self._tenure.sockets_are_shared, patient=False)
        if self._stopping > 1:
            self._crew.cut()

    def _leave(self, *, shared: bool, patient: bool) -> None:
        """As `Worker.leave`."""
        if not self._stop.is_set():
            self._leaving = (shared, patient)
            self._stop.set()
        elif self._leaving[1] and not patient:  # by now nobody is to have time
            self._crew.leave(shared=shared, patient=False)

    async def drain(self) -> None:
        """Takes no new connection, and lets the workers finish what runs."""
        settings, (shared, patient) = self._snapshot.server, self._leaving
        self.event("draining")
        self._crew.leave(shared=shared, patient=patient)
        close_sockets(self._sockets)  # workers have theirs
        if patient:  # another router answers operators, and keeps the books: of these workers' segments, too
            await self._admin.close()
            await self._watching.stop()
            if self._accounts is not None:
                await self._accounts.stop(self._tenure.deputy)
        await self._crew.gone(settings.drain_delay_s + settings.drain_s + END_S)
        self.event("drained")

    async def close(self) -> None:
        """Ends everything that is left."""
        await self._crew.gone(0.0)
        if self._nursery is not None:
            self._nursery.close()
        await self._supply.stop()
        close_sockets(self._sockets)
        await self._admin.close()
        await self._watching.stop()
        if self._accounts is not None:
            await self._accounts.stop()
        self._log.close()

    def _reopen_logs(self) -> None:
        self._log.reopen()
        for slot in self._crew.slots:  # also of those that are about to start, and have opened theirs
            slot.channel.tell("reopen_logs")

    # -- Ruler

    def hang_up(self) -> None:
        self._hangup()

    def estate(self) -> Estate:
        kept = self._inheritance.kept
        addresses = () if kept else addresses_of(self._snapshot.server)
        return Estate(self._sockets, self._admin.sockets, addresses, kept, lambda: sorted(self._drained))

    def retire(self, taken: Taken) -> None:
        self._leave(shared=taken.data, patient=True)

    async def own_reading(self) -> Reading:
        await self._crew.read()
        return readings.merged((self._own_reading(), *(slot.reading for slot in self._crew.slots)))

    def answers(self) -> dict[str, Verb]:
        return self._accounts.bookkeeping.verbs() if self._accounts is not None else {}

    def known_keys(self) -> list[StoredKey] | None:
        return self._keys.known

    async def take_keys(self, stored: list[StoredKey]) -> None:
        if self._keys.book is not None:
            self._keys.book.known = stored
            await self._keys.spread()

    # -- Superior

    @property
    def sockets_are_shared(self) -> bool:
        return self._tenure.sockets_are_shared

    def order(self) -> Order:
        beside = self._inheritance.line is not None
        return Order(str(self._file), self._snapshot.source, sorted(self._drained), self._keys.known, beside)

    async def join(self, slot: Slot, version: str) -> None:
        while True:
            while version != self._snapshot.version:  # it was on its way when another came into force
                version = await self._put_in_force(slot)
            await self._inform(slot)
            if version == self._snapshot.version:
                break
        slot.joined = True  # nothing was awaited since the look: who reloads, or tells, from here on sees it

    async def _inform(self, slot: Slot) -> None:
        """Has one of those who serve tell all that it knows."""
        for other in self._crew.up:
            with contextlib.suppress(*NO_ANSWER):
                slot.channel.tell("begin_with", await other.channel.call(msgspec.Raw, PICTURE_S, "picture"))
                return

    @property
    def loop_lag_max_s(self) -> float:
        return self._snapshot.server.loop_lag_max_s

    async def lend(self, slot: Slot, asks: Sequence[Ask]) -> list[Grant]:
        return await self._limits.lend(str(slot.index), asks)

    async def usage(self, key: str, since: float, until: float, bucket: str) -> dict[str, Any]:
        if self._accounts is None:
            raise FailedError("no ledger is kept")
        return await self._accounts.bookkeeping.usage(key, since, until, bucket)

    async def find_homes(self, key: str, ids: list[str]) -> list[Home]:
        if self._accounts is None:
            raise FailedError("no ledger is kept")
        return await self._accounts.bookkeeping.find_homes(key, ids)

    async def own_homes(self, asked: OwnHomes) -> HomePage:
        if self._accounts is None:
            raise FailedError("no ledger is kept")
        return await self._accounts.bookkeeping.own_homes(asked)

    def ended(self, slot: Slot) -> None:
        self._limits.forget(str(slot.index))

    # -- ControlledRouter

    def is_ready(self) -> bool:
        return self._complete and not self._stop.is_set() and bool(self._crew.up)

    async def status(self) -> dict[str, object]:
        parts = await self._crew.ask_all(dict, ANSWER_S, "status")
        return {
            "config_version": self._snapshot.version,
            **merged_status(parts),
            "draining": self._stop.is_set(),
            "predecessor": self._tenure.before,
            "workers": [
                {"worker": slot.index, "pid": slot.pid, "up": slot.up, "restarts": slot.restarts, "since": slot.since}
                for slot in self._crew.slots
            ],
        }

    async def explain(self, key: str, model: str, operation: str) -> dict[str, object]:
        """As one of the workers sees it; where none does, without what deployments refuse at this moment."""
        for slot in self._crew.up:
            try:
                return await slot.channel.call(dict[str, object], ANSWER_S, "explain", key, model, operation)
            except NO_ANSWER:
                continue
        return explain_request(self._snapshot.at(self._clock.wall()), key, model, operation)

    async def reload(self) -> ReloadResult:
        """Every worker must be able to take the new configuration before any of them does."""
        async with self._reloading:
            old = self._snapshot
            result = ended(await self._reload(old), self._reloads, old.version)
        self._tenure.hung_up()
        return result

    async def _reload(self, old: Snapshot) -> ReloadResult:
        loop, wall = asyncio.get_running_loop(), self._clock.wall()
        try:
            read = partial(load, self._file, self._environ, wall, running=old)
            new = await loop.run_in_executor(None, read)
        except ConfigError as error:
            return ReloadResult(old.version, refusal_of(error.faults), error.faults)
        if faults := await self._prepare(new):
            return ReloadResult(old.version, Refusal.WORKER, faults)
        self._snapshot = new  # from here on it is in force: whoever starts, starts with it
        self._adopt_keys(self._keys.read)
        self._loaded_at = wall
        self._drained &= new.deployments.keys()
        if self._accounts is not None:
            self._accounts.bookkeeping.adopt(new)
        await asyncio.gather(*(self._follow(slot) for slot in self._crew.joined))
        await self._keys.spread()  # it may have a place for other keys
        return ReloadResult(new.version, changed=await loop.run_in_executor(None, compare, old, new, wall))

    def _adopt_keys(self, keys: tuple[ApiKey, ...]) -> None:
        """Of the store. From here on workers may lease of their limits."""
        self._snapshot = self._snapshot.joined(keys, self._clock.wall())
        self._limits.adopt(self._snapshot)

    async def _tell_keys(self, stored: list[StoredKey]) -> None:
        """Returns when all have them in force, or do not answer: who hangs must not keep them from others."""
        for slot in self._crew.slots:
            if not slot.up:
                slot.channel.tell("keys", stored)  # it may have its order already
        await self._crew.ask_all(type(None), ANSWER_S, "keys", stored)

    async def set_drain(self, deployment_id: str, draining: bool) -> bool:
        return await self._tenure.set_drain(deployment_id, draining)

    async def drain_here(self, deployment_id: str, draining: bool) -> bool:
        if deployment_id not in self._snapshot.deployments:
            return False
        (self._drained.add if draining else self._drained.discard)(deployment_id)
        for slot in self._crew.slots:
            if not slot.up:
                slot.channel.tell("set_drain", deployment_id, draining)  # it may have its order already
        await self._crew.ask_all(bool, ANSWER_S, "set_drain", deployment_id, draining)
        self.event("deployment_drain", deployment=deployment_id, draining=draining)
        return True

    async def reading(self) -> Reading:
        return self._tenure.reading(await self.own_reading())

    async def live(self) -> dict[str, object]:
        await self._look()
        reading = await self.reading()
        return self._live.picture(reading, self._scenes, asyncio.get_running_loop().time(), self._clock.wall())

    async def story(self, request_id: str) -> dict[str, object] | None:
        """All can read the access log; who served the request knows more, as only that one wrote its decisions."""
        told = await self._crew.ask_all(list[dict[str, Any]], STORY_S, "stories", request_id)
        known = [story for stories in told.values() for story in stories]
        return max(known, key=lambda story: (story["source"] == "memory", len(story["decisions"])), default=None)

    async def _look(self) -> None:
        """Takes every worker's scene; while none answers, the last ones stay, with nobody who judges."""
        scenes = await self._crew.ask_all(Scene, ANSWER_S, "scene")
        self._scenes = list(scenes.values()) or list(map(unjudged, self._scenes))

    async def _prepare(self, new: Snapshot) -> tuple[Fault, ...]:
        """Why a worker could not take it over: to die of it is no consent."""

        async def prepare(slot: Slot) -> tuple[Fault, ...]:
            try:
                return await slot.channel.call(tuple[Fault, ...], PREPARE_S, "prepare", new.source)
            except NO_ANSWER as error:
                said = "it ended" if isinstance(error, ClosedError) else str(error) or "no answer"
                why = f"worker {slot.index} cannot take it over ({said})"
                return (Fault(str(self._file), 0, "", why),)

        answers = await asyncio.gather(*(prepare(slot) for slot in self._crew.joined))
        return next(filter(None, answers), ())

    async def _follow(self, slot: Slot) -> None:
        """Brings a worker to the configuration in force; one that does not follow is ended, and starts with it."""
        try:
            await self._put_in_force(slot)
        except NO_ANSWER:
            slot.kill()

    async def _put_in_force(self, slot: Slot) -> str:
        """Returns the version that the worker has then. Raises ClosedError, FailedError, TimeoutError."""
        snapshot = self._snapshot
        if await slot.channel.call(bool, PREPARE_S, "adopt", snapshot.version):
            return snapshot.version
        await slot.channel.call(tuple[Fault, ...], PREPARE_S, "prepare", snapshot.source)
        if not await slot.channel.call(bool, PREPARE_S, "adopt", snapshot.version):
            raise FailedError(f"worker {slot.index} does not take over {snapshot.version}")
        return snapshot.version

    def _surprised(self, job: str, error: str) -> None:
        self.event("job_failed", job=job, error=error)

    def _own_reading(self) -> Reading:
        return Reading(
            {
                names.WORKER_UP.name: {(str(slot.index),): int(slot.up) for slot in self._crew.slots},
                names.WORKER_RESTARTS.name: {(str(slot.index),): slot.restarts for slot in self._crew.slots},
                names.WORKER_STUCK.name: {(str(slot.index),): slot.stuck for slot in self._crew.slots},
                **self._reloads.numbers(),
                names.DRAINING.name: {(): int(self._stop.is_set())},
                names.CONFIG.name: {(self._snapshot.version,): 1},
                names.CONFIG_LOADED.name: {(): self._loaded_at},
                **(self._accounts.bookkeeping.numbers() if self._accounts is not None else {}),
                **self._limits.left(),
                **self._supply.numbers(),
                **process_numbers(),
            }
        )


def run(
    file: Path,
    environ: Mapping[str, str],
    snapshot: Snapshot,
    on_ready: Callable[[int, int], None],
    inheritance: Inheritance,
) -> int:
    """Runs a supervisor and its workers to their end and returns the exit status. Raises OSError as `Worker` does.

    `on_ready` is told the ports of the data plane and of the control plane, once all workers listen.
    """
    server, found = snapshot.server, inheritance
    if found.data:
        sockets = deal(found.data, server.workers)
    else:
        sockets = open_sockets(server.listen.host, server.listen.port, server.workers)
    become = partial(child.run, known=snapshot)
    nursery = make_nursery([*sockets, found.held], become)
    copies = make_copies(sockets, become, (*found.held, *((nursery.line,) if nursery is not None else ())))

    async def main() -> None:
        supervisor = Supervisor(file, environ, snapshot, sockets, copies, nursery, inheritance)
        await supervisor.start()
        on_ready(supervisor.port, supervisor.admin_port)
        await supervisor.run()

    run_loop(main())
    return 0
