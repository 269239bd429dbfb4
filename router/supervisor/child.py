"""What a worker's process does: it asks its supervisor for its order, does what that says from then on, and drains and
ends when it is gone.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from router.admin.picture import Scene
from router.base.loops import run_loop
from router.config.faults import ConfigError
from router.config.load import load
from router.config.snapshot import Snapshot
from router.jobs.leases import PATIENCE_S, Leases
from router.jobs.loops import Surprised, every
from router.jobs.sharing import Changes, Picture, Sharing
from router.limits.lease import Ask, Grant
from router.model.keys import StoredKey
from router.model.stored import Home, HomePage
from router.proxy.figures import limit_numbers
from router.supervisor.limits import BEYOND_S
from router.supervisor.nursery import name_process
from router.supervisor.order import Order
from router.telemetry.reading import Reading
from router.transport.channel import NO_ANSWER, Channel, Verb
from router.transport.sockets import raise_open_files
from router.worker import Seat, Worker

ORDER_S: Final = 30.0
USAGE_S: Final = 10.0
HOMES_S: Final = 10.0
LEASE_S: Final = 2.0  # then it is asked anew
ALIVE_EVERY_S: Final = 0.5  # it is said: half of the shortest time after which silence can be taken for a hung loop
JOIN_S: Final = 90.0  # to read another configuration, where one came into force meanwhile


class Child:
    """What the supervisor may ask of a worker: the worker's own methods, where they fit."""

    def __init__(self, index: int, worker: Worker, channel: Channel) -> None:
        self._index, self.worker = index, worker
        assembly = worker.assembly
        assert isinstance(assembly.supply, Leases)
        self._leases = assembly.supply
        self._channel = channel
        self._surprised: Surprised = lambda job, error: assembly.books.event("job_failed", job=job, error=error)
        self.sharing = Sharing(
            assembly.loop, assembly.fleet, lambda changes: channel.tell("share", changes), self._surprised
        )

    async def say_alive(self) -> None:
        """For as long as the loop runs."""
        server = self.worker.assembly.gateway.server
        await every(
            ALIVE_EVERY_S, "alive", lambda: self._channel.tell("alive", len(server.connections)), self._surprised
        )

    def verbs(self) -> dict[str, Verb]:
        worker = self.worker
        return {
            "leave": self._leave,
            "cut": self._cut,
            "prepare": worker.prepare,
            "adopt": worker.adopt,
            "set_drain": worker.set_drain,
            "reopen_logs": self._reopen_logs,
            "status": worker.status,
            "explain": worker.explain,
            "reading": self._reading,
            "requests": self._requests,
            "scene": self._scene,
            "stories": self._stories,
            "keys": self._keys,
            "apply": self._apply,
            "picture": self._picture,
            "begin_with": self._begin_with,
            "shed": self._shed,
            "recall": self._recall,
        }

    async def _leave(self, shared: bool, patient: bool) -> None:
        self.worker.leave(shared=shared, patient=patient)

    async def _cut(self) -> None:
        self.worker.cut()

    async def _recall(self, limit_ids: list[str]) -> None:
        await self._leases.recall(limit_ids)

    async def _reopen_logs(self) -> None:
        self.worker.reopen_logs()

    async def _reading(self) -> Reading:
        read, shared = await self.worker.assembly.read(str(self._index)), self.sharing.reading()
        return Reading(read.numbers, read.histograms | shared.histograms)

    async def _requests(self) -> Reading:
        assembly = self.worker.assembly
        assembly.books.metrics.count_pending()
        counted = await assembly.loop.run_in_executor(None, assembly.books.metrics.read_counted)
        return Reading(counted.numbers | limit_numbers(assembly.limits), counted.histograms)

    async def _scene(self) -> Scene:
        return self.worker.assembly.scene()

    async def _stories(self, request_id: str) -> list[dict[str, object]]:
        story = await self.worker.story(request_id)
        return [story] if story is not None else []

    async def _keys(self, stored: list[StoredKey]) -> None:
        await self.worker.assembly.keyring.take(stored)

    async def _apply(self, news: list[Changes]) -> None:
        for changes in news:
            self.sharing.apply(changes)

    async def _picture(self) -> Picture:
        return self.sharing.picture()

    async def _shed(self, count: int) -> None:
        self.worker.assembly.gateway.server.shed(count)

    async def _begin_with(self, picture: Picture) -> None:
        self.sharing.begin_with(picture)


