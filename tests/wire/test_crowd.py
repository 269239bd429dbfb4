"""Many connections at once: who is taken, who makes room, what waits, and what is told of it."""

from ipaddress import ip_network
from typing import Any

import pytest

from router.transport import crowd
from router.transport.crowd import ENDS, Crowd, source_of
from tests.wire.fakes import Client, Held
from tests.wire.test_inbound_phases import get, post
from tests.wire.test_inbound_rules import RULES

PARTIAL = b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every newcomer has had its time."""
    monkeypatch.setattr(crowd, "NEWCOMER_S", 0.0)


def beside(first: Client, **more: Any) -> Client:
    return Client(server=first.server, **more).feed(b"")


def ends(client: Client) -> dict[str, int]:
    return {reason: count for reason, count in client.server.crowd.ends.items() if count}


def test_silent_connections_make_room_for_others(old: None) -> None:
    """As many as are taken, and none asks for anything: whoever comes then is served all the same."""
    first = Client(connections_max=3)
    silent = [first, beside(first).feed(PARTIAL), beside(first)]
    for number in range(10):
        client = beside(first).feed(get())
        assert client.statuses == [200], number
        client.hang_up()
    assert silent[0].transport.aborted
    assert len(first.server.connections) <= 3
    assert ends(first) == {"made_room": 1}


def test_who_has_asked_for_something_does_not_make_room(old: None) -> None:
    idle = Client(connections_max=2).feed(get())
    busy = beside(idle).feed(post(b"body")[:-2])
    late = beside(idle)
    assert late.statuses == [503]
    assert not idle.ended
    assert busy.feed(b"dy").statuses == [200]
    assert ends(idle) == {"connections_max": 1}


def test_a_newcomer_has_its_time_before_it_makes_room() -> None:
    first = Client(connections_max=1)
    assert beside(first).statuses == [503]
    assert first.feed(get()).statuses == [200]


def test_one_address_has_its_own_bound() -> None:
    first = Client(connections_per_address_max=2, peer="192.0.2.1")
    second = beside(first, peer="192.0.2.1")
    third = beside(first, peer="192.0.2.1")
    assert third.statuses == [503]
    assert ends(first) == {"connections_per_address_max": 1}
    assert beside(first, peer="192.0.2.2").feed(get()).statuses == [200]
    second.hang_up()
    assert beside(first, peer="192.0.2.1").feed(get()).statuses == [200]


def test_a_site_has_64_bits_of_an_ipv6_address_for_itself() -> None:
    assert source_of("2001:db8:1:2:aaaa::1") == source_of("2001:db8:1:2::ffff") == "2001:db8:1:2::"
    assert source_of("2001:db8:1:3::1") != source_of("2001:db8:1:2::1")
    assert source_of("::ffff:192.0.2.1") == source_of("192.0.2.1")
    assert source_of("fe80::1%eth0") == "fe80::"


@pytest.mark.parametrize(("spoken", "taken"), [(False, True), (True, False)])
def test_a_trusted_proxy_speaks_for_many_where_it_does_not_say_for_whom(spoken: bool, taken: bool) -> None:
    """With the PROXY protocol the address is the client's own, and bounded like any."""
    first = Client(
        connections_per_address_max=1,
        trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        proxy_protocol=spoken,
        peer="10.1.2.3",
    )
    assert beside(first, peer="10.1.2.3").feed(get()).statuses == ([200] if taken else [503])
    beside(first, peer="192.0.2.1")
    assert beside(first, peer="192.0.2.1").statuses == [503]


def test_a_trusted_proxy_is_known_by_its_whole_address() -> None:
    """Of which what it is counted as is but a half."""
    proxy, neighbour = "2001:db8::5", "2001:db8::6"
    first = Client(connections_per_address_max=1, trusted_proxies=(ip_network(proxy),), peer=proxy)
    assert beside(first, peer=proxy).feed(get()).statuses == [200]
    assert beside(first, peer=neighbour).statuses == [503]


