"""Listening sockets: opened once, before anything else, and handed on from process to process while they are in use.

Whoever has connected and was not accepted yet waits in a socket's queue. The queue goes with the socket: it lives for
as long as any process has it open, and with its last holder all that wait in it are reset.
"""

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Final, TypeAlias

from router.transport.sockets import watch

Sockets: TypeAlias = tuple[socket.socket, ...]

BACKLOG: Final = 4096
HANDSHAKE_S: Final = 0.2  # for a client that has been answered already to say so: a long way round the world
EMPTIED_S: Final = 2.0  # then a queue is given up: somebody fills it as fast as it is emptied
_LOOK_EVERY_S: Final = 0.005
# An address may be taken again as soon as its owner is gone. On Windows SO_REUSEADDR would take it from the living.
_OWN_ADDRESS: Final[int] = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
_SO_ATTACH_FILTER: Final = 26  # Linux; Python has no name for it
# A classic BPF program over the TCP header: of its flags (byte 13), SYN without ACK drops the segment.
_DROP_SYN: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte at 13
        (0x54, 0, 0, 0x12),  # and with SYN | ACK
        (0x15, 0, 1, 0x02),  # if it is SYN alone, the next one, else the one after
        (0x06, 0, 0, 0),  # nothing of it passes
        (0x06, 0, 0, 0xFFFF_FFFF),  # all of it does
    )
)


def open_sockets(host: str, port: int, workers: int) -> list[Sockets]:
    """For each worker a socket at each address of `host`, all at one port, which is chosen where `port` is 0.

    The kernel spreads connections over the sockets at an address, and a queue belongs to one socket: what was queued
    for a worker that died is served by the next one that is handed the same socket. Raises OSError.
    """
    if workers == 1 and not hasattr(socket, "SO_REUSEPORT"):
        return [open_alone(host, port)]
    addresses = _addresses(host, port)
    opened: list[Sockets] = []
    if port:
        for family, address in addresses:
            # With SO_REUSEPORT alone a second router would share the port with the first, unnoticed by both.
            _bound(family, address, reuse_port=False).close()
    holder = _bound(*addresses[0], reuse_port=True)
    try:
        port = int(holder.getsockname()[1])  # bound by its number, a socket keeps it when it is withdrawn
        for _ in range(workers):
            opened.append(())
            for family, address in addresses:
                bound = _bound(family, (address[0], port, *address[2:]), reuse_port=True)
                opened[-1] = (*opened[-1], bound)
                bound.listen(BACKLOG)
    except OSError:
        close_sockets(opened)
        raise
    finally:
        holder.close()
    return opened


def open_alone(host: str, port: int) -> Sockets:
    """A socket at each address of `host`, for one process. Raises OSError."""
    opened: Sockets = ()
    try:
        for family, address in _addresses(host, port):
            bound = _bound(family, (address[0], port, *address[2:]), reuse_port=False)
            opened = (*opened, bound)
            bound.listen(BACKLOG)
            port = int(bound.getsockname()[1])
    except OSError:
        close_sockets([opened])
        raise
    return opened


def deal(found: Sequence[Sockets], workers: int) -> list[Sockets]:
    """Sockets that were open already, among so many workers: each socket has one that accepts, or its queue would rot.

    Where there are fewer, more are opened at the same addresses; if those cannot be shared so, workers share a socket.
    Raises OSError.
    """
    dealt = [tuple(each for own in found[index::workers] for each in own) for index in range(workers)]
    for index in range(len(found), workers):
        like = found[index % len(found)]
        if all(each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for each in like):
            # Not listening yet: who connected there meanwhile would wait for somebody who may never come.
            dealt[index] = tuple(_bound(each.family, each.getsockname(), reuse_port=True) for each in like)
        else:
            dealt[index] = tuple(each.dup() for each in like)
    return dealt


def withdraw(own: Sequence[socket.socket]) -> None:
    """Lets new connections go to the other workers until somebody listens here again. Who queued here is reset."""
    for each in own:
        # Where nobody listens, a `shutdown` fails and still marks the socket: whoever is accepted later begins cut. One
        # that cannot have others beside it is all workers' own.
        if all(each.getsockopt(socket.SOL_SOCKET, option) for option in (socket.SO_ACCEPTCONN, socket.SO_REUSEPORT)):
            each.shutdown(socket.SHUT_RD)


def close_sockets(opened: Sequence[Sockets]) -> None:
    for own in opened:
        for each in own:
            each.close()


async def emptied(own: Sequence[socket.socket]) -> None:
    """Returns once nobody waits to be accepted, and nobody can begin to: then they can be closed without a reset.

    Somebody must go on accepting meanwhile. A client that begins to connect from now on has no answer, tries again
    after a second, and is refused by then; where the kernel cannot be told so, it may be reset. The sockets must have
    no other holder: they never take anybody again.
    """
    for each in own:
        _drop_beginners(each)
    began, queues = monotonic(), [watch(each) for each in own]
    while (waited_s := monotonic() - began) < EMPTIED_S:
        if waited_s >= HANDSHAKE_S and not any(waiting(0) for waiting in queues):
            return
        await asyncio.sleep(_LOOK_EVERY_S)


def _drop_beginners(listening: socket.socket) -> None:
    """Whoever has been answered may still end the handshake; nobody begins one."""
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_DROP_SYN)
    described = struct.pack("@HL", len(_DROP_SYN) // 8, ctypes.addressof(program))
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def _addresses(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def _bound(family: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, _OWN_ADDRESS, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind(address)
    except OSError as error:
        made.close()
        raise OSError(error.errno, error.strerror, f"{address[0]}:{address[1]}") from None
    return made
