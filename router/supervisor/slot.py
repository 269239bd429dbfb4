"""One worker's place: its sockets, the process that has them now, and what is known of those that had them before."""

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Final

from router.supervisor.backoff import Backoff
from router.supervisor.copies import Copy
from router.supervisor.nursery import Born, Nursery
from router.telemetry import names
from router.telemetry import reading as readings
from router.telemetry.reading import Reading
from router.transport.channel import Channel, Verb
from router.transport.listening import withdraw

_CHILD: Final = "router.supervisor"  # its `__main__`


class Slot:
    """Keeps a place, not a policy: when to start and to end who sits here is for the supervisor to say."""

    def __init__(
        self,
        index: int,
        sockets: tuple[socket.socket, ...],
        rng: random.Random,
        first: Copy | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        """`first`: a process that was made for this place, and waits to be given a channel.

        `nursery`: where later ones come from.
        """
        self.index = index
        self.joined = False  # has the configuration in force, and is told of the next
        self.up = False  # has joined, and listens
        self.restarts = 0
        self.connections = 0  # of clients, as it last said
        self.stuck = 0  # times that one stood still, and was ended for it
        self.since = 0.0  # wall seconds, when `up` last changed
        self.settled = asyncio.Event()  # the first process listens, or never will
        self.failure = ""  # why the last one could not start
        self.backoff = Backoff(rng)
        self.channel = Channel()
        self.last = Reading()  # of the process that runs
        self._sockets = sockets
        self._past = Reading()  # what stays true of those that have ended
        self._first, self._nursery = first, nursery
        self._process: asyncio.subprocess.Process | Copy | Born | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs, if one does."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def reading(self) -> Reading:
        """The numbers of all that ever sat here, as they last were."""
        past = self._past
        # A chain of decisions goes on where the process before left it: it is counted there.
        if names.DECISIONS.name in self.last.numbers:
            numbers = {name: series for name, series in past.numbers.items() if name != names.DECISIONS.name}
            past = Reading(numbers, past.histograms)
        return readings.merged((past, self.last))

    def sit(self) -> None:
        """Who was spawned serves from now on."""
        self.up, self.since = True, time.time()
        self.settled.set()

    def count(self, requests: Reading) -> None:
        """Takes newer numbers of requests; the rest is as it was last read."""
        self.last = Reading(self.last.numbers | requests.numbers, self.last.histograms | requests.histograms)

    async def spawn(self, verbs: Mapping[str, Verb]) -> None:
        """Starts a process, which will ask for its order, `join`, and say that it is `listening`, or has `failed`."""
        self.channel, self.failure = Channel(), ""
        if self._first is not None:
            self._process, line, self._first = self._first, self._first.line, None
        else:
            self._process, line = await self._born() or await self._make()
        self.channel.serve(verbs)
        await asyncio.get_running_loop().create_connection(lambda: self.channel, sock=line)

    async def _born(self) -> tuple[Born, socket.socket] | None:
        """A process that need not be started from nothing, where there can be one."""
        if self._nursery is None or not self._nursery.alive:
            return None
        try:
            return await self._nursery.bear(self.index, self._sockets)
        except (OSError, TimeoutError):
            return None

    async def _make(self) -> tuple[asyncio.subprocess.Process, socket.socket]:
        """A new program for this place, and this end of its channel."""
        here, there = socket.socketpair()
        fds = [there.fileno(), *(each.fileno() for each in self._sockets)]
        # Not its working folder: what lies there is no module of ours. `sys.path` is what this process was found by.
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _CHILD, str(self.index), *map(str, fds)), pass_fds=fds, env=environ
            )
        except OSError:
            here.close()
            raise
        finally:
            there.close()
        return process, here

    async def ended(self) -> str:
        """Waits for the end of the process, keeps what it counted, and returns how it ended."""
        assert self._process is not None
        status = await self._process.wait()
        self.channel.close()
        self.joined, self.up, self.since, self.connections = False, False, time.time(), 0
        self._past, self.last = readings.lasting(self.reading), Reading()
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name

    def withdraw(self) -> None:
        """Nobody will sit here for a while: new connections go to the others."""
        withdraw(self._sockets)

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