def test_all_is_given_back_by_those_who_leave() -> None:
    first = Client(connections_per_address_max=5)
    clients = [first, *(beside(first, peer=f"192.0.2.{number % 3}") for number in range(9))]
    for number, client in enumerate(clients):
        client.feed(get() if number % 2 else PARTIAL)
    for client in clients:
        client.hang_up()
        client.hang_up()
    assert first.server.crowd._by_source == {}
    assert not first.server.crowd._newcomers
    assert not first.server.connections
    assert first.server.crowd.waiting_bytes == 0


@pytest.mark.parametrize("in_pieces", [False, True])
def test_heads_in_the_making_have_a_bound_together(in_pieces: bool, old: None) -> None:
    """Those that came longest ago go first, and one head that is made now is read."""
    long = PARTIAL + b"x: " + b"y" * 30_000
    first = Client(waiting_bytes_max=100_000)
    clients = [first, *(beside(first) for _ in range(19))]
    for client in clients:
        client.feed_pieces(long, [10_000, 20_000] if in_pieces else [])
        assert first.server.crowd.waiting_bytes <= 100_000 + 30_100
        assert not client.ended
    assert sum(client.ended for client in clients) == 17
    assert clients[-1].feed(b"\r\n\r\n").statuses == [200]
    assert ends(first) == {"made_room": 17}


def test_where_nobody_can_make_room_the_head_that_is_too_much_is_refused() -> None:
    first = Client(waiting_bytes_max=50_000).feed(get())
    first.feed(PARTIAL + b"x: " + b"y" * 40_000)
    second = beside(first).feed(PARTIAL + b"x: " + b"y" * 40_000)
    assert second.statuses == [503]
    assert second.ended
    assert first.server.crowd.waiting_bytes < 50_000
    assert first.feed(b"\r\n\r\n").statuses == [200, 200]
    assert ends(first) == {"waiting_bytes_max": 1}
    second.check()


def test_what_is_pipelined_has_a_bound_together() -> None:
    held = Held()
    first = Client(held, waiting_bytes_max=50_000).feed(get())
    second = beside(first).feed(get())
    first.feed(post(b"x" * 40_000))
    second.feed(post(b"x" * 40_000))
    assert ends(first) == {"waiting_bytes_max": 1}
    for _ in range(3):
        held.release()
        first.loop.run()
    assert second.ended
    assert second.statuses == [200]
    assert first.statuses == [200, 200]
    assert first.server.crowd.waiting_bytes == 0


@pytest.mark.parametrize("name", [name for name, (_, status, _) in RULES.items() if status != 200])
def test_every_refusal_is_counted_by_its_reason(name: str) -> None:
    data, _, code = RULES[name]
    assert ends(Client().feed(data)) == {code: 1}
    assert code in ENDS


@pytest.mark.parametrize(
    ("sent", "seconds", "reason"),
    [
        (b"", 80, "keepalive_timeout"),
        (PARTIAL, 31, "head_timeout"),
        (post(b"body")[:-1], 61, "body_timeout"),
        (get() + get() + get(), 0, "pipelined"),
    ],
)
def test_every_limit_is_counted_by_its_reason(sent: bytes, seconds: int, reason: str) -> None:
    client = Client().feed(sent)
    client.pass_time(seconds)
    assert ends(client) == {reason: 1}


def test_an_answer_that_nobody_reads_is_counted() -> None:
    client = Client(Held()).feed(get())
    client.connection.pause_writing()
    client.handler.release()
    client.loop.run()
    client.pass_time(80)
    assert ends(client) == {"not_read": 1}
    assert client.transport.aborted


def test_no_more_are_taken_than_files_can_be_opened_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "connections_possible", lambda: 2)
    first = Client()
    beside(first)
    assert beside(first).statuses == [503]
    assert Crowd().most(first.server.bounds) == 2


def test_fields_are_counted_before_the_head_is_whole() -> None:
    """Each read of a head in the making is looked at anew: a hundred times at most, and not once for each byte."""
    client = Client().feed(b"GET / HTTP/1.1\r\n")
    for _ in range(101):
        client.feed(b"a:b\r\n")
    assert client.statuses == [431]
    assert ends(client) == {"too_many_fields": 1}
