"""The listening sockets: opened once, before any worker, and open until the last one has ended."""

import socket
from collections.abc import Sequence
from typing import Final

BACKLOG: Final = 4096


def open_sockets(host: str, port: int, workers: int) -> list[tuple[socket.socket, ...]]:
    """For each worker a socket at each address of `host`, all at one port, which is chosen where `port` is 0.

    The kernel spreads connections over the sockets at an address, and a queue belongs to one socket: what was queued
    for a worker that died is served by the next one that is handed the same socket. Raises OSError.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    opened: list[tuple[socket.socket, ...]] = []
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


def withdraw(own: Sequence[socket.socket]) -> None:
    """Lets new connections go to the other workers until somebody listens here again. Who queued here is reset."""
    for each in own:
        # Where nobody listens, a `shutdown` fails and still marks the socket: whoever is accepted later begins cut.
        if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            each.shutdown(socket.SHUT_RD)


def close_sockets(opened: Sequence[tuple[socket.socket, ...]]) -> None:
    for own in opened:
        for each in own:
            each.close()


def _bound(family: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
