"""What an IP address leads to: the internet, a network of somebody's own, this machine, or where nothing is dialled.

After IANA's registries of special-purpose addresses (RFC 6890), and what the clouds keep for themselves. Not by
`ipaddress.is_global`, which changes with Python's patch level, and which has multicast, Azure's own platform address
and the translated form of a metadata service (`64:ff9b::169.254.169.254`) for addresses of the internet.
"""

import enum
import ipaddress
from collections.abc import Sequence
from typing import Final

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(enum.Enum):
    """Who is to be found at an address."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    NOWHERE = "nowhere"  # link-local, metadata, multicast, reserved, unspecified: no endpoint is ever there


def _networks(*texts: str) -> Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return tuple(map(ipaddress.ip_network, texts))


# The first line that holds an address decides.
_TABLE: Final = (
    (
        Reach.NOWHERE,
        _networks(
            "168.63.129.16/32",  # Azure's platform: a public address that is inside every virtual machine's reach
            "100.100.100.200/32",  # Alibaba's metadata
            "fd00:ec2::/32",  # AWS' metadata, and what else its machines have locally
            "fd00:c1::a9fe:a9fe/128",  # Oracle's
            "fd20:ce::254/128",  # Google's
        ),
    ),
    (Reach.LOOPBACK, _networks("127.0.0.0/8", "::1/128")),
    (
        Reach.PRIVATE,
        _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "fc00::/7"),
    ),
    (
        Reach.NOWHERE,
        _networks(
            "0.0.0.0/8",
            "169.254.0.0/16",  # link-local, where most clouds have their metadata
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        ),
    ),
    # The rest of IPv4; of IPv6 what has been given to the internet's users, and no more.
    (Reach.PUBLIC, _networks("0.0.0.0/0", "2000::/3")),
)
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")  # NAT64 (RFC 6052): the IPv4 address is at its end


def reach_of(address: IpAddress) -> Reach:
    """Who is found there. An IPv6 address that stands for an IPv4 address leads where that one does."""
    address = _meant(address)
    for reach, networks in _TABLE:
        if any(address in network for network in networks if network.version == address.version):
            return reach
    return Reach.NOWHERE


def _meant(address: IpAddress) -> IpAddress:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address


def source_of(address: str) -> str:
    """Who counts as one source: an IPv4 address, or the 64 bits of an IPv6 one that a site has for itself."""
    if ":" not in address:
        return address
    found = ipaddress.IPv6Address(address.partition("%")[0])
    return str(found.ipv4_mapped or ipaddress.IPv6Address(int(found) >> 64 << 64))
