"""Who is connected, from where, and whether there is room for one more; and how often connections had to be ended.

Where there is no room, whoever came longest ago and has not yet said what it wants makes some: else as many silent
connections as are taken would lock everybody out.
"""

from collections import OrderedDict
from ipaddress import IPv4Network, IPv6Network
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from router.base.addresses import source_of
from router.transport.origins import trusted
from router.transport.sockets import connections_possible

if TYPE_CHECKING:
    from router.transport.client_connection import Connection

NEWCOMER_S: Final = 1.0  # so long nobody is asked to make room: a first request is under way

ENDS: Final = (
    # not taken at all
    "connections_max",
    "connections_per_address_max",
    # taken, and ended since they hold what others need
    "made_room",
    "waiting_bytes_max",
    "head_timeout",
    "body_timeout",
    "keepalive_timeout",
    "not_read",
    "pipelined",
    # what came is no request that is served here: an error's code
    "malformed_http",
    "repeated_field",
    "http_version",
    "method_not_allowed",
    "transfer_coding",
    "expectation",
    "target_too_long",
    "head_too_large",
    "too_many_fields",
    "body_too_large",
)
"""Why the router ends a connection of its own accord, or does not take it."""


class Room(Protocol):
    """What bounds connections. Read at each use, so what a reload puts in its place acts at once."""

    @property
    def connections_max(self) -> int: ...
    @property
    def connections_per_address_max(self) -> int | None: ...
    @property
    def waiting_bytes_max(self) -> int: ...
    @property
    def proxy_protocol(self) -> bool: ...
    @property
    def trusted_proxies(self) -> tuple[IPv4Network | IPv6Network, ...]: ...


class Crowd:
    """The connections of one process."""

    __slots__ = ("_by_source", "_newcomers", "_possible", "connections", "ends", "waiting_bytes")

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.ends = dict.fromkeys(ENDS, 0)
        self.waiting_bytes = 0  # that came and cannot be used yet: heads in the making, requests behind a running one
        # No whole head has come from them yet: since when, the oldest first. (A dict's first is dear once many left.)
        self._newcomers: OrderedDict[Connection, float] = OrderedDict()
        self._by_source: dict[str, int] = {}
        self._possible = connections_possible()

    def most(self, room: Room) -> int:
        """So many are taken: as many as the process may open files for, at the most."""
        return min(room.connections_max, self._possible)

    def count(self, reason: str) -> None:
        self.ends[reason] = self.ends.get(reason, 0) + 1

    def enter(self, connection: "Connection", room: Room) -> str:
        """Takes a new connection in; returns why not, or nothing."""
        source = source_of(connection.peer)
        here = self._by_source.get(source, 0)
        if are_enough(connection.peer, here, room):
            return "connections_per_address_max"
        if len(self.connections) >= self.most(room) and not self.make_room():
            return "connections_max"
        self._by_source[source] = here + 1
        self._newcomers[connection] = monotonic()
        self.connections.add(connection)
        return ""

    def known(self, connection: "Connection") -> None:
        """A whole head has come: it is no newcomer any more."""
        self._newcomers.pop(connection, None)

    def leave(self, connection: "Connection") -> None:
        """Harmless for one that was never taken, or has left before."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._newcomers.pop(connection, None)
        source = source_of(connection.peer)
        left = self._by_source[source] - 1
        if left:
            self._by_source[source] = left
        else:
            del self._by_source[source]

    def wait(self, size: int, room: Room) -> bool:
        """Counts bytes that are kept until they can be used. False: too many, and nobody could make room."""
        self.waiting_bytes += size
        while self.waiting_bytes > room.waiting_bytes_max:
            if not self.make_room():
                return False
        return True

    def make_room(self) -> bool:
        """Ends the newcomer that came longest ago. False: none has had its time."""
        oldest = next(iter(self._newcomers), None)
        if oldest is None or monotonic() - self._newcomers[oldest] < NEWCOMER_S:
            return False
        self.count("made_room")
        self.leave(oldest)
        oldest.abort()
        return True


def are_enough(peer: str, here: int, room: Room) -> bool:
    """Whether so many from the source of `peer`, which is an address or nothing, are all that it may have."""
    most_here = room.connections_per_address_max
    return most_here is not None and here >= most_here and bool(peer) and not _speaks_for_many(peer, room)


def _speaks_for_many(peer: str, room: Room) -> bool:
    """A proxy that connects for its clients, and says of none who it is before the connection is taken."""
    return not room.proxy_protocol and trusted(peer, room.trusted_proxies)
