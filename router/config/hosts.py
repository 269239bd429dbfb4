"""Which hosts are a cloud's own: the rule that a name in the file is really that cloud.

A pattern is a host, or a host with a wildcard: `*.` at its left stands for one label or more, `*` further right for
exactly one, and `*-` begins a label (built-in patterns only). A wildcard never matches a part of a suffix's label:
`*.openai.azure.com` is not `evilopenai.azure.com`.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from router.base.addresses import IpAddress, Reach, reach_of
from router.model.fleet import BaseUrl

BUILT_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "azure": ("*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"),
    "oracle": ("*.oci.oraclecloud.com", "*.oci.customer-oci.com"),
    "aws": ("bedrock-runtime.*.amazonaws.com", "bedrock-mantle.*.api.aws"),
    "google": ("aiplatform.googleapis.com", "*-aiplatform.googleapis.com"),
    "openai": ("api.openai.com", "*.api.openai.com"),
    "coreweave": ("api.inference.wandb.ai",),
}
FRONTS: Final = ("azure-api.net", "*.azure-api.net")  # API Management: whatever its policy says stands behind it

_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*")


def matches(host: str, pattern: str) -> bool:
    """Whether `host` (lower case) is one that `pattern` means."""
    labels, wanted = host.split("."), pattern.split(".")
    if wanted[0] == "*":
        return len(labels) >= len(wanted) and _same(labels[1 - len(wanted) :], wanted[1:])
    return len(labels) == len(wanted) and _same(labels, wanted)


def overlap(one: str, other: str) -> bool:
    """Whether some host is meant by both patterns."""
    a, b = one.split("."), other.split(".")
    while a and b:
        if (len(a) == 1 and a[0] == "*") or (len(b) == 1 and b[0] == "*"):
            return True
        if not (_same([a[-1]], [b[-1]]) or _same([b[-1]], [a[-1]])):
            return False
        a.pop()
        b.pop()
    return not a and not b


def _same(labels: Iterable[str], wanted: Iterable[str]) -> bool:
    return all(
        label == want or (want[:1] == "*" and len(label) >= len(want) and label.endswith(want[1:]))
        for label, want in zip(labels, wanted, strict=True)
    )


def pattern_fault(pattern: str) -> str:
    """What is wrong with a host of an operator's own, or nothing."""
    host = pattern.removeprefix("*.")
    if "*" in host:
        return "a wildcard stands only as `*.` at the left"
    if (reason := host_fault(host)) or pattern == host:
        return reason
    if host.count(".") < 1 or address_of(host) is not None:
        return "a wildcard needs at least two labels behind it"
    return ""


def host_fault(host: str) -> str:
    """What is wrong with a host's name, or nothing."""
    if address_of(host) is not None:
        return ""
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        return "is not a host name: labels of lower-case letters, digits and hyphens, with dots between"
    if _NUMBER.fullmatch(labels[-1]):
        # `127.1`, `0x7f000001` and `2130706433` are all 127.0.0.1 to the resolver.
        return "is neither a name nor an IP address in its usual form"
    return ""


def address_of(host: str) -> IpAddress | None:
    """The IP address that a host is written as, or None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether what is sent to a host cannot leave this machine."""
    address = address_of(host)
    return address.is_loopback if address else host == "localhost"


def is_internal(host: str) -> bool:
    """Whether a host is, by its form, not on the public internet (loopback, private, link-local, reserved)."""
    address = address_of(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return reach_of(address) is not Reach.PUBLIC


def is_nowhere(host: str) -> bool:
    """Whether a host is an address that is never dialled, whatever the file allows.

    That is where metadata services are, for one; and 0.0.0.0 would quietly be this machine.
    """
    address = address_of(host)
    return address is not None and reach_of(address) is Reach.NOWHERE


def parse_base_url(text: str) -> BaseUrl | str:
    """Takes a base URL apart; returns what is wrong with it, in words that never quote it, where that fails."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return "has a character that a URL cannot have"
    try:
        url = urlsplit(text)
        host, port = (url.hostname or "").lower(), url.port
    except ValueError:
        return "is not a URL"
    if url.scheme not in {"http", "https"} or not host:
        return "is not a URL: write https://host/path"
    if "@" in url.netloc:
        return "holds user information: credentials belong to `auth`"
    if url.query or url.fragment or "?" in text or "#" in text:
        return "has a query or a fragment: write https://host/path alone"
    if "%" in host or host_fault(host):
        return f"has a host that {host_fault(host) or 'names an interface'}"
    if port == 0 or url.netloc.endswith(":"):
        return "has no valid port"
    path = url.path.rstrip("/")
    if any(part in {"", ".", ".."} for part in path.split("/")[1:]):
        return "has an empty, `.` or `..` segment in its path"
    return BaseUrl(url.scheme, host, port or (443 if url.scheme == "https" else 80), path)
