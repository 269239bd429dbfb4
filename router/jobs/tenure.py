"""A router's time in office: from the moment that it serves until another one does, or nobody.

The process that operators see has one; a worker among others has none.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, TypeVar

from router.base.loops import heed
from router.jobs.commands import CommandSocket
from router.jobs.inheritance import Inheritance
from router.jobs.service import ServiceManager
from router.jobs.succession import Estate, Predecessor, Successor, Taken, UpgradeError
from router.model.keys import StoredKey
from router.telemetry import names
from router.telemetry import reading as readings
from router.telemetry.reading import Reading
from router.transport.channel import NO_ANSWER, Channel, ClosedError, Verb

TELL_EVERY_S: Final = 1.0  # what was counted since the last time is lost when it is killed
KEYS_EVERY_S: Final = 0.3

T = TypeVar("T")


class Ruler(Protocol):
    """A router that another may follow: one process, or several through their supervisor."""

    @property
    def event(self) -> Callable[..., None]:
        """For the log."""
        ...

    def stop(self) -> None:
        """Begins its end; the second call cuts it short."""
        ...

    def hang_up(self) -> None:
        """Lets go of rotated logs, and reads the configuration anew."""
        ...

    def estate(self) -> Estate:
        """What the next router is given."""
        ...

    def retire(self, taken: Taken) -> None:
        """Another router serves: takes no client any more, and ends when those that it has are served."""
        ...

    async def own_reading(self) -> Reading:
        """All numbers, but for those of the routers before."""
        ...

    async def drain_here(self, deployment_id: str, draining: bool) -> bool:
        """`set_drain` of the control plane, for this router alone."""
        ...

    def answers(self) -> dict[str, Verb]:
        """What a router before may ask of this one's books."""
        ...

    def known_keys(self) -> list[StoredKey] | None:
        """Of the store."""
        ...

    async def take_keys(self, stored: list[StoredKey]) -> None: ...


