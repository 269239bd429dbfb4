"""Which gateway may be loaded: to load somebody else's is an attack, and to load one's own may be an outage."""

import ipaddress
from urllib.parse import urlsplit


def why_not(url: str, allowed: str) -> str:
    """Why this gateway is not loaded; empty: it may be. `allowed`: the host for which the operator has said so."""
    name = urlsplit(url).hostname or ""
    if not url or _is_loopback(name) or (name and name == allowed.lower()):
        return ""
    return f"{name or url} is not this machine: say --yes-i-may-load {name} if you may load it"


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
