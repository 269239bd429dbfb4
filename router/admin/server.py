"""The control plane's listener."""

import logging
from collections.abc import Collection
from typing import Final

from aiohttp import web

from router.admin.app import build_app
from router.admin.control import ControlledRouter
from router.admin.guard import is_loopback
from router.model.fleet import Secret
from router.transport.listening import Sockets, close_sockets, open_alone

_CLOSE_S: Final = 1.0

# The library writes a trace for every request that it cannot parse: whoever reaches the port could fill the disk.
# What goes wrong in a handler is logged by the application itself.
_silent: Final = logging.getLogger(f"{__name__}.library")
_silent.disabled = True


class AdminServer:
    """Serves the control plane on a port of its own."""

    def __init__(self, router: ControlledRouter, token: Secret | None, origins: Collection[str] = ()) -> None:
        """`origins`: whose pages may ask and read the answers. Raises ValueError for an empty token."""
        self._token = token
        self.sockets: Sockets = ()  # once started
        self._runner = web.AppRunner(
            build_app(router, token, origins),
            access_log=None,
            logger=_silent,
            handle_signals=False,
            shutdown_timeout=_CLOSE_S,
        )

    async def start(self, host: str, port: int, sockets: Sockets = ()) -> int:
        """Listens and returns the port, which is chosen where `port` is 0. `sockets`: what is open there already.

        Raises ValueError for an address off loopback without a token, OSError if the address cannot be bound.
        """
        # A service manager opens sockets where its own files say, whatever ours does.
        for name in (host, *(str(each.getsockname()[0]) for each in sockets)):
            if self._token is None and not is_loopback(name):
                raise ValueError(f"the control plane may not listen on {name!r} without a token (server.admin_token)")
        self.sockets = sockets or open_alone(host, port)
        await self._runner.setup()
        try:
            for each in self.sockets:
                await web.SockSite(self._runner, each).start()
        except OSError:
            await self._runner.cleanup()
            close_sockets([self.sockets])
            raise
        bound: int = self.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stops listening; what is being answered has a second to end."""
        await self._runner.cleanup()
