"""Listening sockets: opened once, dealt among workers, handed on, and closed with nobody in their queues."""

import asyncio
import contextlib
import errno
import os
import socket

import pytest

from router.transport import listening
from router.transport.listening import (
    BACKLOG,
    HANDSHAKE_S,
    Sockets,
    close_sockets,
    deal,
    emptied,
    open_sockets,
    withdraw,
)


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


def test_sockets_that_were_open_are_dealt_so_that_each_has_somebody_who_accepts() -> None:
    opened = open_sockets("127.0.0.1", 0, 3)
    more: list[Sockets] = []
    try:
        two = deal(opened, 2)
        assert [len(own) for own in two] == [2, 1]
        assert {each for own in two for each in own} == {each for own in opened for each in own}
        more = deal(opened, 5)
        assert more[:3] == [tuple(own) for own in opened]
        assert {each.getsockname() for own in more for each in own} == {opened[0][0].getsockname()}
        assert not any(_listens(each) for own in more[3:] for each in own), "who connected there would wait for nobody"
    finally:
        close_sockets([*opened, *more])


def test_a_socket_that_can_have_no_others_beside_it_is_all_workers_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        dealt = deal([(given,)], 3)
        try:
            for own in dealt:
                withdraw(own)  # would end it for all
            dealt[2][0].setblocking(False)
            with socket.create_connection(given.getsockname()):
                assert _accepts(dealt[2][0])
        finally:
            close_sockets(dealt)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_queue_is_emptied_before_its_socket_closes_and_nobody_new_gets_in(host: str) -> None:
    ((own,),) = open_sockets(host, 0, 1)
    with contextlib.ExitStack() as stack:
        stack.callback(own.close)
        clients = [stack.enter_context(socket.create_connection(own.getsockname()[:2])) for _ in range(20)]
        emptying = asyncio.create_task(emptied([own]))
        await asyncio.sleep(HANDSHAKE_S + 0.05)
        assert not emptying.done(), "they still wait"
        late = stack.enter_context(socket.socket(own.family))
        late.setblocking(False)
        assert late.connect_ex(own.getsockname()[:2]) == errno.EINPROGRESS
        for _ in clients:
            accepted = stack.enter_context(own.accept()[0])
            accepted.sendall(b"answer")
        await emptying
        assert not _accepts(own), "who began to connect meanwhile has no answer"
        own.close()
        assert [client.recv(6) for client in clients] == [b"answer"] * 20


async def test_a_queue_that_somebody_fills_all_the_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "EMPTIED_S", 0.3)
    ((own,),) = open_sockets("127.0.0.1", 0, 1)
    with own, socket.create_connection(own.getsockname()):
        await emptied([own])


def _listens(each: socket.socket) -> bool:
    return bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
