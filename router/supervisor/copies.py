"""The first workers' processes: copies of this one, made while it has no loop and no thread.

What one process has imported and checked the others need not import and check again: they start in a tenth of the time,
and share its memory for as long as nobody writes to it. Once a loop runs it is too late, since a copy of it would have
hold of the same descriptors; who takes a worker's place later comes from the `nursery`.
"""

import gc
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from router.base.processes import until_ended
from router.transport.listening import Sockets, close_sockets

# Signals that are for it alone, as in `__main__`. Windows, where nothing can be copied, has but two of them.
_SUPERVISORS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2") if hasattr(signal, name)
)
Become = Callable[[int, int, Sequence[int]], int]  # a worker: its number, channel, listeners; returns its exit status


class Copy:
    """One such process, as `asyncio.subprocess.Process` would show it. `line`: this end of its channel."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid, self.line = pid, line
        self.returncode: int | None = None

    async def wait(self) -> int:
        """Returns its exit status, negative for a signal. To be called once: until then the pid is kept for it."""
        await until_ended(self.pid)
        self.returncode = self._reap()
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def _reap(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def settle_down() -> bool:
    """To be called before copies are made. False where a thread runs: then there can be none."""
    if threading.active_count() > 1:
        return False
    gc.collect()
    gc.freeze()  # the collector's marks are writes, which end the sharing
    return True


def fork(do: Callable[[], int]) -> int:
    """Makes a copy of this process, which does that and ends with its status; returns its pid. Raises OSError."""
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal in between waits: the supervisor heeds it, a copy drops it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SUPERVISORS)
    try:
        pid = os.fork()
        if not pid:
            for number in _SUPERVISORS:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _end_as(do)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def make_copies(sockets: Sequence[Sockets], become: Become, foreign: Sequence[socket.socket] = ()) -> list[Copy]:
    """Makes one for each worker; none where a thread runs already. Raises OSError where there can be no more processes.

    `become` is called in the copy, whose process ends when that returns. `foreign`: the supervisor's alone.
    """
    made: list[Copy] = []
    if not settle_down():
        return made

    def begin(index: int, here: socket.socket, there: socket.socket) -> int:
        own = sockets[index]
        # Who holds a supervisor's end of a channel keeps its worker from noticing that the supervisor is gone.
        for each in (here, *foreign, *(copy.line for copy in made)):
            each.close()
        close_sockets([others for others in sockets if others is not own])
        return become(index, there.detach(), [each.detach() for each in own])

    for index in range(len(sockets)):
        here, there = socket.socketpair()
        pid = fork(partial(begin, index, here, there))
        there.close()
        made.append(Copy(pid, here))
    return made


def _end_as(worker: Callable[[], int]) -> None:
    """Does not return: the frames below are the supervisor's, and so is what it has registered for its own end."""
    status = 1
    try:
        status = worker()
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
