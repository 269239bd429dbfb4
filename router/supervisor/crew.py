"""The workers: each place kept taken, all asked at once, and what one says to the others passed on."""

import asyncio
import contextlib
from collections.abc import Sequence
from time import monotonic
from typing import Final, Protocol, TypeVar

import msgspec

from router.supervisor.channel import ClosedError, FailedError, Verb
from router.supervisor.order import Order
from router.supervisor.slot import Slot
from router.telemetry.reading import Reading

ANSWER_S: Final = 2.0  # longer than a busy loop needs, no longer than an operator waits
POLL_EVERY_S: Final = 1.0  # what a worker counted since the last time is lost when it is killed
HUNG_S: Final = 30.0  # without an answer from a process that lives

T = TypeVar("T")
_NO_ANSWER: Final = (ClosedError, FailedError, TimeoutError)


class Superior(Protocol):
    """Who commands the crew."""

    def order(self) -> Order:
        """What a worker that starts now is to do."""
        ...

    async def joined(self, slot: Slot, version: str) -> None:
        """A worker listens, with that configuration; what came into force meanwhile is still to be told. It is up then.

        Raises ClosedError, FailedError, TimeoutError where it does not follow.
        """
        ...

    def event(self, event: str, /, **fields: object) -> None:
        """For the log."""
        ...


class Crew:
    """All places. Starts what ends, until it is told to end."""

    def __init__(self, slots: Sequence[Slot], superior: Superior) -> None:
        self.slots = slots
        self._superior = superior
        self._ending = asyncio.Event()
        self._complete = False
        self._keepers: list[asyncio.Task[None]] = []
        self._poller: asyncio.Task[None] | None = None

    @property
    def up(self) -> list[Slot]:
        """Who serves."""
        return [slot for slot in self.slots if slot.up]

    async def start(self) -> None:
        """Returns once all serve. Raises OSError where one cannot: then nobody is started again."""
        create_task = asyncio.get_running_loop().create_task
        self._keepers = [create_task(self._keep(slot)) for slot in self.slots]
        await asyncio.gather(*(slot.settled.wait() for slot in self.slots))
        if failed := [slot for slot in self.slots if not slot.up]:
            raise OSError(failed[0].failure)
        self._complete = True
        self._poller = create_task(self._poll())

    def stop(self) -> None:
        """Lets all drain and end; a second time, at once."""
        self._ending.set()
        for slot in self.slots:
            slot.channel.tell("stop")

    async def gone(self, within_s: float) -> None:
        """Waits for the end of all, and kills whoever has not ended in time."""
        self._ending.set()
        if self._keepers:
            _, late = await asyncio.wait(self._keepers, timeout=within_s)
            for slot in self.slots if late else ():
                slot.kill()
            await asyncio.gather(*self._keepers)
        if self._poller is not None:
            self._poller.cancel()

    async def surprise(self) -> None:
        """Ends, with the error, when a place is not kept any more though nobody said so: our bug."""
        done, _ = await asyncio.wait(self._keepers, return_when=asyncio.FIRST_COMPLETED)
        for keeper in done:
            keeper.result()

    async def ask_all(self, kind: type[T], timeout_s: float, verb: str, *arguments: object) -> dict[int, T]:
        """The answers of all who serve, by their number; of those who gave one in time."""
        asked = self.up
        answers = await asyncio.gather(
            *(slot.channel.call(kind, timeout_s, verb, *arguments) for slot in asked), return_exceptions=True
        )
        found: dict[int, T] = {}
        for slot, answer in zip(asked, answers, strict=True):
            if not isinstance(answer, BaseException):
                found[slot.index] = answer
            elif not isinstance(answer, _NO_ANSWER):
                raise answer
        return found

    async def read(self) -> None:
        """Takes the numbers of all who serve."""
        for index, reading in (await self.ask_all(Reading, ANSWER_S, "reading")).items():
            self.slots[index].last = reading

    async def _keep(self, slot: Slot) -> None:
        while not self._ending.is_set():
            began_at = monotonic()
            try:
                await slot.spawn(self._verbs(slot))
                how = await slot.ended()
            except OSError as error:  # no process could be made
                how = slot.failure = str(error)
            slot.settled.set()
            if self._ending.is_set() or not self._complete:
                return
            wait_s = slot.backoff.next_s(monotonic() - began_at)
            self._superior.event(
                "worker_ended", worker=slot.index, how=how, why=slot.failure, restart_in_s=round(wait_s, 3)
            )
            slot.restarts += 1
            if wait_s:
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

        async def started(version: str) -> None:
            try:
                await self._superior.joined(slot, version)
            except _NO_ANSWER:
                slot.kill()
                return
            slot.sit()
            if self._complete:
                self._superior.event("worker_started", worker=slot.index, pid=slot.pid, config_version=version)

        async def share(changes: msgspec.Raw) -> None:
            for other in self.slots:
                if other is not slot:
                    other.channel.tell("apply", changes)

        return {"order": order, "failed": failed, "started": started, "share": share}

    async def _poll(self) -> None:
        """Keeps what requests counted. The rest is read when somebody asks: that takes a few times longer."""
        while True:
            await asyncio.sleep(POLL_EVERY_S)
            for index, requests in (await self.ask_all(Reading, ANSWER_S, "requests")).items():
                self.slots[index].count(requests)
            for slot in self.up:
                if monotonic() - slot.channel.heard_at > HUNG_S:
                    self._superior.event("worker_hung", worker=slot.index, pid=slot.pid)
                    slot.kill()
