"""One keep-alive connection of one user: plain sockets, which Locust has made cooperative, and llhttp.

Locust's own clients hide when the parts of an answer come, and whether it ended well or just ended.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import httptools

from loadtests.locust.checks import EVENT_STREAM, CutError, WrongAnswerError

READ_BYTES: Final = 64 * 1024
_BLANK_LINE: Final = b"\n\n"


class Answer:
    """What has come of an answer. Times are `perf_counter` seconds."""

    def __init__(self, sent_at: float) -> None:
        self.sent_at, self.ended_at = sent_at, sent_at
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()  # of a stream: what does not make a whole event yet
        self.size = 0
        self.complete = self.keep = self.followed = False
        self.parser = httptools.HttpResponseParser(self)

    @property
    def streamed(self) -> bool:
        return self.status == 200 and self.headers.get("content-type", "").startswith(EVENT_STREAM)

    @property
    def took_ms(self) -> float:
        return (self.ended_at - self.sent_at) * 1000

    # What the parser tells.

    def on_message_begin(self) -> None:
        self.followed = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body
        self.size += len(body)

    def on_message_complete(self) -> None:
        self.complete = True
        self.keep = self.parser.should_keep_alive()  # it can say so only now


class Connection:
    """To one host, dialled when it is needed. `timeout_s` bounds the dial and each silence."""

    def __init__(self, host: str, timeout_s: float) -> None:
        url = urlsplit(host)
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._name = url.hostname or ""
        self._port = url.port or (443 if self._tls else 80)
        self._host, self._path = url.netloc, url.path.rstrip("/")
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def post(self, path: str, key: str, body: bytes, on_event: Callable[[bytes, float], bool] | None = None) -> Answer:
        """Sends a request and reads its answer.

        Raises CutError where it does not come, or not to its end, and WrongAnswerError where more comes.
        `on_event` is given each event of a stream, without its blank line, and when it came; where it returns False
        the client hangs up. What it raises ends the connection as well.
        """
        answer = Answer(time.perf_counter())
        keep = False
        try:
            self._send(path, key, body)
            keep = self._read(answer, on_event)
        except OSError as error:
            raise CutError(_named(error, answer)) from error
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise CutError(f"not HTTP: {type(error).__name__}") from error
        finally:
            answer.ended_at = time.perf_counter()
            if not keep:
                self.close()
        return answer

    def close(self) -> None:
        """Hangs up, whatever is under way."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _send(self, path: str, key: str, body: bytes) -> None:
        head = (
            f"POST {self._path}{path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        if self._socket is None:
            self._socket = self._dialled()
        self._socket.sendall(head.encode("latin-1") + body)

    def _dialled(self) -> socket.socket:
        sock = socket.create_connection((self._name, self._port), self._timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(sock, server_hostname=self._name) if self._tls else sock

    def _read(self, answer: Answer, on_event: Callable[[bytes, float], bool] | None) -> bool:
        """Whether the connection can be used again."""
        assert self._socket is not None
        while not answer.complete:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise CutError("ended before its answer" if not answer.status else "ended inside its answer")
            answer.parser.feed_data(data)
            if answer.followed:
                raise WrongAnswerError("bytes of more than its answer")
            answer.status = answer.parser.get_status_code()
            if on_event is not None and answer.streamed and not _told(answer, on_event):
                return False
        return answer.keep


def _told(answer: Answer, on_event: Callable[[bytes, float], bool]) -> bool:
    """Hands on what makes whole events; False: the client has had enough."""
    now = time.perf_counter()
    *events, rest = answer.body.split(_BLANK_LINE)
    if not events:
        return True
    answer.body = bytearray(rest)
    return all(on_event(bytes(event), now) for event in events)


def _named(error: OSError, answer: Answer) -> str:
    """One text for each cause, so that failures add up."""
    when = "inside its answer" if answer.status else "before its answer"
    if isinstance(error, TimeoutError):
        return f"silent {when}"
    return f"{type(error).__name__} {when}"
