"""Where a client is, by the word of proxies that are trusted and of nobody else."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.transport.origins import client_behind, trusted

OURS = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", b"192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", b"198.51.100.1", "192.0.2.7"),  # nobody's word
        ("10.0.0.1", b"6.6.6.6, 192.0.2.7", "192.0.2.7"),  # what the client made up is not read
        ("10.0.0.1", b"6.6.6.6, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
        ("10.0.0.1", b"10.0.0.3,10.0.0.2", "10.0.0.3"),  # all the way
        ("10.0.0.1", b"192.0.2.7:4711", "192.0.2.7"),
        ("10.0.0.1", b"[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", b"2001:DB8::7", "2001:db8::7"),
        ("2001:db8:1::5", b"192.0.2.7", "192.0.2.7"),
        ("::ffff:10.0.0.1", b"192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", b"192.0.2.7, unknown", "10.0.0.1"),
        ("10.0.0.1", b"192.0.2.7, <script>", "10.0.0.1"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("", b"192.0.2.7", ""),
    ],
)
def test_the_first_address_that_is_no_trusted_proxys_is_the_clients(
    peer: str, forwarded: bytes | None, client: str
) -> None:
    assert client_behind(peer, forwarded, OURS) == client


def test_without_trusted_proxies_no_header_is_read() -> None:
    assert client_behind("10.0.0.1", b"192.0.2.7", ()) == "10.0.0.1"
    assert not trusted("10.0.0.1", ())


@given(st.binary(max_size=200), st.sampled_from(["10.0.0.1", "192.0.2.7"]))
def test_whatever_stands_there_an_address_comes_of_it(forwarded: bytes, peer: str) -> None:
    found = client_behind(peer, forwarded, OURS)
    assert found == peer or (trusted(peer, OURS) and found)
    assert all(letter in "0123456789abcdef.:%" or letter.isalnum() for letter in found)


@given(st.lists(st.sampled_from(["10.0.0.9", "192.0.2.7", "6.6.6.6"]), max_size=40))
def test_it_is_the_rightmost_that_is_not_ours(hops: list[str]) -> None:
    found = client_behind("10.0.0.1", ", ".join(hops).encode(), OURS)
    strangers = [hop for hop in hops[-16:] if hop != "10.0.0.9"]
    assert found == (strangers[-1] if strangers else ([*hops, "10.0.0.1"][0] if len(hops) <= 16 else "10.0.0.9"))
