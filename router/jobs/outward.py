"""Small questions to endpoints, off the data path: by the same address rules, without proxies, redirects or cookies.

No byte of a client is in them, so they need no permit of a request; an endpoint is asked only with its own credential.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from router.base.errors import ConnectError, UpstreamError, UpstreamTimeoutError
from router.model.fleet import Endpoint
from router.transport.names import Names
from router.transport.tls import ResumingContext, client_context

USER_AGENT: Final = "inference-router-probe"
AT_ONCE_MAX: Final = 8
LOOK_EVERY_S: Final = 0.25
ANSWER_BYTES_MAX: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """An endpoint as a background job sees it. `credential`: header lines; may hold nothing yet."""

    endpoint: Endpoint
    credential: Mapping[str, str]
    last_traffic_at: float  # monotonic seconds, of the last attempt at any of its deployments that said something
    out: bool = False  # one of its deployments is out: news would be welcome


class Rounds:
    """Asks each target that is due: one question at a time each, and few at once in all."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        due: Callable[[float], Iterable[ProbeTarget]],
        ask: Callable[[ProbeTarget], Awaitable[None]],
    ) -> None:
        """`due`: called often, with the monotonic time."""
        self._loop, self._due, self._ask = loop, due, ask
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._looking: asyncio.Task[None] | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}  # by endpoint

    def start(self) -> None:
        self._looking = self._loop.create_task(self._look())

    async def stop(self) -> None:
        tasks = [*self._asking.values(), *([self._looking] if self._looking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            for target in self._due(monotonic()):
                name = target.endpoint.id
                if name not in self._asking:
                    self._asking[name] = self._loop.create_task(self._one(target))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _one(self, target: ProbeTarget) -> None:
        try:
            async with self._slots:
                await self._ask(target)
        finally:
            del self._asking[target.endpoint.id]


class Outward:
    """The way out. The user agent says what asks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, names: Names, *, reuse: bool) -> None:
        """`reuse`: keeps connections for the next question; without it each one proves that a new one can be made."""
        self._loop, self._names, self._reuse = loop, names, reuse
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # by whether private addresses may be dialled
        self._contexts: dict[str | None, ResumingContext] = {}  # by the file of authorities

    async def get(
        self, endpoint: Endpoint, target: str, credential: Mapping[str, str], timeout_s: float
    ) -> tuple[int, bytes]:
        """Returns status and body. `target`: path and query. Raises ConnectError, UpstreamTimeoutError, UpstreamError.

        An answer that is too long is cut: what matters of it is its status, or near its begin.
        """
        url = endpoint.base_url
        fields = {**endpoint.headers, "user-agent": USER_AGENT, "accept-encoding": "identity", **credential}
        async with _translated(timeout_s):
            # Also for an address that stands in the URL itself, which no resolver is asked about.
            await self._names.addresses(url.host, url.port, private=_private(endpoint))
            session = self._session(_private(endpoint))
            context = await self._context(endpoint)
            where = URL(f"{url.scheme}://{url.authority}{target}", encoded=True)
            async with session.get(where, headers=fields, allow_redirects=False, ssl=context or True) as answer:
                body = bytearray()
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) >= ANSWER_BYTES_MAX:
                        answer.close()
                        break
                return answer.status, bytes(body)

    async def connect(self, endpoint: Endpoint, timeout_s: float) -> None:
        """Makes a connection, with TLS, and closes it. Raises ConnectError, UpstreamTimeoutError."""
        url = endpoint.base_url
        async with _translated(timeout_s):
            addresses = await self._names.addresses(url.host, url.port, private=_private(endpoint))
            context = await self._context(endpoint)
            transport, _ = await self._loop.create_connection(
                asyncio.Protocol,
                addresses[0],
                url.port,
                ssl=context,
                server_hostname=url.host if context is not None else None,
            )
            transport.abort()

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    def _session(self, private: bool) -> aiohttp.ClientSession:
        if private not in self._sessions:
            connector = aiohttp.TCPConnector(
                resolver=_Resolver(self._names, private=private), use_dns_cache=False, force_close=not self._reuse
            )
            self._sessions[private] = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._sessions[private]

    async def _context(self, endpoint: Endpoint) -> ResumingContext | None:
        if not endpoint.base_url.tls:
            return None
        if endpoint.ca_file not in self._contexts:  # 20 ms of work, for the system's authorities
            self._contexts[endpoint.ca_file] = await asyncio.to_thread(client_context, endpoint.ca_file)
        return self._contexts[endpoint.ca_file]


class _Resolver(AbstractResolver):
    """The data path's own knowledge of names, so that the same addresses are refused."""

    def __init__(self, names: Names, *, private: bool) -> None:
        self._names, self._private = names, private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.addresses(host, port, private=self._private)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
            if family in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in address else socket.AF_INET)
        ]

    async def close(self) -> None:
        """Holds nothing."""


@asynccontextmanager
async def _translated(timeout_s: float) -> AsyncIterator[None]:
    """Bounds the question, and makes of the library's errors ours."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise UpstreamTimeoutError("The endpoint did not answer in time.") from error
    except aiohttp.ClientConnectorError as error:
        raise ConnectError("The endpoint did not accept a connection.") from error
    except aiohttp.ClientError as error:  # before OSError, which a reset is as well
        raise UpstreamError("The endpoint's answer broke off or is no HTTP.") from error
    except OSError as error:
        raise ConnectError("The endpoint did not accept a connection.") from error


def _private(endpoint: Endpoint) -> bool:
    return endpoint.private or endpoint.emulated
