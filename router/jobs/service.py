"""What a service manager is told: systemd's protocol, a datagram of lines to the socket that NOTIFY_SOCKET names.

Nobody listens where a router was started by hand; nothing is said then.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """Words for whoever started this process as a service. None of them waits, and none fails."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _socket_address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ) if self._address else 0.0  # of silence, then we are killed; 0: never
        self._watchdog: asyncio.Task[None] | None = None

    def ready(self) -> None:
        """It serves, after its start or a reload. From the first time on a watchdog is told that the loop runs."""
        self._say("READY=1")
        if self.watchdog_s and self._watchdog is None:
            self._watchdog = asyncio.get_running_loop().create_task(self._feed())

    def reloading(self) -> None:
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def hand_over(self, pid: int) -> None:
        """Another process of ours is the service from now on."""
        self._say(f"MAINPID={pid}")
        self.close()

    def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._address = ""

    async def _feed(self) -> None:
        while True:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / 2)

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto("\n".join(lines).encode(), self._address)


def _socket_address(named: str) -> str:
    """A path, or with `@` a name of the kernel's own, whose first byte is zero."""
    return f"\0{named[1:]}" if named.startswith("@") else named


def _watchdog_s(environ: Mapping[str, str]) -> float:
    meant = environ.get("WATCHDOG_PID", "")
    if meant and meant != str(os.getpid()):
        return 0.0
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / _MICROSECONDS if microseconds.isdecimal() else 0.0