class Tenure:
    """`past`: what stays true of the routers before. `before`: the one that still ends what it had begun."""

    def __init__(self, ruler: Ruler, inheritance: Inheritance, environ: Mapping[str, str]) -> None:
        self.service = ServiceManager(environ)
        self.past = Reading()
        self.before: dict[str, object] | None = None
        self.over = False  # another one serves
        self._serves = self._ends = False
        self._ruler, self._inheritance = ruler, inheritance
        self._commands = CommandSocket(self.upgrade)
        self._predecessor: Predecessor | None = None
        self._successor: Successor | None = None
        self._hurried = asyncio.Event()  # a signal came
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def sockets_are_shared(self) -> bool:
        """Somebody else has what this router listens on, and may go on with it."""
        return self._inheritance.kept or self._successor is not None

    @property
    def deputy(self) -> Channel | None:
        """The line to the router that serves now."""
        return self._successor.channel if self._successor is not None else None

    async def meet(self) -> list[str]:
        """Before it serves: returns which deployments the router before has drained. Raises OSError."""
        if self._inheritance.line is None:
            return []
        predecessor = Predecessor(self._inheritance.line)
        told: dict[str, Verb] = {
            "set_drain": self._ruler.drain_here,
            "numbers": self._take_numbers,
            "hang_up": self._hang_up,
        }
        try:
            drained = await predecessor.meet({**self._ruler.answers(), **told})
        except ClosedError:  # it was killed: then this one serves with what it has
            return []
        except NO_ANSWER as error:
            raise ConnectionError(f"the router to follow does not answer: {error}") from None
        self._predecessor = predecessor
        return drained

    async def begin(self) -> None:
        """It listens: has the router before end, and heeds signals from now on. Raises OSError."""
        ruler = self._ruler
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            heed(name, self._stop)
        heed("SIGHUP", ruler.hang_up)
        heed("SIGUSR2", lambda: self._do(self._upgrade_unasked()))
        if self._predecessor is not None:
            await self._relieve(self._predecessor)
        self._serves = True
        self._inheritance.settle()
        try:
            await self._commands.open()
        except OSError as error:
            ruler.event("upgrade_socket_failed", reason=error.strerror or str(error))
        self.service.ready()

    async def end(self) -> None:
        """The router has nothing left to do but to close its books."""
        self._commands.close()
        await self._commands.answered()
        if self.over:
            await self._outlive()
            await self._tell_numbers()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.service.close()

    async def upgrade(self) -> int:
        """Starts the next router; returns its pid once that serves. Raises UpgradeError."""
        if self._successor is not None:
            raise UpgradeError("another one is on its way already")
        if self._ends:  # its sockets may let nobody in any more, whoever has them
            raise UpgradeError("this router is ending")
        if os.getpid() == 1:
            raise UpgradeError("this router is a container's first process, and the container would end with it")
        if sys.platform != "linux":
            raise UpgradeError("only Linux lets one process follow another on its sockets")
        ruler = self._ruler
        ruler.event("upgrade_began")
        successor = self._successor = Successor(asyncio.get_running_loop(), ruler.estate(), self._relieved)
        verbs: dict[str, Verb] = {"set_drain": self.set_drain, "hang_up": self._hang_up, "keys": ruler.take_keys}
        try:
            taken = await successor.start(verbs)
        except UpgradeError as error:
            self._successor = None
            ruler.event("upgrade_failed", reason=str(error))
            raise
        self._do(self._watch(successor))
        return taken.pid

    async def set_drain(self, deployment_id: str, draining: bool) -> bool:
        """An operator's word: for this router, the one before, and the next one while that is being started."""
        if self._predecessor is not None:
            self._predecessor.channel.tell("set_drain", deployment_id, draining)
        if self._successor is not None and not self.over:
            self._successor.channel.tell("set_drain", deployment_id, draining)
        return await self._ruler.drain_here(deployment_id, draining)

    def hung_up(self) -> None:
        """Logs were rotated, or another configuration is in force: so it is for the router before, and for the next,
        which may have read the file already.
        """
        if self._predecessor is not None and self._serves:  # before, it was that one that said so
            self._predecessor.channel.tell("hang_up")
        if self._successor is not None and not self.over:
            self._successor.channel.tell("hang_up")

    async def reloading(self, reload: Awaitable[T]) -> T:
        """Tells the service manager of it."""
        self.service.reloading()
        try:
            return await reload
        finally:
            self.service.ready()

    def reading(self, own: Reading) -> Reading:
        """With what the routers before have counted: totals do not fall."""
        # A chain of decisions goes on where another process left it: it is counted there.
        numbers = {name: series for name, series in self.past.numbers.items() if name != names.DECISIONS.name}
        return readings.merged((Reading(numbers, self.past.histograms), own))

    def _stop(self) -> None:
        self._ends = True
        self._hurried.set()
        if not self.over:
            self.service.stopping()
            if self._successor is not None:
                self._successor.stop()
        self._ruler.stop()

    # -- the router before

    async def _relieve(self, predecessor: Predecessor) -> None:
        inheritance = self._inheritance
        try:
            await predecessor.relieve(data=bool(inheritance.data), admin=bool(inheritance.admin))
        except ClosedError:
            self._predecessor = None
        except NO_ANSWER as error:
            raise ConnectionError(f"the router to follow does not end: {error}") from None
        else:
            self._do(self._follow(predecessor))

    async def _follow(self, predecessor: Predecessor) -> None:
        """While it lives: a key that has ended has ended for its requests, too."""
        told: list[StoredKey] | None = None
        while not predecessor.channel.closed.is_set():
            known = self._ruler.known_keys()
            if known is not None and known is not told:
                told = known
                predecessor.channel.tell("keys", known)
            try:
                async with asyncio.timeout(KEYS_EVERY_S):
                    await predecessor.channel.closed.wait()
            except TimeoutError:
                continue
        self._predecessor = self.before = None
        self._ruler.event("predecessor_ended")

    async def _outlive(self) -> None:
        """The router before counts by way of this one, and asks the books so; a signal ends the wait."""
        if self._predecessor is None:
            return
        loop = asyncio.get_running_loop()
        either = [loop.create_task(event.wait()) for event in (self._predecessor.channel.closed, self._hurried)]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in either:
                task.cancel()

    async def _take_numbers(self, pid: int, past: Reading) -> None:
        self.past, self.before = readings.understood(past), {"pid": pid}

    # -- the router after

    def _relieved(self, taken: Taken) -> None:
        self.over = True
        self._commands.close()
        self.service.hand_over(taken.pid)
        self._ruler.event("upgraded", pid=os.getpid(), successor=taken.pid)
        self._do(self._keep_telling())
        self._ruler.retire(taken)

    async def _watch(self, successor: Successor) -> None:
        """Until this one has ended: nobody else tells of an end in the first minutes."""
        self._ruler.event("successor_ended", how=await successor.ended())

    async def _keep_telling(self) -> None:
        while True:
            await self._tell_numbers()
            await asyncio.sleep(TELL_EVERY_S)

    async def _tell_numbers(self) -> None:
        assert self._successor is not None
        own = self.reading(await self._ruler.own_reading())
        self._successor.channel.tell("numbers", os.getpid(), readings.lasting(own))

    async def _hang_up(self) -> None:
        self._ruler.hang_up()

    async def _upgrade_unasked(self) -> None:
        """By a signal, which has no answer: the log has it."""
        try:
            await self.upgrade()
        except UpgradeError:
            return

    def _do(self, job: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := asyncio.get_running_loop().create_task(job))
        task.add_done_callback(self._tasks.discard)
