"""The clients' outbox: no answer is whole at its client before the ledger has it.

A request is settled in the turn of the loop that queues the end of its answer, so what a turn settled is written down
just before the turn's bytes leave. That includes ends of connections, which end an answer that has no length, and the
last bytes of a long piece.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from router.transport.outbox import LARGE_BYTES

TAIL_BYTES: Final = 1 << 10
"""Of a long piece that is written at once, so much waits for the turn's end all the same."""


class End(enum.Enum):
    """What is done to a transport behind all that was written to it."""

    CLOSE = 1
    WRITING = 2  # our direction alone


_CLOSE: Final = End.CLOSE
_WRITING: Final = End.WRITING
Entry: TypeAlias = tuple[asyncio.Transport, bytes | memoryview | End]


class Gate(Protocol):
    """What must have happened before answers leave."""

    @property
    def pending(self) -> Sequence[object]:
        """Requests that were settled, and homes of what they left, that are not written down yet."""
        ...

    @property
    def durable(self) -> bool:
        """Answers wait until what was written down is on the disk."""
        ...

    def commit(self) -> None:
        """Writes down what was settled; does not block."""
        ...

    def when_durable(self, then: Callable[[], None], /) -> None:
        """Calls `then` on the loop once all that was committed so far is on the disk. In the order of the calls."""
        ...


class Open:
    """Where nothing is written down."""

    pending: Sequence[object] = ()
    durable = False

    def commit(self) -> None: ...

    def when_durable(self, then: Callable[[], None], /) -> None: ...


class AnswerOutbox:
    """Keeps what clients are to get until the callbacks of this turn have run, or until `flush`, and the gate opens.

    The gate is set once the ledger is there.
    """

    __slots__ = ("_held", "_held_for", "_loop", "_queued", "gate")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queued: list[Entry] = []
        self.gate: Gate = Open()
        self._held: deque[list[Entry]] = deque()  # a turn's each, oldest first: until they are on the disk
        self._held_for: dict[asyncio.Transport, int] = {}  # how many of their entries are held

    def write(self, transport: asyncio.Transport, data: bytes | memoryview) -> None:
        """In order for each transport, as all that is done to a transport through here."""
        # What waits to be written down may be what these very bytes tell of: then they wait as well.
        if len(data) > LARGE_BYTES and not self.gate.pending:
            self.flush()
            if transport not in self._held_for:
                transport.write(data[:-TAIL_BYTES])
                data = data[-TAIL_BYTES:]
        queued = self._queued
        if not queued:
            self._loop.call_soon(self.flush)
        queued.append((transport, data))

    def close(self, transport: asyncio.Transport) -> None:
        """Closes it behind what was written."""
        self._queue((transport, End.CLOSE))

    def end_writing(self, transport: asyncio.Transport) -> None:
        """Ends our direction behind what was written; what the other end sends is still taken."""
        self._queue((transport, End.WRITING))

    def _queue(self, entry: Entry) -> None:
        if not self._queued:
            self._loop.call_soon(self.flush)
        self._queued.append(entry)

    def flush(self) -> None:
        """Has written down what was settled, and lets what is kept leave, in durable mode once that is on the disk."""
        queued = self._queued
        if queued:
            self._queued = []
            gate = self.gate
            if gate.pending:
                gate.commit()
                if gate.durable:
                    self._hold(queued)
                    gate.when_durable(self._release)
                    return
            elif self._held:
                queued = self._without_held(queued)
            _write_out(queued)

    def _hold(self, entries: list[Entry]) -> None:
        self._held.append(entries)
        for transport, _ in entries:
            self._held_for[transport] = self._held_for.get(transport, 0) + 1

    def _without_held(self, entries: list[Entry]) -> list[Entry]:
        """Those that may leave now. The others join what is held last, which leaves after all that was before it."""
        free = []
        for entry in entries:
            if entry[0] in self._held_for:
                self._held[-1].append(entry)
                self._held_for[entry[0]] += 1
            else:
                free.append(entry)
        return free

    def _release(self) -> None:
        entries = self._held.popleft()
        for transport, _ in entries:
            left = self._held_for[transport] - 1
            if left:
                self._held_for[transport] = left
            else:
                del self._held_for[transport]
        _write_out(entries)


def _write_out(entries: list[Entry]) -> None:
    """In their order, but for transports that have ended meanwhile."""
    for transport, data in entries:
        if not transport.is_closing():
            if data is _CLOSE:
                transport.close()
            elif data is not _WRITING:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()  # of TLS, which has no half: see `tls.linger`
