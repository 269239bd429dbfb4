"""What is asked of the kernel for a connection of ours."""

import asyncio
import contextlib
import select
import socket
import sys
from collections.abc import Callable
from typing import Final

_FILES_KEPT: Final = 100  # logs, the ledger, the control plane, the loop's own


def set_client_options(transport: asyncio.Transport) -> None:
    """Sends at once what is written, and finds clients that are gone without a word."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    set_keepalive(sock)


def has_unread(transport: asyncio.Transport | None) -> bool:
    """Whether the kernel has bytes of the other end that the transport has not handed up yet."""
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sys.platform == "win32":
        return False
    import fcntl  # which Windows has not
    import termios

    with contextlib.suppress(OSError, ValueError):  # it is closed
        return any(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    return False


def watch(sock: socket.socket) -> Callable[[float], object]:
    """Returns what tells, after at most so many milliseconds, whether there is anything to read, or an end.

    Each watch keeps its own list of one: that is faster than to make it anew each time.
    """
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return poll.poll
    return lambda ms: select.select((sock,), (), (), ms / 1000)[0]  # Windows: of any number of files, but 512 at a time


def connections_possible() -> int:
    """How many clients this process has files for: each may need a connection to a deployment as well."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource  # which Windows has not

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else max(1, (files - _FILES_KEPT) // 2)


def raise_open_files() -> None:
    """A stream is two open files; the usual soft limit (1,024) is for programs that use select()."""
    if sys.platform == "win32":
        return
    import resource  # which Windows has not

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def address_of(transport: asyncio.Transport) -> str:
    """The other end's address; empty where it has none."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and name else ""


def set_keepalive(sock: socket.socket) -> None:
    """Finds dead peers: probes after 30 s, and gives up on unacknowledged bytes after 30 s."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
        option = getattr(socket, name, None)  # Linux has all four, others some
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
