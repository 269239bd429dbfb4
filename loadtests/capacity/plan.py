"""From a load and what its parts cost to a number of routers, and to what would end first.

A router here is one process group on one machine: so many workers, one core each. Everything scales with the number of
routers but two things: the store that their ledgers share, and what one upstream address takes from one source.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from loadtests.capacity.costs import Costs

PORTS: Final = 60_999 - 32_768 + 1  # net.ipv4.ip_local_port_range as Linux has it
FILES: Final = 1 << 20  # LimitNOFILE of the unit in config/systemd, of each process
FILES_A_STREAM: Final = 2  # the client's connection, and the upstream's
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Load:
    """Of all routers together."""

    streams: int  # open at one time
    chunks_per_s: float  # of each of them
    requests_per_s: float


@dataclass(frozen=True, slots=True)
class Router:
    """What one has."""

    cores: int = 4
    memory_mib: int = 8192
    spare_mib: int = 2048  # of it, for processes, bodies and the kernel's socket buffers
    used: float = 0.6  # of a core, so that a router's share can go to the others
    addresses: int = 4  # of upstreams that it dials, each with ports of its own
    tls: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """How many routers each resource asks for: `cold` and `warm` chunks are the two ends of what CPU they take."""

    cpu_cold: int
    cpu_warm: int
    memory: int
    files: int
    ports: int
    store_used: (
        float  # of what one bookkeeper stores in a second; each router has its own, and one database may have more
    )

    @property
    def routers(self) -> int:
        """Enough for all of it, also where every chunk comes alone."""
        return max(self.cpu_cold, self.memory, self.files, self.ports)

    @property
    def first(self) -> str:
        """What asks for most of them."""
        asked = {"CPU": self.cpu_cold, "memory": self.memory, "files": self.files, "ports": self.ports}
        return max(asked, key=lambda name: asked[name])


def plan(load: Load, router: Router, costs: Costs) -> Plan:
    request_us = costs.tls_request_us if router.tls else costs.request_us
    chunks = load.streams * load.chunks_per_s

    def for_cpu(chunk_us: float) -> int:
        used_s = (load.requests_per_s * request_us + chunks * chunk_us) / 1e6
        return max(1, ceil(used_s / (router.cores * router.used)))

    for_streams_kib = (router.memory_mib - router.spare_mib) * _KIB
    cold = for_cpu(costs.cold_chunk_us)
    return Plan(
        cpu_cold=cold,
        cpu_warm=for_cpu(costs.warm_chunk_us),
        memory=max(1, ceil(load.streams * costs.stream_kib / for_streams_kib)),
        files=max(1, ceil(load.streams * FILES_A_STREAM / (FILES * router.cores))),
        ports=max(1, ceil(load.streams / (PORTS * router.addresses))),
        store_used=load.requests_per_s / costs.stored_per_s,
    )
