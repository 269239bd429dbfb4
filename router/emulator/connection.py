"""One client connection of a fake cloud: reads strictly with h11, writes what the exchange says.

It never stops reading while it answers, so that a client that leaves is noticed at once.
"""

import asyncio
import socket
import struct
from typing import Final, Protocol, cast

import h11

from router.emulator.answer import Headers
from router.emulator.exchange import EndedError, Exchange, reason_of
from router.emulator.faults import Fault
from router.emulator.received import Received, Request
from router.emulator.service import Handled
from router.emulator.sessions import Session, asks_for_session, take_over
from router.emulator.settings import Settings

_HEAD_BYTES_MAX: Final = 64 << 10
_FLUSH_POLL_S: Final = 0.001
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)  # close() then sends RST


class Owner(Protocol):
    """What a connection asks its cloud."""

    received: Received
    settings: Settings

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection") -> None: ...

    def is_control(self, request: Request) -> bool: ...

    def handle_control(self, request: Request) -> Handled: ...

    def handle(self, request: Request) -> tuple[Handled, Fault | None]: ...

    def handle_session(self, request: Request) -> tuple[Handled, Session | None, Fault | None]: ...

    def exchange(self, wire: "Connection", handled: Handled, fault: Fault | None) -> Exchange: ...


class Connection(asyncio.Protocol):
    """Requests one after the other; a pipelined one waits until its turn comes."""

    def __init__(self, cloud: Owner) -> None:
        self._cloud = cloud
        self._loop = asyncio.get_running_loop()
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES_MAX)
        self._transport: asyncio.Transport
        self._request: Request | None = None  # from its head to the end of its answer
        self._control = False
        self._counted = False
        self._unclaimed_bytes = 0  # read since the last request ended: the control path's own do not count
        self._carried = False  # a request that was not the control path's
        self._task: asyncio.Task[None] | None = None
        self._ended = False  # by us, on purpose
        self._allowed: int | None = None
        self._allowed_reset = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._idle: asyncio.TimerHandle | None = None
        self._heir: asyncio.Protocol | None = None  # what reads on, once the connection has left HTTP

    @property
    def answering(self) -> bool:
        """A request that is work for the model has come and is not answered yet."""
        return self._request is not None and self._request.method == "POST" and not self._control

    # The protocol's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._cloud.opened(self)
        self._count_connection(1)
        self._wait_idle()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._cloud.closed(self)
        if self._counted:
            self._cloud.received.connections_open -= 1
        self._stop_idle()
        self._writable.set()
        if self._request is not None and not self._ended and not self._control:
            self._cloud.received.abort()
        self._request = None
        if self._heir is not None:
            self._heir.connection_lost(_exc)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._stop_idle()
        if not self._control:
            self._unclaimed_bytes += len(data)
            self._cloud.received.bytes += len(data)
        if self._heir is not None:
            self._heir.data_received(data)
            return
        if self._ended:
            return
        try:
            self._h11.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def pause_writing(self) -> None:
        self._writable.clear()
        if self._heir is not None:
            self._heir.pause_writing()

    def resume_writing(self) -> None:
        self._writable.set()
        if self._heir is not None:
            self._heir.resume_writing()

    # Reading.

    def _advance(self) -> None:
        while self._task is None and not self._ended:
            event = self._h11.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if self._h11.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
                return
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data) and self._request is not None:
                self._request.body += event.data
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                self._task = self._loop.create_task(self._respond(self._request))
                self._task.add_done_callback(self._settle)
            elif isinstance(event, h11.ConnectionClosed):
                self._transport.close()
                return

    def _begin(self, head: h11.Request) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
        request = Request(head.method.decode("latin-1"), head.target.decode("latin-1"), headers)
        self._request = request
        self._control = self._cloud.is_control(request)
        received = self._cloud.received
        if self._control:
            received.bytes -= self._unclaimed_bytes
            if not self._carried:
                self._count_connection(-1)
        else:
            self._carried = True
            self._count_connection(1)
            received.requests += 1
            received.last = request

    def _count_connection(self, by: int) -> None:
        """Counts this connection once, and not while it only carries the control path."""
        if self._counted == (by > 0):
            return
        self._counted = by > 0
        self._cloud.received.connections += by
        self._cloud.received.connections_open += by

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answers what is not HTTP, as far as an answer is possible, and closes."""
        self._cloud.received.malformed += 1
        self._ended = True
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE) and self._task is None:
            text = b"The request is not well-formed HTTP.\n"
            headers = [("content-type", "text/plain"), ("content-length", str(len(text))), ("connection", "close")]
            self._transport.write(
                (self._h11.send(h11.Response(status_code=error.error_status_hint, headers=headers)) or b"")
                + (self._h11.send(h11.Data(data=text)) or b"")
            )
        self._transport.close()

    # Answering.

    async def _respond(self, request: Request) -> None:
        if self._control:
            handled, fault = self._cloud.handle_control(request), None
        elif asks_for_session(request):
            handled, session, fault = self._cloud.handle_session(request)
            if session is not None:
                await asyncio.sleep(session.late_s)
                self._switch(request, session)
                return
        else:
            handled, fault = self._cloud.handle(request)
        try:
            await self._cloud.exchange(self, handled, fault).run()
        except EndedError:
            return
        self._next()

    def _switch(self, request: Request, session: Session) -> None:
        transport = self._transport
        self._request = None  # its end is the session's
        self._heir = take_over(request, transport, lambda ws: session.run(ws, transport))

    def _settle(self, task: asyncio.Task[None]) -> None:
        """A bug of ours must not look like a stall."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "an answer failed", "exception": error, "task": task})
            self.abort(reset=True)

    def _next(self) -> None:
        """The answer is out: on to the next request, or to the end of the connection."""
        self._request, self._task, self._control, self._unclaimed_bytes = None, None, False, 0
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self._wait_idle()
            try:
                self._advance()
            except h11.RemoteProtocolError as error:
                self._refuse(error)
        else:
            self._ended = True
            self._transport.close()

    def _wait_idle(self) -> None:
        if self._cloud.settings.idle_timeout_s:
            self._idle = self._loop.call_later(self._cloud.settings.idle_timeout_s, self._transport.close)

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    # Writing: what an exchange may do (exchange.Wire).

    async def interim(self, status: int, headers: Headers) -> None:
        await self.raw(self._h11.send(h11.InformationalResponse(status_code=status, headers=list(headers))) or b"")

    async def head(self, status: int, headers: Headers) -> None:
        head = h11.Response(status_code=status, headers=list(headers), reason=reason_of(status))
        await self.raw(self._h11.send(head) or b"")

    async def data(self, data: bytes) -> None:
        await self.raw(self._h11.send(h11.Data(data=data)) or b"")

    async def finish(self) -> None:
        await self.raw(self._h11.send(h11.EndOfMessage()) or b"")

    async def raw(self, data: bytes) -> None:
        if self._allowed is None:
            self._transport.write(data)
            await self._writable.wait()
            return
        self._transport.write(data[: self._allowed])
        self._allowed = max(0, self._allowed - len(data))
        if self._allowed == 0:
            await (self.reset() if self._allowed_reset else self.close())

    def allow(self, size: int, *, reset: bool) -> None:
        self._allowed, self._allowed_reset = size, reset

    async def stall(self) -> None:
        await self._loop.create_future()  # connection_lost cancels

    async def close(self) -> None:
        self._ended = True
        self._transport.close()
        raise EndedError

    async def reset(self) -> None:
        self._ended = True
        # A reset would overtake what is not sent yet, and no callback says that a TLS transport's buffer is empty.
        await asyncio.sleep(_FLUSH_POLL_S)
        while self._transport.get_write_buffer_size():  # noqa: ASYNC110
            await asyncio.sleep(_FLUSH_POLL_S)
        self.abort(reset=True)
        raise EndedError

    def abort(self, *, reset: bool = False) -> None:
        """Ends the connection at once; with `reset` the client sees an RST."""
        self._ended = True
        sock = self._transport.get_extra_info("socket")
        if reset and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def _send(self, event: h11.InformationalResponse) -> None:
        self._transport.write(self._h11.send(event) or b"")
