"""The workers: each place kept taken, all asked at once, and what one says to the others passed on."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from time import monotonic
from typing import Any, Final, Protocol, TypeVar

import msgspec

from router.limits.lease import Ask, Grant
from router.model.stored import Home, HomePage, OwnHomes
from router.supervisor.news import News
from router.supervisor.order import Order
from router.supervisor.slot import Slot
from router.supervisor.spread import SPREAD_EVERY_S, excess
from router.supervisor.watch import LOOK_EVERY_S, Watch
from router.telemetry.reading import Reading
from router.transport.channel import NO_ANSWER, Verb

RECALL_S: Final = 0.15  # a request waits for what comes of it
ANSWER_S: Final = 2.0  # longer than a busy loop needs, no longer than an operator waits
POLL_EVERY_S: Final = 1.0  # what a worker counted since the last time is lost when it is killed
CUT_S: Final = 4.0  # from a drain that is cut short to the end: the logs have 2 s of it
QUEUED_S: Final = 1.0  # so long who connects may wait for who comes next: withdrawn, a queue is reset
START_S: Final = 120.0  # from a new process to one that listens: imports, tokens, a segment, on a busy machine

T = TypeVar("T")


class Superior(Protocol):
    """Who commands the crew."""

    @property
    def sockets_are_shared(self) -> bool:
        """Another router may listen on them."""
        ...

    @property
    def loop_lag_max_s(self) -> float:
        """So long a worker may stand still."""
        ...

    def order(self) -> Order:
        """What a worker that starts now is to do."""
        ...

    async def join(self, slot: Slot, version: str) -> None:
        """A worker is about to listen, with that configuration: has it follow what came into force meanwhile.

        Raises ClosedError, FailedError, TimeoutError where it does not.
        """
        ...

    async def lend(self, slot: Slot, asks: Sequence[Ask]) -> list[Grant]:
        """Gives a worker its part of what all may use."""
        ...

    async def usage(self, key: str, since: float, until: float, bucket: str) -> dict[str, Any]:
        """A key's own figures, as the ledger has them. Raises ClosedError, FailedError, TimeoutError."""
        ...

    async def find_homes(self, key: str, ids: list[str]) -> list[Home]:
        """Where those of a key's ids live that are its own. Raises as `usage`."""
        ...

    async def own_homes(self, asked: OwnHomes) -> HomePage:
        """A page of a key's own ids. Raises as `usage`."""
        ...

    def ended(self, slot: Slot) -> None:
        """A worker is gone, with whatever it had."""
        ...

    def event(self, event: str, /, **fields: object) -> None:
        """For the log."""
        ...


