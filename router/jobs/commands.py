"""`inference-router upgrade` asks here: a Unix socket in Linux's abstract namespace, named after the router's pid.

There is no file that could be left over, and none to agree on. Whoever connects is known to the kernel: nobody but the
router's own user, and root, is answered.
"""

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from router.jobs.succession import START_S, UpgradeError

UPGRADE: Final = b"upgrade\n"
_NAME: Final = "inference-router-{pid}"
_ASKED_S: Final = 5.0
_PEER: Final = struct.Struct("=iII")  # SO_PEERCRED: pid, uid, gid
_ALL: Final = Path("/proc/net/unix")


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`pid`: of the router that serves from now on; 0: the one that was asked, for the reason `why`."""

    pid: int = 0
    why: str = ""


class CommandSocket:
    """`upgrade` returns the next router's pid, or raises UpgradeError."""

    def __init__(self, upgrade: Callable[[], Awaitable[int]]) -> None:
        self._upgrade = upgrade
        self._server: asyncio.AbstractServer | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Raises OSError, where somebody has taken the name, say."""
        if sys.platform != "linux":
            return
        own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            own.setblocking(False)
            own.bind(_address(os.getpid()))
            self._server = await asyncio.start_unix_server(self._serve, sock=own)
        except OSError:
            own.close()
            raise

    def close(self) -> None:
        """Nobody finds it any more. What was asked is answered."""
        if self._server is not None:
            self._server.close()

    async def answered(self) -> None:
        """Returns once nobody waits for an answer."""
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        with contextlib.suppress(OSError, TimeoutError):
            peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            if _PEER.unpack(peer)[1] in (os.geteuid(), 0):
                async with asyncio.timeout(_ASKED_S):
                    asked = await reader.readline()
                if asked == UPGRADE:
                    writer.write(msgspec.json.encode(await self._answer()) + b"\n")
                    await writer.drain()
        writer.close()

    async def _answer(self) -> Answer:
        try:
            return Answer(await self._upgrade())
        except UpgradeError as error:
            return Answer(why=str(error))


def running_routers() -> Sequence[int]:
    """Pids of this user's routers, or for root of all, that could be asked."""
    begin = f"@{_NAME.format(pid='')}"
    try:
        names = {line.rpartition(" ")[2] for line in _ALL.read_text().splitlines()}
    except OSError:
        return ()
    numbers = {name.removeprefix(begin) for name in names if name.startswith(begin)}
    pids = sorted(int(number) for number in numbers if number.isdecimal())
    return [pid for pid in pids if os.geteuid() == 0 or _owner_of(pid) == os.geteuid()]


def ask_upgrade(pid: int) -> Answer:
    """Blocks until the next router serves, or the asked one says why not. Raises OSError where there is nobody."""
    if sys.platform != "linux":
        raise OSError("only Linux lets one process follow another on its sockets")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(START_S + 2 * _ASKED_S)
        line.connect(_address(pid))
        peer = _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if peer[0] != pid or (os.geteuid() and peer[1] != os.geteuid()):
            raise PermissionError(f"process {peer[0]} of another user has taken the name of router {pid}")
        line.sendall(UPGRADE)
        with line.makefile("rb") as answers:
            told = answers.readline()
    if not told:
        raise ConnectionError("it ended, or refused to be asked")
    return msgspec.json.decode(told, type=Answer)


def _address(pid: int) -> str:
    return f"\0{_NAME.format(pid=pid)}"


def _owner_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}").stat().st_uid
    return -1
