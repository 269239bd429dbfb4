"""One router after another, without a gap: a running one starts the next with its sockets, and ends once that serves.

Sockets are never closed and opened again: both processes have the same ones, so that whoever waits in their queues is
accepted by one of them. The line between the two stays until the older one has ended: what operators say to the newer
one holds for the requests of the older one too.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from router.base.processes import until_ended
from router.jobs.inheritance import VARIABLE, Bequest
from router.transport.channel import Channel, Verb
from router.transport.listening import Sockets

START_S: Final = 120.0  # as a worker's: imports, tokens, a segment, on a busy machine
END_S: Final = 5.0  # for a next one that could not serve, before it is killed
ASK_S: Final = 10.0
_OF_THIS_PROCESS: Final = ("WATCHDOG_PID",)  # by its number


class UpgradeError(Exception):
    """There is no next router, and this one goes on. The text says why, and may be shown."""


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """Of a router that serves: which sockets of the one before it uses."""

    pid: int
    data: bool
    admin: bool


@dataclass(frozen=True, slots=True)
class Estate:
    """What the next router is given."""

    data: Sequence[Sockets]
    admin: Sockets
    addresses: Sequence[str]
    kept: bool
    drained: Callable[[], list[str]]  # deployments, as operators have said: that is in no file


class Successor:
    """The next router, from its start on. `channel` is the line to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, estate: Estate, on_ready: Callable[[Taken], None]) -> None:
        """`on_ready` is called in the moment from which on it serves: whatever is said to it after that it heeds."""
        self.channel = Channel()
        self._loop, self._estate, self._on_ready = loop, estate, on_ready
        self._served: asyncio.Future[Taken] = loop.create_future()
        self._why = ""
        self._wanted = True
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: asyncio.Task[str] | None = None

    async def start(self, verbs: Mapping[str, Verb]) -> Taken:
        """Returns once it serves. `verbs`: what else it may ask of this one. Raises UpgradeError where it does not."""
        here, there = socket.socketpair()
        try:
            process = self._process = await self._loop.run_in_executor(None, self._run, there)
        except OSError as error:
            here.close()
            raise UpgradeError(f"it could not be started: {error}") from None
        finally:
            there.close()
        if not self._wanted:  # by now
            process.terminate()
        self.channel.serve({**verbs, "drained": self._drained, "serves": self._serves, "failed": self._failed})
        await self._loop.create_connection(lambda: self.channel, sock=here)
        self._ended = ended = self._loop.create_task(_end_of(process))
        either: set[asyncio.Future[Any]] = {ended, self._served}
        await asyncio.wait(either, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if self._served.done():
            return self._served.result()
        self._served.cancel()
        how = f"it ended: {ended.result()}" if ended.done() else f"it did not serve within {START_S:.0f} s"
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not ended.done():
                process.send_signal(number)
                await asyncio.wait({ended}, timeout=END_S)
        self.channel.close()
        raise UpgradeError(self._why or f"{how}; what it said is on standard error")

    async def ended(self) -> str:
        """Returns how it ended, once it has."""
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    def stop(self) -> None:
        """It is not wanted any more."""
        self._wanted = False
        if self._process is not None:
            self._process.terminate()

    def _run(self, line: socket.socket) -> "subprocess.Popen[bytes]":
        estate = self._estate
        data, admin = [[each.fileno() for each in own] for own in estate.data], [each.fileno() for each in estate.admin]
        bequest = Bequest(line.fileno(), data, admin, list(estate.addresses), estate.kept)
        environ = {name: value for name, value in os.environ.items() if name not in _OF_THIS_PROCESS}
        environ[VARIABLE] = json.dumps(msgspec.to_builtins(bequest))
        fds = [line.fileno(), *admin, *(fd for own in data for fd in own)]
        return subprocess.Popen(own_command(), pass_fds=fds, env=environ)  # noqa: S603 - what we were called with

    async def _drained(self) -> list[str]:
        return self._estate.drained()

    async def _failed(self, why: str) -> None:
        self._why = why

    async def _serves(self, taken: Taken) -> None:
        """Its word that it serves. With the answer this router has ended."""
        if self._served.done():
            raise ValueError("it came too late")
        self._served.set_result(taken)
        self._on_ready(taken)


class Predecessor:
    """The router before, which goes on serving until it hears that this one does, and then ends what it has begun."""

    def __init__(self, line: socket.socket) -> None:
        self.channel = Channel()
        self._line = line.dup()  # the other one is for a failure that leaves no loop to tell of it

    async def meet(self, verbs: Mapping[str, Verb]) -> list[str]:
        """Returns which deployments are drained. Raises ClosedError, FailedError, TimeoutError."""
        await asyncio.get_running_loop().create_connection(lambda: self.channel, sock=self._line)
        self.channel.serve(verbs)
        return await self.channel.call(list[str], ASK_S, "drained")

    async def relieve(self, *, data: bool, admin: bool) -> None:
        """Tells it that this one serves, with its sockets or without. Raises as `meet`."""
        await self.channel.call(type(None), ASK_S, "serves", Taken(os.getpid(), data, admin))


def own_command() -> list[str]:
    """How this program was called. A script is found by its path once more, which may lead to another version now."""
    script = sys.argv[0]
    if os.access(script, os.X_OK) and not script.endswith(".py"):
        return [script, *sys.argv[1:]]
    return [sys.executable, *sys.orig_argv[1:]]


async def _end_of(process: "subprocess.Popen[bytes]") -> str:
    """Waits for the end of a process and returns how it ended."""
    await until_ended(process.pid)
    status = process.wait()
    with contextlib.suppress(ValueError):
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
    return f"signal {-status}"
