"""The control plane's listener."""

import logging
from collections.abc import Collection
from typing import Final

from aiohttp import web

from router.admin.app import build_app
from router.admin.control import ControlledRouter
from router.admin.guard import is_loopback
from router.model.fleet import Secret

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
        self._runner = web.AppRunner(
            build_app(router, token, origins),
            access_log=None,
            logger=_silent,
            handle_signals=False,
            shutdown_timeout=_CLOSE_S,
        )

    async def start(self, host: str, port: int) -> int:
        """Listens and returns the port, which is chosen where `port` is 0.

        Raises ValueError for an address off loopback without a token, OSError if the address cannot be bound.
        """
        if self._token is None and not is_loopback(host):
            raise ValueError(f"the control plane may not listen on {host!r} without a token (server.admin_token)")
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        bound: int = self._runner.addresses[0][1]
        return bound

    async def close(self) -> None:
        """Stops listening; what is being answered has a second to end."""
        await self._runner.cleanup()
