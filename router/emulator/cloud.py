"""One fake cloud: its listening socket, its connections, its faults."""

import asyncio
import contextlib
import socket
import ssl
from typing import Final, Self

from router.base.clock import Clock, SystemClock
from router.emulator.connection import Connection
from router.emulator.control import PREFIX, control
from router.emulator.engine import ENGINES, Engine
from router.emulator.exchange import Exchange
from router.emulator.faults import Fault, FaultBook, Kind
from router.emulator.received import Received, Request
from router.emulator.service import Handled, Service
from router.emulator.sessions import OF_SESSIONS, Session
from router.emulator.settings import Endpoint
from router.emulator.shapes import EmulatorConfigError

_BACKLOG: Final = 4096
_RETRY_LISTEN_S: Final = 0.02


class EmulatedCloud:
    """A fake cloud in the running loop. `received` and `faults` may be used at any time.

    Use it as `async with EmulatedCloud(Endpoint(...)) as cloud`, or call `start` and `close`.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.endpoint, self.settings = endpoint, endpoint.settings
        self._service = Service(endpoint, clock)
        self.received = Received(clock.monotonic)
        self.faults = FaultBook(self._service.rng, clock.monotonic)
        self.faults.on_refuse, self.faults.on_clear = self._refuse, self._listen_again
        self._connections: set[Connection] = set()
        self.sessions: list[Session] = []  # that were ever open
        model = endpoint.deployments[0].model if endpoint.deployments else ""
        self.engine = Engine(endpoint.engine, model, self._busy) if endpoint.engine in ENGINES else None
        self._all_closed = asyncio.Event()
        self.port = endpoint.port
        self._tls = self._tls_context()
        self._socket: socket.socket | None = None
        self._again: asyncio.TimerHandle | None = None
        self._accepting: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """What a router's endpoint has as its base_url."""
        host = f"[{self.endpoint.host}]" if ":" in self.endpoint.host else self.endpoint.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{self.endpoint.path}"

    async def start(self, port: int | None = None) -> None:
        """Listens; `port` 0: any free one. Raises OSError where it cannot."""
        self.port = self.endpoint.port if port is None else port
        self._listen()
        self.faults.extend(self.settings.faults)

    async def close(self) -> None:
        """Stops listening and ends all connections."""
        self._stop_listening()
        for task in list(self._accepting):
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            self._all_closed.clear()
            await self._all_closed.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def lower_quotas(self, share: float) -> None:
        self._service.lower_quotas(share)

    # What a connection asks (connection.Owner).

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()

    def is_control(self, request: Request) -> bool:
        return request.target.startswith(PREFIX)

    def handle_control(self, request: Request) -> Handled:
        return Handled(answer=control(self, request))

    def handle(self, request: Request) -> tuple[Handled, Fault | None]:
        """The answer, and the fault that befalls it."""
        handled = (self.engine and self.engine.handle(request)) or self._service.handle(request)
        if handled.operation:
            self.received.by_operation[handled.operation] += 1
        if handled.deployment:
            self.received.by_deployment[handled.deployment] += 1
        return handled, self.faults.draw(handled.operation, handled.deployment)

    def handle_session(self, request: Request) -> tuple[Handled, Session | None, Fault | None]:
        """A session or the answer in its place, and the fault that befalls it."""
        handled, session = self._service.session(request)
        if handled.operation:
            self.received.by_operation[handled.operation] += 1
        if handled.deployment:
            self.received.by_deployment[handled.deployment] += 1
        fault = self.faults.draw(handled.operation, handled.deployment)
        if session is not None and (fault is None or fault.kind in OF_SESSIONS):
            session.fault = fault if fault is None or fault.kind is not Kind.SLOW_HEAD else None
            session.late_s = (fault.delay_ms or 0.0) / 1000 if fault is not None else 0.0
            self.sessions.append(session)
            return handled, session, None
        return handled, None, fault

    def exchange(self, wire: Connection, handled: Handled, fault: Fault | None) -> Exchange:
        return Exchange(wire, handled, fault, self.settings, self._service.rng)

    def _busy(self) -> int:
        return sum(connection.answering for connection in self._connections)

    # Listening. The socket is read by hand, so that it can be closed, and opened again, at once.

    def _listen(self) -> None:
        family = socket.AF_INET6 if ":" in self.endpoint.host else socket.AF_INET
        host = "127.0.0.1" if self.endpoint.host == "localhost" else self.endpoint.host
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind((host, self.port))
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._accept)

    def _stop_listening(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _refuse(self, for_s: float) -> None:
        if self._socket is None and self._again is None:
            return  # not started: the script acts from the start on
        self._stop_listening()
        self._again = asyncio.get_running_loop().call_later(for_s, self._listen_again)

    def _listen_again(self) -> None:
        if self._again is None:
            return
        self._again.cancel()
        self._again = None
        try:
            self._listen()
        except OSError:  # somebody's outgoing connection has the port for a moment
            self._again = asyncio.get_running_loop().call_later(_RETRY_LISTEN_S, self._listen_again)

    def _accept(self) -> None:
        while self._socket is not None:
            try:
                sock, _address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            task = asyncio.get_running_loop().create_task(self._serve(sock, self.faults.draw_accept()))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _serve(self, sock: socket.socket, slow: Fault | None) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if slow is not None:
                await asyncio.sleep((slow.delay_ms or 0.0) / 1000)
            loop = asyncio.get_running_loop()
            with contextlib.suppress(OSError):  # the client left, or its handshake failed
                await loop.connect_accepted_socket(lambda: Connection(self), sock, ssl=self._tls)
        except asyncio.CancelledError:
            sock.close()
            raise

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self.endpoint.tls:
            return None
        return tls_context(self.settings.tls_cert, self.settings.tls_key)


def tls_context(cert: str | None, key: str | None) -> ssl.SSLContext:
    """A server's context from two PEM files. Raises EmulatorConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert or "", key)
    except (OSError, ValueError) as error:
        raise EmulatorConfigError(f"the certificate {cert} or its key {key} cannot be used: {error}") from error
    return context
