"""The sockets that the supervisor keeps."""

import errno
import os
import socket

import pytest

from router.transport.listening import BACKLOG, close_sockets, open_sockets, withdraw


def test_all_workers_listen_at_one_port_and_a_connection_waits_in_one_of_their_queues() -> None:
    opened = open_sockets("127.0.0.1", 0, 3)
    try:
        names = {each.getsockname() for own in opened for each in own}
        assert len(names) == 1
        with socket.create_connection(names.pop()):
            accepted = [each for own in opened for each in own if _accepts(each)]
        assert len(accepted) == 1
    finally:
        close_sockets(opened)


@pytest.mark.parametrize("reuse_port", [False, True], ids=["another program", "another supervisor"])
def test_a_port_that_is_taken_is_not_shared(reuse_port: bool) -> None:
    """SO_REUSEPORT would let two routers of one user listen at one port, each with half of the clients."""
    with (
        socket.create_server(("127.0.0.1", 0), reuse_port=reuse_port) as taken,
        pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)),
    ):
        open_sockets("127.0.0.1", taken.getsockname()[1], 2)


def test_a_name_with_two_addresses_has_a_socket_at_each_for_each_worker() -> None:
    addresses = {found[4][0] for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    opened = open_sockets("localhost", 0, 2)
    try:
        assert [{each.getsockname()[0] for each in own} for own in opened] == [addresses] * 2
        assert len({each.getsockname()[1] for own in opened for each in own}) == 1
    finally:
        close_sockets(opened)


def test_who_is_withdrawn_has_no_new_connections_until_somebody_listens_there_again() -> None:
    opened = open_sockets("127.0.0.1", 0, 2)
    (first,), (second,) = opened
    try:
        address = first.getsockname()
        withdraw(opened[0])
        withdraw(opened[0])
        for _ in range(20):
            with socket.create_connection(address):
                assert _accepts(second)

        first.listen(BACKLOG)
        came = set()
        for _ in range(200):
            with socket.create_connection(address):
                came.add(_accepts(first))
                _accepts(second)
        assert came == {True, False}
    finally:
        close_sockets(opened)


def test_whoever_is_withdrawn_twice_still_hears_its_clients_when_somebody_listens_there_again() -> None:
    """`shutdown` of a socket that does not listen is remembered, and every connection accepted later begins cut."""
    ((own,),) = opened = open_sockets("127.0.0.1", 0, 1)
    try:
        withdraw(opened[0])
        withdraw(opened[0])  # the next process ended too, and had not even listened
        own.listen(BACKLOG)
        with socket.create_connection(own.getsockname()):
            accepted, _ = own.accept()
            accepted.setblocking(False)
            with accepted, pytest.raises(BlockingIOError):  # and not the end of what its client says
                accepted.recv(1)
    finally:
        close_sockets(opened)


def _accepts(listening: socket.socket) -> bool:
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True
