"""Where a client is, as far as that can be known: for logs and for bounds, never for what it may do.

An address that a proxy tells of is believed where the proxy is trusted. A header that a client made up ends where the
first address stands that is none of a trusted proxy: what is left of it anybody may have written.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, TypeAlias

Networks: TypeAlias = Sequence[IPv4Network | IPv6Network]

HOPS_MAX: Final = 16
_WITH_PORT: Final = re.compile(r"(\d+\.\d+\.\d+\.\d+):\d+|\[([0-9A-Fa-f:.]+)\](?::\d+)?")


def trusted(address: str, networks: Networks) -> bool:
    """Whether there is a proxy whose word is taken. `address`: an IP address, or nothing."""
    return bool(networks) and bool(address) and _is_in(address, tuple(networks))


@lru_cache(maxsize=4096)  # few proxies have many connections
def _is_in(address: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    meant = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(meant in network for network in networks if network.version == meant.version)


def client_behind(peer: str, forwarded: bytes | None, networks: Networks) -> str:
    """The client's address: `peer`, or what trusted proxies say of who stands behind it in X-Forwarded-For."""
    address = peer
    if forwarded is None:
        return address
    for text in reversed(forwarded.decode("latin-1").rsplit(",", HOPS_MAX)[-HOPS_MAX:]):
        if not trusted(address, networks):
            break
        told = _address_in(text.strip())
        if not told:
            break
        address = told
    return address


def _address_in(text: str) -> str:
    """One address of the header, in its usual form; empty where it is none."""
    if (found := _WITH_PORT.fullmatch(text)) is not None:
        text = found[1] or found[2]
    try:
        return str(ip_address(text))
    except ValueError:
        return ""
