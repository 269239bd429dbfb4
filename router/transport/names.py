"""Names to addresses, kept in the background: no request waits for a resolver that has answered before.

A name that fails to resolve keeps its last addresses. What a name may resolve to is checked here, and what was checked
is what is dialled: nothing resolves a name a second time. A public endpoint never leads to a loopback or private
address, and no endpoint to a metadata service.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Sequence
from time import monotonic
from typing import Final, TypeAlias

from router.base.addresses import Reach, reach_of
from router.base.errors import ConnectError

GONE_S: Final = 120.0
"""How long an address is missing from all answers before its connections are let go: several answers, since large
services name a few of their addresses at a time."""
FORGET_S: Final = 3600.0  # a name that nobody dials any more: no connection is older
DOUBT_S: Final = 1.0  # between two questions about a name that cannot be reached

_PUBLIC: Final = frozenset({Reach.PUBLIC})
_OWN: Final = frozenset({Reach.PUBLIC, Reach.PRIVATE, Reach.LOOPBACK})
_THIS_MACHINE: Final = frozenset({Reach.LOOPBACK})  # RFC 6761: what `localhost` is, whatever a resolver says

_Name: TypeAlias = tuple[str, int, bool]  # host, port, and whether private addresses may be dialled


class _Answers:
    """What the resolver has said of a name."""

    __slots__ = ("addresses", "answered_at", "needed_at", "seen_at")

    def __init__(self) -> None:
        self.addresses: Sequence[str] = ()
        self.answered_at = self.needed_at = monotonic()
        self.seen_at: dict[str, float] = {}  # by address: when it was last in an answer

    def take(self, addresses: Sequence[str], now: float) -> None:
        self.addresses, self.answered_at = addresses, now
        self.seen_at |= dict.fromkeys(addresses, now)
        # Called gone until no connection is left that was made to it.
        self.seen_at = {address: at for address, at in self.seen_at.items() if now - at <= FORGET_S}


class Names:
    """The addresses of all endpoints' hosts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: dict[_Name, _Answers] = {}
        self._asking: dict[_Name, asyncio.Task[Sequence[str]]] = {}

    async def addresses(self, host: str, port: int, *, private: bool) -> Sequence[str]:
        """Returns what is known, or asks. Raises ConnectError where there is nothing that may be dialled.

        One question a name at a time, whoever gives up on it: the resolver has few threads, and a name that hangs
        keeps one for as long as it does.
        """
        name = host, port, private
        if (known := self._known.get(name)) is not None:
            known.needed_at = monotonic()
            return known.addresses
        return await asyncio.shield(self._question(name))

    def doubt(self, host: str, port: int, *, private: bool) -> None:
        """None of its addresses could be dialled: they may be old. Asks again, once a second at most."""
        known = self._known.get((host, port, private))
        if known is not None and monotonic() - known.answered_at >= DOUBT_S:
            self._question((host, port, private))

    def gone(self, host: str, port: int, *, private: bool) -> Collection[str]:
        """The addresses that the name had, and has not had for so long that connections to them should end."""
        known = self._known.get((host, port, private))
        if known is None or len(known.seen_at) == len(known.addresses):
            return ()
        return [address for address, at in known.seen_at.items() if known.answered_at - at > GONE_S]

    def refresh(self) -> None:
        """Asks again for every name that is needed, each by itself: one that hangs delays no other.

        A name that does not resolve keeps its last addresses.
        """
        now = monotonic()
        self._known = {name: known for name, known in self._known.items() if now - known.needed_at <= FORGET_S}
        for name in self._known:
            self._question(name)

    def _question(self, name: _Name) -> "asyncio.Task[Sequence[str]]":
        asking = self._asking.get(name)
        if asking is None:
            host, port, private = name
            asking = self._asking[name] = self._loop.create_task(self._ask(host, port, private=private))
            asking.add_done_callback(lambda task: self._answered(name, task))
        return asking

    def _answered(self, name: _Name, task: asyncio.Task[Sequence[str]]) -> None:
        self._asking.pop(name, None)
        if not task.cancelled():
            task.exception()  # whoever waited may have gone: it is nobody's news

    async def _ask(self, host: str, port: int, *, private: bool) -> Sequence[str]:
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConnectError("The deployment's host name could not be resolved.") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [address for address in addresses if may_dial(host, address, private=private)]
        if not allowed:
            raise ConnectError("The deployment's host name leads to an address that may not be dialled.")
        name = host, port, private
        if name not in self._known:
            self._known[name] = _Answers()
        self._known[name].take(allowed, monotonic())
        return allowed


def may_dial(host: str, address: str, *, private: bool) -> bool:
    """Whether an endpoint of this host may be reached at this address. `private`: the file says that it is, or that it
    is emulated.
    """
    if host == "localhost" or host.endswith(".localhost"):
        allowed = _THIS_MACHINE if private else frozenset[Reach]()
    else:
        allowed = _OWN if private else _PUBLIC
    return reach_of(ipaddress.ip_address(address)) in allowed
