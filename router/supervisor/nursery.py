"""Where workers come from once the supervisor has a loop: a process that has none, and makes copies of itself.

A new program needs a second or two of a busy machine to import and check what this one has in memory already; a copy
serves after a tenth of that. It also has the code that the supervisor runs, whatever was installed over it meanwhile.
It holds no listening socket and no channel: those of a worker come with the word to make it. If it ends, workers are
programs of their own again.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from router.supervisor.copies import Become, fork, settle_down
from router.transport.listening import Sockets, close_sockets

BIRTH_S: Final = 5.0  # then it hangs
_ORDER: Final = struct.Struct("=i")  # a worker's number; its channel and its listeners come as descriptors
_NEWS: Final = struct.Struct("=ii")  # a pid, and a status as `waitpid` has it; or one of the next two
_BORN: Final = -1  # a descriptor of the process comes with it
_NOT_BORN: Final = 0  # in place of a pid; the error's number in place of a status
_DESCRIPTORS_MAX: Final = 64
_UNKNOWN_STATUS: Final = 255  # nobody is left who could tell


class Born:
    """A worker that came from there, as `asyncio.subprocess.Process` would show it."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = descriptor
        self._status = _UNKNOWN_STATUS
        self._told = asyncio.Event()

    def tell(self, status: int | None) -> None:
        """How it ended; None: nobody knows."""
        if status is not None:
            self._status = os.waitstatus_to_exitcode(status)
        self._told.set()

    async def wait(self) -> int:
        """Returns its exit status, negative for a signal. To be called once."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)
        await self._told.wait()
        os.close(self._descriptor)
        self.returncode = self._status
        return self._status

    def kill(self) -> None:
        if self.returncode is None:  # else the descriptor may be another's by now
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)


class Nursery:
    """The supervisor's side. `line`: its end; whoever else holds it keeps the other from ending."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid, self.line = pid, line
        self.alive = True
        self._heard = False
        self._expected: deque[asyncio.Future[Born]] = deque()
        self._born: dict[int, Born] = {}

    async def bear(self, index: int, sockets: Sockets) -> tuple[Born, socket.socket]:
        """A new worker for that place, and this end of its channel. Raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        if not self._heard:
            self._heard = True
            self.line.setblocking(False)
            loop.add_reader(self.line.fileno(), self._hear)
        here, there = socket.socketpair()
        try:
            socket.send_fds(self.line, [_ORDER.pack(index)], [there.fileno(), *(each.fileno() for each in sockets)])
            self._expected.append(born := loop.create_future())
            async with asyncio.timeout(BIRTH_S):
                return await born, here
        except (OSError, TimeoutError) as error:
            here.close()
            if isinstance(error, TimeoutError):
                self.close()
            raise
        finally:
            there.close()

    def close(self) -> None:
        """Ends it. Those that came from it live on."""
        if not self.alive:
            return
        self.alive = False
        if self._heard:
            asyncio.get_running_loop().remove_reader(self.line.fileno())
        self.line.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for child in self._born.values():
            child.tell(None)
        for born in self._expected:
            if not born.done():
                born.set_exception(ConnectionError("the nursery has ended"))

    def _hear(self) -> None:
        while self.alive:
            try:
                news, descriptors, _, _ = socket.recv_fds(self.line, _NEWS.size, 1)
            except BlockingIOError:
                return
            except OSError:
                news = b""
            if not news:
                self.close()
                return
            pid, status = _NEWS.unpack(news)
            self._take(pid, status, descriptors)

    def _take(self, pid: int, status: int, descriptors: Sequence[int]) -> None:
        if pid == _NOT_BORN:
            self._expected.popleft().set_exception(OSError(status, os.strerror(status)))
        elif status == _BORN:
            child = self._born[pid] = Born(pid, descriptors[0])
            self._expected.popleft().set_result(child)
        else:
            self._born.pop(pid).tell(status)


def make_nursery(sockets: Sequence[Sockets], become: Become) -> Nursery | None:
    """To be made before all other copies; None where a thread runs. Raises OSError. `become`: as for copies."""
    if not settle_down():
        return None
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def begin() -> int:
        here.close()
        close_sockets(sockets)
        name_process("nursery")
        return _tend(there, become)

    pid = fork(begin)
    there.close()
    return Nursery(pid, here)


def name_process(name: str) -> None:
    """As `ps` and `top` show it; at most 15 characters."""
    Path("/proc/self/comm").write_text(name)


def _tend(line: socket.socket, become: Become) -> int:
    """Makes workers as it is told to, and tells of their ends, until the supervisor is gone."""
    children: dict[int, int] = {}  # pids by descriptor
    waiting = select.poll()
    waiting.register(line, select.POLLIN)
    try:
        while True:
            for descriptor, _ in waiting.poll():
                if (pid := children.pop(descriptor, None)) is not None:
                    waiting.unregister(descriptor)
                    os.close(descriptor)
                    line.send(_NEWS.pack(pid, os.waitpid(pid, 0)[1]))
                elif (born := _bear(line, become, tuple(children))) is not None:
                    descriptor, children[descriptor] = born
                    waiting.register(descriptor, select.POLLIN)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0


def _bear(line: socket.socket, become: Become, others: Sequence[int]) -> tuple[int, int] | None:
    """Makes the one that is asked for, and tells of it. Raises EOFError where nobody asks any more."""
    order, given, _, _ = socket.recv_fds(line, _ORDER.size, _DESCRIPTORS_MAX)
    if not order:
        raise EOFError
    (index,) = _ORDER.unpack(order)

    def begin() -> int:
        line.close()
        for other in others:
            os.close(other)
        return become(index, given[0], given[1:])

    try:
        pid = fork(begin)
    except OSError as error:
        line.send(_NEWS.pack(_NOT_BORN, error.errno or 0))
        return None
    finally:
        for each in given:
            os.close(each)
    descriptor = os.pidfd_open(pid)
    socket.send_fds(line, [_NEWS.pack(pid, _BORN)], [descriptor])
    return descriptor, pid
