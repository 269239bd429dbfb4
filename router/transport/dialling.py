"""The way to an endpoint: its address or its proxy's, TCP, the proxy's consent, and TLS. In one deadline, the caller's.

A dial that fails says why: `name` (it could not be resolved, or leads where nothing may be dialled), `refused`,
`timeout`, `tls` (the handshake failed), `certificate` (the other end's was not believed), `broken` (it ended at once);
of a proxy `proxy_unreachable`, `proxy_tls`, `proxy_auth` (407), `proxy_refused` (any other status), `proxy_broken` (no
answer, or none that is HTTP).

Where there is a proxy it is asked to CONNECT and told nothing but the endpoint's host and port. TLS with the endpoint
begins behind it, and its certificate is held against the base URL's host, as it is without one.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Callable, Collection
from typing import Final, TypeVar, cast

from router.base.errors import ConnectError
from router.model.fleet import BaseUrl, ConnectProxy, Endpoint, UpstreamTls
from router.transport.names import Names
from router.transport.tls import client_context

ANSWER_BYTES_MAX: Final = 8 << 10  # of a proxy to CONNECT
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")

P = TypeVar("P", bound=asyncio.Protocol)


class Way:
    """How one endpoint is reached. Made anew where that changes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, names: Names, endpoint: Endpoint) -> None:
        """Takes 20 ms for TLS, for the system's authorities."""
        self.endpoint = endpoint
        self._loop, self._names = loop, names
        self.context = client_context(endpoint.tls) if endpoint.base_url.tls else None
        url, proxy = endpoint.base_url, endpoint.proxy
        # What is dialled.
        self._host, self._port = (url.host, url.port) if proxy is None else (proxy.host, proxy.port)
        self._private = endpoint.private or endpoint.emulated or proxy is not None
        self._outer = self.context
        if proxy is not None:
            # The certificate that we show is for the endpoint alone.
            self._outer = client_context(UpstreamTls(endpoint.tls.authorities)) if proxy.tls else None

    def leads_to(self, endpoint: Endpoint) -> bool:
        """Whether it is the way to that one too, whatever else of it may differ."""
        return _course(self.endpoint) == _course(endpoint)

    def gone(self) -> Collection[str]:
        """The addresses that connections should end to, since their name has not had them for long."""
        return self._names.gone(self._host, self._port, private=self._private)

    async def dial(self, make: Callable[[], P]) -> tuple[asyncio.Transport, P, str]:
        """A connection that is ready for a request, and the address that was dialled. Raises ConnectError.

        Where it fails or is cancelled, nothing is left open.
        """
        if self.endpoint.proxy is None:
            return await self._connect(make)
        tunnel = _Tunnel(self._loop)
        try:
            _, _, address = await self._connect(lambda: tunnel)
            _check(await tunnel.ask(_request(self.endpoint.proxy, self.endpoint.base_url)))
            transport = await self._through(tunnel)
            protocol = make()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
        except BaseException:
            tunnel.abort()
            raise
        return transport, protocol, address

    async def _connect(self, make: Callable[[], P]) -> tuple[asyncio.Transport, P, str]:
        """To the endpoint, or to its proxy: each of its addresses in turn."""
        failure: Exception | None = None
        name = self._host if self._outer is not None else None
        for address in await self._names.addresses(self._host, self._port, private=self._private):
            try:
                made, protocol = await self._loop.create_connection(
                    make, address, self._port, ssl=self._outer, server_hostname=name
                )
            except ssl.SSLError as error:
                raise self._tls_failed(error) from error
            except OSError as error:
                # Its frames hold it: without them it goes with the last who looks at it, not with the collector's turn.
                failure = error.with_traceback(None)
                continue
            return made, protocol, address
        self._names.doubt(self._host, self._port, private=self._private)
        if self.endpoint.proxy is not None:
            raise ConnectError("The deployment's proxy did not accept a connection.", "proxy_unreachable") from failure
        raise ConnectError("The deployment did not accept a connection.", "refused") from failure

    async def _through(self, tunnel: "_Tunnel") -> asyncio.Transport:
        """What stands behind the proxy, with TLS where it speaks that. Raises ConnectError."""
        transport = tunnel.transport
        if self.context is not None and transport is not None:
            try:
                # The endpoint has been told nothing yet, so it says nothing: no byte of TLS can have come too early.
                name = self.endpoint.base_url.host
                transport = await self._loop.start_tls(transport, tunnel, self.context, server_hostname=name)
            except ssl.SSLError as error:
                raise _tls_failed(error) from error
            except OSError as error:
                raise ConnectError("The deployment broke off the TLS handshake.", "tls") from error
        if transport is None or tunnel.transport is None or tunnel.early:
            raise ConnectError("The deployment broke off the connection at once.", "broken")
        return transport

    def _tls_failed(self, error: ssl.SSLError) -> ConnectError:
        if self.endpoint.proxy is None:
            return _tls_failed(error)
        return ConnectError("The TLS handshake with the deployment's proxy failed.", "proxy_tls")


def _course(endpoint: Endpoint) -> tuple[object, ...]:
    return endpoint.base_url, endpoint.tls, endpoint.proxy, endpoint.private, endpoint.emulated


def _tls_failed(error: ssl.SSLError) -> ConnectError:
    """Errors of verification are a kind of their own: somebody else may be there."""
    reason = "certificate" if isinstance(error, ssl.SSLCertVerificationError) else "tls"
    return ConnectError("The deployment's TLS handshake failed.", reason)


def _request(proxy: ConnectProxy, url: BaseUrl) -> bytes:
    host = f"[{url.host}]" if ":" in url.host else url.host
    authority = f"{host}:{url.port}".encode()
    lines = b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (authority, authority)
    if proxy.credential is not None:
        lines += b"proxy-authorization: Basic %b\r\n" % base64.b64encode(proxy.credential.reveal().encode())
    return lines + b"\r\n"


def _check(answer: bytes) -> None:
    """A success has no body, and nothing may stand behind its head. Raises ConnectError."""
    found = _STATUS.match(answer)
    if found is None or answer.find(b"\r\n\r\n") + 4 != len(answer):
        raise ConnectError("The deployment's proxy did not answer as a proxy does.", "proxy_broken")
    status = int(found[1])
    if status == 407:
        raise ConnectError("The deployment's proxy refused our credentials.", "proxy_auth")
    if not 200 <= status < 300:
        raise ConnectError(f"The deployment's proxy refused to connect (status {status}).", "proxy_refused")


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's answer: up to the empty line, with all that came in that read behind it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.transport: asyncio.Transport | None = None  # while the connection stands
        self.early = False  # bytes came that nobody can have asked for
        self._answer = b""
        self._whole: asyncio.Future[bytes] = loop.create_future()

    async def ask(self, request: bytes) -> bytes:
        """Returns nothing where the connection ends first."""
        if self.transport is None:
            return b""
        self.transport.write(request)
        return await self._whole

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._whole.done():
            self.early = True
            return
        self._answer += data
        end = self._answer.find(b"\r\n\r\n") + 4
        status = _STATUS.match(self._answer)
        if end > 3 and status is not None and not status[1].startswith(b"2"):
            self._whole.set_result(self._answer[:end])  # what a refusal says in its body is of no interest
        elif end > 3 or len(self._answer) > ANSWER_BYTES_MAX:
            self._whole.set_result(self._answer)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.transport = None
        if not self._whole.done():
            self._whole.set_result(b"")
