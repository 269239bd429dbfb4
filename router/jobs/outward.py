"""Small questions to endpoints, off the data path: by the same address rules, without proxies, redirects or cookies.

No byte of a client is in them, so they need no permit of a request; an endpoint is asked only with its own credential.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from router.base.errors import ConnectError, UpstreamError, UpstreamTimeoutError
from router.model.fleet import Endpoint
from router.transport.dialling import Way

USER_AGENT: Final = "inference-router-probe"
AT_ONCE_MAX: Final = 8
LOOK_EVERY_S: Final = 0.25
ANSWER_BYTES_MAX: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """An endpoint as a background job sees it. `credential`: header lines; may hold nothing yet."""

    endpoint: Endpoint
    way: Way
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

    def __init__(self, *, reuse: bool) -> None:
        """`reuse`: keeps connections for the next question; without it each one proves that a new one can be made."""
        self._reuse = reuse
        self._sessions: dict[str, tuple[Way, aiohttp.ClientSession]] = {}  # by endpoint

    async def get(self, target: ProbeTarget, page: str, timeout_s: float) -> tuple[int, bytes]:
        """Returns status and body. `page`: path and query. Raises ConnectError, UpstreamTimeoutError, UpstreamError.

        An answer that is too long is cut: what matters of it is its status, or near its begin.
        """
        endpoint = target.endpoint
        url = endpoint.base_url
        fields = {**endpoint.headers, "user-agent": USER_AGENT, "accept-encoding": "identity", **target.credential}
        async with _translated(timeout_s):
            session = await self._session(endpoint.id, target.way)
            where = URL(f"{url.scheme}://{url.authority}{page}", encoded=True)
            async with session.get(where, headers=fields, allow_redirects=False) as answer:
                body = bytearray()
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) >= ANSWER_BYTES_MAX:
                        answer.close()
                        break
                return answer.status, bytes(body)

    async def connect(self, target: ProbeTarget, timeout_s: float) -> None:
        """Makes a connection, with TLS, and closes it. Raises ConnectError, UpstreamTimeoutError."""
        async with _translated(timeout_s):
            transport, _, _ = await target.way.dial(asyncio.Protocol)
            transport.abort()

    async def close(self) -> None:
        for _, session in self._sessions.values():
            await session.close()

    async def _session(self, endpoint_id: str, way: Way) -> aiohttp.ClientSession:
        known = self._sessions.get(endpoint_id)
        if known is not None and known[0] is way:
            return known[1]
        session = aiohttp.ClientSession(
            connector=_Connector(way, reuse=self._reuse), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        self._sessions[endpoint_id] = way, session
        if known is not None:
            await known[1].close()
        return session


class _Connector(aiohttp.BaseConnector):
    """Dials as the data path does: the same addresses are refused, the same names verified, the same proxy asked."""

    def __init__(self, way: Way, *, reuse: bool) -> None:
        super().__init__(force_close=not reuse)
        self._way = way

    async def _create_connection(self, *_: object) -> ResponseHandler:
        return (await self._way.dial(self._factory))[1]


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
