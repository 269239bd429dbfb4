"""Where an address leads, in all the forms in which it can be written."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.base.addresses import Reach, reach_of, source_of

METADATA = ("169.254.169.254", "168.63.129.16", "192.0.0.192", "100.100.100.200", "169.254.170.2")


def reach(text: str) -> Reach:
    return reach_of(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "20.42.0.1", "2606:4700::1111", "2a01:111::1", "100.128.0.1"])
def test_the_internet(text: str) -> None:
    assert reach(text) is Reach.PUBLIC


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1", "fc00::1", "fd12::1"],
)
def test_networks_of_somebodys_own(text: str) -> None:
    assert reach(text) is Reach.PRIVATE


@pytest.mark.parametrize("text", ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"])
def test_this_machine(text: str) -> None:
    assert reach(text) is Reach.LOOPBACK


@pytest.mark.parametrize(
    "text",
    [
        *METADATA,
        *(
            "0.0.0.0",
            "0.1.2.3",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "192.88.99.1",
            "224.0.0.1",
            "255.255.255.255",
        ),
        *(
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fec0::1",
            "ff02::1",
            "100::1",
            "2001:db8::1",
            "2001::1",
            "5f00::1",
            "4000::",
        ),
        *("fd00:ec2::254", "fd00:c1::a9fe:a9fe", "fd20:ce::254", "64:ff9b:1::a00:1", "::10.0.0.1", "::8.8.8.8"),
    ],
)
def test_where_nothing_is_dialled(text: str) -> None:
    assert reach(text) is Reach.NOWHERE


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_no_other_in_ipv6(address: ipaddress.IPv4Address) -> None:
    """Mapped and translated by NAT64 it leads where it leads; in the old forms, 6to4 and compatible, nowhere."""
    number, plain = int(address), reach_of(address)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    translated = ipaddress.IPv6Address((0x64_FF9B << 96) | number)
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1)
    compatible = ipaddress.IPv6Address(max(number, 2))
    assert [reach_of(each) for each in (mapped, translated)] == [plain] * 2
    assert [reach_of(each) for each in (six_to_four, compatible)] == [Reach.NOWHERE] * 2


@given(st.ip_addresses())
def test_python_calls_nothing_private_that_is_dialled_as_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """A second opinion: its table was made by others, and knows the same registries."""
    if reach_of(address) is Reach.PUBLIC and address not in ipaddress.ip_network("64:ff9b::/96"):
        assert not address.is_private
        assert not address.is_multicast
        assert not address.is_link_local
        assert not address.is_loopback


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("", "10.0.0.1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("/run/router.sock", "/run/router.sock", True),
    ],
)
def test_what_counts_as_one_source(one: str, other: str, same: bool) -> None:
    assert (source_of(one) == source_of(other)) is same
