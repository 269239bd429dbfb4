"""What a process takes for its own that was open when it began."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from router.config.snapshot import Address, ServerSettings
from router.jobs.inheritance import VARIABLE, Bequest, Inheritance, addresses_of, inherited
from router.jobs.service import ServiceManager

SERVER = ServerSettings(listen=Address("127.0.0.1", 8080), admin=Address("127.0.0.1", 9090))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def copy_of(each: socket.socket) -> int:
    return os.dup(each.fileno())


def test_a_plain_start_inherits_nothing() -> None:
    assert inherited({"PATH": "/bin"}) == Inheritance()


def test_what_is_told_is_taken_once(listener: socket.socket) -> None:
    here, there = socket.socketpair()
    with here, there:
        bequest = Bequest(copy_of(there), [[copy_of(listener)]], [copy_of(listener)], list(addresses_of(SERVER)))
        environ = {VARIABLE: msgspec.json.encode(bequest).decode(), "LISTEN_FDS": "1", "LISTEN_PID": "1"}
        found = inherited(environ)
        assert environ == {}, "what this process starts must not take them for its own"
        assert [each.getsockname() for each in (*found.data[0], *found.admin)] == [listener.getsockname()] * 2
        assert not any(os.get_inheritable(each.fileno()) for each in (*found.data[0], *found.held))
        assert not found.data[0][0].getblocking()

        found.fail("no")
        assert b"failed" in here.recv(100)
        found.settle()
        found.fail("it is over")  # nobody is told any more
        for each in (*found.data[0], *found.admin):
            each.close()


@pytest.mark.parametrize(("plane", "left"), [("listen", (0, 1)), ("admin", (1, 0))])
def test_a_plane_that_moved_leaves_its_sockets(listener: socket.socket, plane: str, left: tuple[int, int]) -> None:
    found = Inheritance(((listener.dup(),),), (listener.dup(),), addresses=addresses_of(SERVER))
    fitting = found.for_server(replace(SERVER, **{plane: Address("127.0.0.1", 7070)}))
    assert (len(fitting.data), len(fitting.admin)) == left
    closed = found.data[0][0] if plane == "listen" else found.admin[0]
    assert closed.fileno() == -1
    for each in (*found.data[0], *found.admin):
        each.close()


def test_sockets_of_systemd_stay_whatever_the_file_says(listener: socket.socket) -> None:
    given = Inheritance(((listener,),), kept=True)
    assert given.for_server(replace(SERVER, listen=Address("127.0.0.1", 7070))) == given


def test_what_does_not_listen_is_refused() -> None:
    with socket.socket() as silent, open(os.devnull) as file:
        for fd in (copy_of(silent), os.dup(file.fileno())):
            bequest = Bequest(fd, [[fd]], [], [])
            with pytest.raises(ValueError, match=f"descriptor {fd}"):
                inherited({VARIABLE: msgspec.json.encode(bequest).decode()})


def test_a_watchdog_that_is_another_processes_is_not_fed() -> None:
    told = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "30000000"}
    assert ServiceManager(told).watchdog_s == 30.0
    assert ServiceManager({**told, "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 30.0
    assert ServiceManager({**told, "WATCHDOG_PID": "1"}).watchdog_s == 0.0
    assert ServiceManager({"WATCHDOG_USEC": "30000000"}).watchdog_s == 0.0


def test_words_to_nobody_are_no_error() -> None:
    for where in ({}, {"NOTIFY_SOCKET": "/nowhere"}, {"NOTIFY_SOCKET": "@nobody-there"}):
        ServiceManager(where).stopping()


def test_a_manager_with_a_name_of_the_kernels_own_is_heard() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0inference-router-test-{os.getpid()}")
        service = ServiceManager({"NOTIFY_SOCKET": f"@inference-router-test-{os.getpid()}"})
        service.hand_over(7)
        assert manager.recv(100) == b"MAINPID=7"
        service.stopping()  # it is not ours to say any more
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
