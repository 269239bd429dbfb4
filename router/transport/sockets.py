"""What is asked of the kernel for a connection of ours."""

import asyncio
import socket


def set_client_options(transport: asyncio.Transport) -> None:
    """Sends at once what is written, and finds clients that are gone without a word."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    set_keepalive(sock)


def set_keepalive(sock: socket.socket) -> None:
    """Finds dead peers: probes after 30 s, and gives up on unacknowledged bytes after 30 s."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
        option = getattr(socket, name, None)  # Linux has all four, others some
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