async def serve(index: int, line: socket.socket, listeners: Sequence[socket.socket], known: Snapshot | None) -> int:
    """Returns the exit status."""
    loop = asyncio.get_running_loop()
    channel = Channel()
    await loop.create_connection(lambda: channel, sock=line)
    try:
        child = await _start(index, tuple(listeners), channel, known)
    except NO_ANSWER:
        return 1
    except (ConfigError, OSError, ValueError) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        with contextlib.suppress(*NO_ANSWER):
            await channel.call(type(None), ORDER_S, "failed", why)
        return 1
    orphaned = loop.create_task(_stop_when_closed(channel, child.worker))
    alive = loop.create_task(child.say_alive())
    child.sharing.start()
    await child.worker.run()
    alive.cancel()
    orphaned.cancel()
    await child.sharing.stop()
    return 0


async def _start(index: int, listeners: tuple[socket.socket, ...], channel: Channel, known: Snapshot | None) -> Child:
    """A worker that listens. Raises what keeps it from it."""
    order = await channel.call(Order, ORDER_S, "order")
    file = Path(order.file)
    if known is not None and known.source == order.source:
        snapshot = known.at(time.time())
    else:
        snapshot = load(file, os.environ, source=order.source)
    worker = Worker(file, os.environ, snapshot, seat=Seat(index, listeners, _leases(channel, snapshot), order.beside))
    await worker.assemble()
    if snapshot.ledger is not None:
        worker.assembly.runtime.own_usage.ask = partial(channel.call, dict[str, Any], USAGE_S, "usage")
        worker.assembly.runtime.homes.find_homes = partial(channel.call, list[Home], HOMES_S, "find_homes")
        worker.assembly.runtime.homes.page_homes = partial(channel.call, HomePage, HOMES_S, "own_homes")
    if order.keys is not None:
        await worker.assembly.keyring.take(order.keys)
    for deployment_id in order.draining:
        await worker.set_drain(deployment_id, True)
    child = Child(index, worker, channel)
    channel.serve(child.verbs())
    # From this answer on each reload waits for this worker too: it never serves what is not in force any more.
    await channel.call(type(None), JOIN_S, "join", worker.assembly.runtime.snapshot.version)
    await worker.listen()
    channel.tell("listening")
    return child


def _leases(channel: Channel, snapshot: Snapshot) -> Callable[[Surprised], Leases]:
    async def lend(asks: Sequence[Ask]) -> list[Grant]:
        return await channel.call(list[Grant], LEASE_S, "lease", asks)

    workers, redis = snapshot.server.workers, snapshot.redis
    if redis is None:
        return partial(Leases, asyncio.get_running_loop(), lend, workers, PATIENCE_S)
    return partial(Leases, asyncio.get_running_loop(), lend, workers * redis.routers, BEYOND_S)


async def _stop_when_closed(channel: Channel, worker: Worker) -> None:
    await channel.closed.wait()
    worker.stop()


def run(index: int, line: int, listeners: Sequence[int], known: Snapshot | None = None) -> int:
    """Serves to the end and returns the exit status. `line` and `listeners`: open descriptors.

    `known`: a configuration that was read and checked already; it need not be the one in force.
    """
    raise_open_files()
    name_process(f"worker-{index}")
    sockets = [socket.socket(fileno=fd) for fd in listeners]
    return run_loop(serve(index, socket.socket(fileno=line), sockets, known))
