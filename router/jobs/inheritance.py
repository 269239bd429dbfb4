"""What a process finds open when it begins: the sockets of the router that it follows, or those of the service manager.

Both are told of by the environment, once: what this process starts itself must not take them for its own.
"""

import contextlib
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from router.config.snapshot import ServerSettings
from router.transport.channel import frame
from router.transport.listening import Sockets, close_sockets

VARIABLE: Final = "INFERENCE_ROUTER_FOLLOWS"
ADMIN: Final = "admin"  # FileDescriptorName= of the control plane's socket
_FIRST_FD: Final = 3


class Bequest(msgspec.Struct, frozen=True):
    """Open descriptors, and what they are, for the router that comes next. In JSON, read by another version of us."""

    line: int
    data: list[list[int]]
    admin: list[int]
    addresses: list[str]  # of the data plane and the control plane, as configured
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Inheritance:
    """Nothing, at a plain start."""

    data: tuple[Sockets, ...] = ()
    admin: Sockets = ()
    kept: bool = False  # the service manager has them too, and they outlive us
    line: socket.socket | None = None  # to the router that goes on serving until this one does
    addresses: tuple[str, ...] = ()  # that it served at; none: whatever the configuration says, these are meant

    def for_server(self, server: ServerSettings) -> "Inheritance":
        """Without the sockets of a plane that is to be served elsewhere from now on."""
        if not self.addresses:
            return self
        data, admin = (old == new for old, new in zip(self.addresses, addresses_of(server), strict=True))
        if not data:
            close_sockets(self.data)
        if not admin:
            close_sockets([self.admin])
        return replace(self, data=self.data if data else (), admin=self.admin if admin else ())

    @property
    def held(self) -> Sockets:
        """All that a copy of this process must let go of, but for what clients connect to."""
        return (*self.admin, *((self.line,) if self.line is not None else ()))

    def settle(self) -> None:
        """It is over with the router before: that one need not be told of a failure any more."""
        if self.line is not None:
            self.line.close()

    def fail(self, why: str) -> None:
        """Tells the router that goes on why this one cannot follow it."""
        if self.line is not None and self.line.fileno() >= 0:
            self.line.setblocking(True)
            with contextlib.suppress(OSError):  # it is gone as well
                self.line.sendall(frame("failed", why))


def addresses_of(server: ServerSettings) -> tuple[str, ...]:
    return tuple(f"{each.host} {each.port}" for each in (server.listen, server.admin))


def inherited(environ: MutableMapping[str, str]) -> Inheritance:
    """Takes them over, and the variables away. Raises ValueError where they are not what was said, OSError."""
    told = environ.pop(VARIABLE, "")
    names = [environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")]
    if told:
        bequest = msgspec.json.decode(told, type=Bequest)
        return Inheritance(
            data=tuple(tuple(map(_listening, own)) for own in bequest.data),
            admin=tuple(map(_listening, bequest.admin)),
            kept=bequest.kept,
            line=_opened(bequest.line),
            addresses=tuple(bequest.addresses),
        )
    if names[0] == str(os.getpid()) and names[1].isdecimal():
        return _activated(int(names[1]), names[2].split(":"))
    return Inheritance()


def _activated(count: int, names: list[str]) -> Inheritance:
    """What systemd has opened: the one that is named `admin` is the control plane's, all others are clients'."""
    sockets = [_listening(_FIRST_FD + index) for index in range(count)]
    named = [names[index] if index < len(names) else "" for index in range(count)]
    data = tuple(each for each, name in zip(sockets, named, strict=True) if name != ADMIN)
    admin = tuple(each for each, name in zip(sockets, named, strict=True) if name == ADMIN)
    return Inheritance(data=(data,) if data else (), admin=admin, kept=True)


def _opened(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    found = socket.socket(fileno=fd)
    found.setblocking(False)
    return found


def _listening(fd: int) -> socket.socket:
    try:
        found = _opened(fd)
        listens = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
        listens = listens and bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        raise ValueError(f"descriptor {fd}, which was to be inherited, is no socket: {error.strerror}") from None
    if not listens:
        raise ValueError(f"descriptor {fd}, which was to be inherited, is no TCP socket that listens")
    return found
