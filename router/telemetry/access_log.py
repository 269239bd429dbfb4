"""The access log: one JSON line a request and one a change of state, written by a thread in batches.

The event loop only keeps the records, and lets some of them be encoded in one go. What the sink does not take is held,
bounded; beyond that, newer lines are dropped whole, counted, and told of by a line of their own in the place where they
are missing.

Where several processes write to one sink, each holds a lock on it while it writes whole lines: a pipe takes no more
than 4 KiB in one piece, and a disk that fills up half a line.
"""

import contextlib
import errno
import os
import select
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from router.base.clock import Clock, SystemClock
from router.model.outcome import RequestRecord

FLUSH_S: Final = 0.1
CLOSE_S: Final = 2.0
# One buffer fills while the writer holds another: together they are bounded by 8 MiB.
_BUFFER_BYTES_MAX: Final = 4 << 20
# Encoded in one go these take half of what each takes by itself, and hold the loop for some 30 µs.
RECORDS_A_BATCH: Final = 32
# So that the position is known well enough when a write blocks for ever.
_WRITE_BYTES_MAX: Final = 256 << 10
_STDOUT: Final = 1
# Never to wait for a pipe's reader; and on Windows, which has no such thing, to write a line's end as it is.
_QUIET: Final[int] = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class AccessLog:
    """Appends lines to a file, to standard output (`-`) or to nothing (`off`).

    `record` and `event` never block, and never raise for what the sink does or for what strings hold.
    Raises OSError if the file cannot be opened at the start.
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Clock | None = None,
        buffer_bytes_max: int = _BUFFER_BYTES_MAX,
        shared: bool = False,
    ) -> None:
        """`shared`: other processes write to the same sink, in the same way."""
        self._shared = shared
        self.dropped = 0  # lines, since the start
        self._path, self._clock, self._buffer_bytes_max = path, clock or SystemClock(), buffer_bytes_max
        self._encoder = msgspec.json.Encoder(enc_hook=_name_of_type)
        self._buffer = bytearray()
        self._pending: list[RequestRecord] = []  # not encoded yet
        self._lock = threading.Lock()  # held for an append or a swap, never for a write
        self._taking = path != "off"
        # The writer's own; `close` reads them once it is over or past its time.
        self._batch, self._position, self._told = bytearray(), 0, 0
        self._closing, self._reopening = threading.Event(), threading.Event()
        self._give_up_at = float("inf")
        if self._taking:
            self._fd = _open_sink(path)
            # A daemon, because a write to a pipe that nobody reads never returns and must not keep the process.
            self._writer = threading.Thread(target=self._write_until_closed, name="access-log", daemon=True)
            self._writer.start()

    def record(self, record: RequestRecord) -> None:
        """Adds a request's line; `record.at` is its wall time."""
        if self._taking:
            pending = self._pending
            pending.append(record)
            if len(pending) >= RECORDS_A_BATCH:
                with self._lock:
                    self._encode_pending()

    def event(self, event: str, /, **fields: object) -> None:
        """Adds a line for a change of state. Of a field that JSON has no form for, only the type's name is shown."""
        if self._taking:
            line = self._encoded({"at": self._clock.wall(), "event": event, **fields})
            with self._lock:
                self._encode_pending()
                self._append(line)

    @property
    def buffered_bytes(self) -> int:
        """What the sink has not taken yet."""
        return len(self._buffer) + len(self._batch) - self._position

    def reopen(self) -> None:
        """Lets the writer open the path anew before it writes on, so that a rotated file is let go."""
        self._reopening.set()

    def close(self) -> None:
        """Writes all that is there, for at most `CLOSE_S` seconds, and counts the rest as dropped. Blocks."""
        if not self._taking:
            return
        self._taking = False
        self._give_up_at = time.monotonic() + CLOSE_S
        self._closing.set()
        self._writer.join(CLOSE_S + FLUSH_S)
        with self._lock:
            self._encode_pending()
        self.dropped += self._batch.count(b"\n", self._position) + self._buffer.count(b"\n")

    # Under `_lock`.

    def _encode_pending(self) -> None:
        # One list for ever, changed by single steps: the loop appends to it without the lock.
        records = self._pending[:]
        if not records:
            return
        del self._pending[: len(records)]
        if len(self._buffer) >= self._buffer_bytes_max:
            self.dropped += len(records)
            return
        try:
            self._buffer += self._encoder.encode_lines(records)
        except UnicodeEncodeError:
            for record in records:
                self._append(self._encoded(record))

    def _append(self, line: bytes) -> None:
        if len(self._buffer) >= self._buffer_bytes_max:
            self.dropped += 1
            return
        self._buffer += line
        self._buffer += b"\n"

    def _encoded(self, line: object) -> bytes:
        try:
            return self._encoder.encode(line)
        except UnicodeEncodeError:  # a lone surrogate, which JSON has no form for
            return self._encoder.encode(_printable(msgspec.to_builtins(line, enc_hook=_name_of_type)))

    # All that follows runs on the writer's thread.

    def _write_until_closed(self) -> None:
        while not self._closing.wait(FLUSH_S):
            self._flush()
        self._flush()
        if self._fd != _STDOUT:
            os.close(self._fd)

    def _flush(self) -> None:
        if self._position < len(self._batch):
            return  # given up: `close` counts the rest of this batch
        with self._lock:
            self._encode_pending()
            self._batch, self._buffer = self._buffer, bytearray()
            missing, self._told = self.dropped - self._told, self.dropped
        if missing:
            self._batch += self._encoder.encode(
                {"at": self._clock.wall(), "event": "access_log_dropped", "lines": missing}
            )
            self._batch += b"\n"
        self._position = 0
        if self._reopening.is_set():
            self._reopen()
        view = memoryview(self._batch)
        while self._position < len(view) and time.monotonic() < self._give_up_at:
            self._write_lines(view)

    def _write_lines(self, view: memoryview) -> None:
        """As many whole lines as one write is meant to take, with nobody else's in between."""
        batch, begin = self._batch, self._position
        end = batch.rfind(b"\n", begin, begin + _WRITE_BYTES_MAX) + 1 or batch.index(b"\n", begin) + 1
        self._lock_sink(held=True)
        try:
            while self._position < end and time.monotonic() < self._give_up_at:
                self._write_some(view[:end])
        finally:
            self._lock_sink(held=False)

    def _lock_sink(self, *, held: bool) -> None:
        """The lock is the process's, and ends with it. Where a file system has none, there is none."""
        if self._shared and sys.platform != "win32":
            import fcntl  # which Windows has not: there one process has the sink for itself

            with contextlib.suppress(OSError):
                fcntl.lockf(self._fd, fcntl.LOCK_EX if held else fcntl.LOCK_UN)

    def _write_some(self, view: memoryview) -> None:
        """One write. A sink that does not take it is asked again a little later: a full disk may be made empty."""
        try:
            self._position += os.write(self._fd, view[self._position : self._position + _WRITE_BYTES_MAX])
        except BlockingIOError:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll(FLUSH_S * 1000)
        except OSError:
            if self._closing.is_set():
                time.sleep(FLUSH_S)
            else:
                self._closing.wait(FLUSH_S)
            if self._reopening.is_set():
                self._reopen()
                self._lock_sink(held=True)  # the file that is written to now

    def _reopen(self) -> None:
        self._reopening.clear()
        if self._path == "-":
            return
        try:
            fd = _open_sink(self._path)
        except OSError as error:
            self.event("access_log_reopen_failed", reason=errno.errorcode.get(error.errno or 0, "unknown"))
            return
        os.close(self._fd)
        self._fd = fd
        # The line that the old file has half of is written whole into the new one.
        self._position = self._batch.rfind(b"\n", 0, self._position) + 1


def _open_sink(path: str) -> int:
    if path == "-":
        return _STDOUT
    # Not blocking, so that a named pipe without a reader fails at once instead of holding up the start.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _QUIET, 0o640)
    _end_line(fd, path)
    return fd


def _end_line(fd: int, path: str) -> None:
    """Ends the half line that a full disk, or a crash of the machine, has left at a file's end.

    Whoever holds the lock is within a line at this moment, and ends it. A disk that is still full is told of later.
    """
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return
        if sys.platform == "win32":
            _end_half(fd, path)
            return
        import fcntl  # which Windows has not

        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _end_half(fd, path)
        fcntl.lockf(fd, fcntl.LOCK_UN)


def _end_half(fd: int, path: str) -> None:
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
            os.write(fd, b"\n")


def _name_of_type(value: object) -> str:
    return type(value).__name__


def _printable(value: object) -> object:
    """The same value with `?` in place of every character that UTF-8 cannot hold."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case list() | tuple():
            return [_printable(item) for item in value]
        case dict():
            return {_printable(key): _printable(item) for key, item in value.items()}
        case _:
            return value