class Crew:
    """All places. Starts what ends, until it is told to end."""

    def __init__(self, slots: Sequence[Slot], superior: Superior) -> None:
        self.slots = slots
        self._news = News(slots)
        self._superior = superior
        self._ending = asyncio.Event()
        self._leaving = (True, False)  # how, once they are to
        self._complete = False
        self._keepers: list[asyncio.Task[None]] = []
        self._poller: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def joined(self) -> list[Slot]:
        """Who must have the configuration in force, since they serve or will in a moment."""
        return [slot for slot in self.slots if slot.joined]

    @property
    def up(self) -> list[Slot]:
        """Who serves."""
        return [slot for slot in self.slots if slot.up]

    async def start(self) -> None:
        """Returns once all serve. Raises OSError where one cannot: then nobody is started again."""
        self._keepers = [asyncio.create_task(self._keep(slot)) for slot in self.slots]
        self._watcher = asyncio.create_task(self._watch())
        await asyncio.gather(*(slot.settled.wait() for slot in self.slots))
        if failed := [slot for slot in self.slots if not slot.up]:
            raise OSError(failed[0].failure)
        self._complete = True
        self._poller = asyncio.create_task(self._poll())

    def leave(self, *, shared: bool, patient: bool) -> None:
        """Lets all drain and end, as `Worker.leave`."""
        self._leaving = (shared, patient)
        self._ending.set()
        for slot in self.slots:
            slot.channel.tell("leave", *self._leaving)

    def cut(self) -> None:
        """Ends a drain at once, and those that do not hear it as well."""
        asyncio.get_running_loop().call_later(CUT_S, self._kill)
        for slot in self.slots:
            slot.channel.tell("cut")

    def _kill(self) -> None:
        for slot in self.slots:
            slot.kill()

    async def gone(self, within_s: float) -> None:
        """Waits for the end of all, and kills whoever has not ended in time."""
        self._ending.set()
        if self._keepers:
            _, late = await asyncio.wait(self._keepers, timeout=within_s)
            if late:
                self._kill()
            await asyncio.gather(*self._keepers)
        for job in (self._poller, self._watcher):
            if job is not None:
                job.cancel()

    async def surprise(self) -> None:
        """Ends, with the error, when a place is not kept any more though nobody said so: our bug."""
        assert self._poller is not None
        assert self._watcher is not None
        tasks = [*self._keepers, self._poller, self._watcher]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def ask_all(self, kind: type[T], timeout_s: float, verb: str, *arguments: object) -> dict[int, T]:
        """The answers of all who serve, by their number; of those who gave one in time and still serve."""
        asked = [(slot, slot.channel) for slot in self.up]
        answers = await asyncio.gather(
            *(channel.call(kind, timeout_s, verb, *arguments) for _, channel in asked), return_exceptions=True
        )
        found: dict[int, T] = {}
        for (slot, channel), answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, NO_ANSWER):
                    raise answer
            elif slot.up and slot.channel is channel:  # else what it counted is kept already, and would count twice
                found[slot.index] = answer
        return found

    async def recall(self, holders: Collection[str], limit_ids: Sequence[str]) -> None:
        """Has workers give back what they hold of limits and do not need; returns when they have, or are too busy."""
        asked = [slot.channel for slot in self.up if str(slot.index) in holders]
        calls = (channel.call(type(None), RECALL_S, "recall", limit_ids) for channel in asked)
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, BaseException) and not isinstance(answer, NO_ANSWER):
                raise answer

    async def read(self) -> None:
        """Takes the numbers of all who serve."""
        for index, reading in (await self.ask_all(Reading, ANSWER_S, "reading")).items():
            self.slots[index].last = reading

    async def _keep(self, slot: Slot) -> None:
        try:
            while not self._ending.is_set():
                began_at = monotonic()
                how = await self._lived(slot)
                self._superior.ended(slot)
                if self._ending.is_set():
                    return
                if not self._complete:
                    slot.failure = slot.failure or f"worker {slot.index} ended while it started: {how}"
                    return
                await self._rest(slot, how, monotonic() - began_at)
        finally:
            slot.settled.set()

    async def _lived(self, slot: Slot) -> str:
        """Starts a process and waits for its end, which is as it returns."""
        try:
            await slot.spawn(self._verbs(slot))
            if self._ending.is_set():
                slot.channel.tell("leave", *self._leaving)  # there was no channel yet when all were told
            return await slot.ended()
        except OSError as error:  # no process could be made
            slot.failure = str(error)
            return slot.failure

    async def _rest(self, slot: Slot, how: str, lived_s: float) -> None:
        """Tells of an end, and leaves the place alone for as long as it is better so."""
        wait_s = slot.backoff.next_s(lived_s)
        why = {"why": slot.failure} if slot.failure else {}
        self._superior.event("worker_ended", worker=slot.index, how=how, **why, restart_in_s=round(wait_s, 3))
        slot.restarts += 1
        if wait_s > QUEUED_S and not self._superior.sockets_are_shared:
            slot.withdraw()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._ending.wait()

    def _verbs(self, slot: Slot) -> dict[str, Verb]:
        """What a worker says of itself."""

        async def order() -> Order:
            return self._superior.order()

        async def failed(why: str) -> None:
            slot.failure = why

        async def join(version: str) -> None:
            await self._superior.join(slot, version)

        async def listening() -> None:
            slot.sit()
            if self._complete:
                self._superior.event("worker_started", worker=slot.index, pid=slot.pid)

        async def share(changes: msgspec.Raw) -> None:
            self._news.take(slot, changes)

        async def alive(connections: int) -> None:
            slot.connections = connections

        async def lease(asks: list[Ask]) -> list[Grant]:
            return await self._superior.lend(slot, asks)

        kept: dict[str, Verb] = {"find_homes": self._superior.find_homes, "own_homes": self._superior.own_homes}
        told: dict[str, Verb] = {"failed": failed, "join": join, "listening": listening, "alive": alive}
        return {"order": order, "lease": lease, "share": share, "usage": self._superior.usage, **kept, **told}

    async def _poll(self) -> None:
        """Keeps what requests counted. The rest is read when somebody asks: that takes a few times longer."""
        while True:
            await asyncio.sleep(POLL_EVERY_S)
            for index, requests in (await self.ask_all(Reading, ANSWER_S, "requests")).items():
                self.slots[index].count(requests)

    async def _watch(self) -> None:
        """Ends whoever stands still: its clients wait, and so do those who come to its socket."""
        watch = Watch(monotonic())
        spread_at = monotonic() + SPREAD_EVERY_S
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if monotonic() >= spread_at:
                spread_at = monotonic() + SPREAD_EVERY_S
                self._spread()
            for slot in watch.look(self.slots, self._patience_s, monotonic()):
                slot.stuck += 1
                self._superior.event("worker_hung", worker=slot.index, pid=slot.pid, after_s=self._patience_s(slot))
                slot.kill()

    def _spread(self) -> None:
        for index, count in excess({slot.index: slot.connections for slot in self.up}).items():
            self.slots[index].channel.tell("shed", count)

    def _patience_s(self, slot: Slot) -> float:
        return self._superior.loop_lag_max_s if slot.up else START_S
