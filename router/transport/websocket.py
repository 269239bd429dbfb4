"""The two ends of a WebSocket session, once both connections have left HTTP: messages in, messages out.

Each is the protocol of its transport from the switch on. `UpstreamSocket.send` is the only way to write upwards, and
compares like `UpstreamConnection.send`; what goes to a client passes the outbox, so what is written down leaves first.
"""

import asyncio
import os
from typing import Protocol

from router.limits.admission import bodies_too_many
from router.model.plan import Permit
from router.transport.inbound import Inbound
from router.transport.upstream import UpstreamConnection, require_permit
from router.transport.websocket_frames import CLOSE, TRY_LATER, FrameError, MessageReader, close_payload, frame


class Memory(Protocol):
    """What half messages are counted in, with the bodies of requests."""

    buffered_bytes: int

    @property
    def bounds(self) -> "Bounds": ...


class Bounds(Protocol):
    """How much that may be, over all."""

    @property
    def buffered_bytes_max(self) -> int: ...


class SocketOwner(Protocol):
    """What hears of both ends."""

    def message_received(self, socket: "Socket", opcode: int, payload: bytes) -> None: ...

    def socket_broken(self, socket: "Socket", error: FrameError) -> None:
        """It sent what cannot be read. Nothing more of it is."""
        ...

    def socket_full(self, socket: "Socket", full: bool) -> None:
        """Its peer does not keep up, or does again."""
        ...

    def socket_lost(self, socket: "Socket") -> None:
        """The connection is gone."""
        ...


class Socket(asyncio.Protocol):
    """One end. Its owner decides what is answered; what is kept here is what was seen and sent."""

    def __init__(
        self, transport: asyncio.Transport, owner: SocketOwner, memory: Memory, bytes_max: int, *, masked: bool
    ) -> None:
        """`bytes_max`: of a message."""
        self.bytes_in = 0
        self.quiet = False  # set by whoever asks whether it lives: nothing has come since
        self.close_sent = self.close_received = self.lost = self.full = False
        self._transport, self._owner, self._memory = transport, owner, memory
        self._reader = MessageReader(bytes_max, masked=masked)
        self._held_bytes = 0
        self.paused = self._broken = False

    def abort(self) -> None:
        """At once: what was not written yet is lost."""
        self._transport.abort()

    def pause(self) -> None:
        """Reads nothing more until `resume`: the other end does not keep up."""
        if not self.paused and not self.lost:
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.paused and not self.lost:
            self.paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # -- the transport's callbacks

    def data_received(self, data: bytes) -> None:
        if self.close_received or self._broken:
            return
        self.bytes_in += len(data)
        self.quiet = False
        for opcode, payload in self._reader.feed(data):
            if opcode == CLOSE:
                self.close_received = True
            self._owner.message_received(self, opcode, payload)
            if self.close_received or self.lost:
                break
        error = self._count_held() or self._reader.error
        if error is not None and not self.close_received:
            self._broken = True
            self._owner.socket_broken(self, error)

    def _count_held(self) -> FrameError | None:
        """Counts what has come of a message that is not whole. Returns an error where all together are too many."""
        held_bytes, memory = self._reader.held_bytes if not self.lost else 0, self._memory
        more_bytes, self._held_bytes = held_bytes - self._held_bytes, held_bytes
        memory.buffered_bytes += more_bytes
        too_many = more_bytes > 0 and memory.buffered_bytes > memory.bounds.buffered_bytes_max
        return FrameError(TRY_LATER, bodies_too_many().message) if too_many else None

    def eof_received(self) -> None:
        """The transport closes itself."""

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost = True
        self._count_held()
        self._owner.socket_lost(self)

    def pause_writing(self) -> None:
        self.full = True
        self._owner.socket_full(self, True)

    def resume_writing(self) -> None:
        self.full = False
        self._owner.socket_full(self, False)


class ClientSocket(Socket):
    """The client's end. Its connection stays among the server's, which counts it and ends it with a drain."""

    def __init__(self, inbound: Inbound, owner: SocketOwner, memory: Memory, bytes_max: int) -> None:
        """Takes the connection over. Raises MalformedHttpError where bytes came before they were asked for."""
        super().__init__(inbound.hand_over(self), owner, memory, bytes_max, masked=True)
        self._inbound = inbound

    def send(self, opcode: int, payload: bytes) -> None:
        """Nothing follows a close."""
        if not self.close_sent and not self.lost:
            self.close_sent = opcode == CLOSE
            self._inbound.write(frame(opcode, payload))

    def close(self, code: int, reason: str = "") -> None:
        """Says so, once; the connection stays until `finish`."""
        self.send(CLOSE, close_payload(code, reason))

    def finish(self) -> None:
        """Ends the connection behind what was sent; a client that does not read it in time is aborted."""
        self._inbound.break_off(b"")

    def abort(self) -> None:
        self._inbound.abandon()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._inbound.socket_lost(exc)


class UpstreamSocket(Socket):
    """The deployment's end, of one cloud for its life. `send` is the only way to write to it."""

    def __init__(self, connection: UpstreamConnection, owner: SocketOwner, memory: Memory, bytes_max: int) -> None:
        """Takes the connection over, which has just switched."""
        super().__init__(connection.hand_over(self), owner, memory, bytes_max, masked=False)
        self.cloud = connection.cloud
        self.bytes_out = 0
        self._connection = connection

    def send(self, permit: Permit, opcode: int, payload: bytes) -> None:
        """Writes one message or control frame. Raises PlacementViolationError, and then no byte was written."""
        require_permit(permit, self.cloud)
        if not self.close_sent and not self.lost and not self._transport.is_closing():
            self.close_sent = opcode == CLOSE
            data = frame(opcode, payload, os.urandom(4))
            self.bytes_out += len(data)
            self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
        super().connection_lost(exc)
