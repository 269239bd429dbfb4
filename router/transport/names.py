"""Names to addresses, kept in the background: no request waits for a resolver that has answered before.

A name that fails to resolve keeps its last addresses. What a name may resolve to is checked here, at the last moment
at which it can be: a public endpoint never leads to a loopback, private or metadata address.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

from router.base.errors import ConnectError


class Names:
    """The addresses of all endpoints' hosts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: dict[tuple[str, int, bool], Sequence[str]] = {}
        self._asking: dict[tuple[str, int, bool], asyncio.Task[Sequence[str]]] = {}

    async def addresses(self, host: str, port: int, *, private: bool) -> Sequence[str]:
        """Returns what is known, or asks. Raises ConnectError where there is nothing that may be dialled.

        One question a name at a time, whoever gives up on it: the resolver has few threads, and a name that hangs
        keeps one for as long as it does.
        """
        name = host, port, private
        if known := self._known.get(name):
            return known
        return await asyncio.shield(self._question(name))

    def _question(self, name: tuple[str, int, bool]) -> "asyncio.Task[Sequence[str]]":
        asking = self._asking.get(name)
        if asking is None:
            host, port, private = name
            asking = self._asking[name] = self._loop.create_task(self._ask(host, port, private=private))
            asking.add_done_callback(lambda task: self._answered(name, task))
        return asking

    def _answered(self, name: tuple[str, int, bool], task: asyncio.Task[Sequence[str]]) -> None:
        self._asking.pop(name, None)
        if not task.cancelled():
            task.exception()  # whoever waited may have gone: it is nobody's news

    def refresh(self) -> None:
        """Asks again for every name that was ever needed, each by itself: one that hangs delays no other.

        A name that does not resolve keeps its last addresses.
        """
        for name in self._known:
            self._question(name)

    async def _ask(self, host: str, port: int, *, private: bool) -> Sequence[str]:
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConnectError("The deployment's host name could not be resolved.") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [address for address in addresses if private or ipaddress.ip_address(address).is_global]
        if not allowed:
            raise ConnectError("The deployment's host name leads to an address that may not be dialled.")
        self._known[host, port, private] = allowed
        return allowed
