"""Heads of messages: cut at the first empty line, parsed by llhttp whole, and checked for what llhttp lets pass.

A head is given to a parser of its own and in one piece, so nothing of one message can change how the next is read.
"""

import re
from functools import lru_cache
from typing import Final

import httptools

from router.base.errors import MalformedHttpError

HEAD_BYTES_MAX: Final = 64 << 10  # of an answer; of a request, where nothing else is set
TARGET_BYTES_MAX: Final = 8 << 10
LINE_BYTES_MAX: Final = TARGET_BYTES_MAX + 64  # with the method and the version around it
FIELDS_MAX: Final = 100
LENGTH_DIGITS_MAX: Final = 15

_UPGRADE_FIELDS: Final = (b"upgrade:", b"http2-settings:")
# Fields whose repetition could be read in two ways.
_SINGLE: Final = (
    b"host",
    b"authorization",
    b"api-key",
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"expect",
    b"x-request-id",
)
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


class RequestHead:
    """What a client's head says, and llhttp's collector while it is being read. Shared by the requests that repeat it.

    `fields`: names in lower case, values as sent; repeated ones joined by a comma. `note` belongs to the room above:
    whatever follows from this head alone can be kept there, and is found again when the client repeats it.
    """

    __slots__ = (
        "_after_length",
        "_before_length",
        "_digits_at",
        "body_length",
        "chunked",
        "complete",
        "expects_continue",
        "fields",
        "keep_alive",
        "method",
        "minor",
        "note",
        "repeated",
        "target",
        "upgrade",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.minor = 1  # of HTTP/1.x
        self.fields: dict[bytes, bytes] = {}
        self.repeated: list[bytes] = []
        self.complete = 0
        self.body_length = 0  # bytes, from Content-Length; 0 where there is none or it is chunked
        self.chunked = False
        self.keep_alive = True
        self.expects_continue = False
        self.upgrade = b""  # the field of that name, where one is asked for; whoever does not serve it leaves it out
        self.note: object = None
        self._digits_at = 0  # of its Content-Length; 0: it has none
        self._before_length = b""
        self._after_length = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self.fields:
            self.repeated.append(name)
            value = self.fields[name] + b", " + value
        self.fields[name] = value

    def on_headers_complete(self) -> None:
        self.complete += 1

    def remember(self, raw: bytes) -> None:
        """Keeps the head's own bytes, less the digits of its Content-Length, so that a repetition can be told."""
        at = raw.find(b"ontent-")
        while at >= 0 and raw[at + 7 : at + 15].lower() != b"length: ":
            at = raw.find(b"ontent-", at + 7)
        if at >= 0 and raw[at - 3 : at].lower() == b"\r\nc":
            begin = self._digits_at = at + 15
            self._before_length = raw[:begin]
            self._after_length = raw[raw.index(b"\r", begin) :]

    def repeated_in(self, data: bytes) -> int:
        """Returns where the body begins in a read that starts with this very head but for the length; else 0.

        Then `data` would be parsed to the same head, and `body_length_in` tells the length.
        """
        begin = self._digits_at
        if not begin or not data.startswith(self._before_length):
            return 0
        end = data.find(b"\r", begin, begin + LENGTH_DIGITS_MAX + 1)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._after_length, end):
            return 0
        self.body_length = int(digits)
        return end + len(self._after_length)


def check_partial(buffer: bytes | bytearray, bytes_max: int) -> None:
    """Refuses early what can no longer become a good head. Raises MalformedHttpError."""
    if not 65 <= buffer[0] <= 90:
        raise MalformedHttpError("The request does not begin with an HTTP method. Is this port being spoken to in TLS?")
    if _BARE_LF.search(buffer) is not None:
        raise MalformedHttpError("A line of the request's head does not end with CR LF.")
    if buffer.count(b"\n") > FIELDS_MAX + 1:
        raise _too_many_fields()
    if len(buffer) > bytes_max:
        raise too_large(buffer, bytes_max)
    if len(buffer) > LINE_BYTES_MAX and buffer.find(b"\r\n") < 0:
        raise too_large(buffer, bytes_max)


def too_large(buffer: bytes | bytearray, bytes_max: int) -> MalformedHttpError:
    """The right refusal for a head that is over its limits."""
    line_end = buffer.find(b"\r\n")
    if line_end < 0 or line_end > LINE_BYTES_MAX:
        return target_too_long()
    return MalformedHttpError(
        f"The request's head is longer than {bytes_max} bytes.", status=431, code="head_too_large"
    )


def _too_many_fields() -> MalformedHttpError:
    return MalformedHttpError(
        f"The request's head has more than {FIELDS_MAX} fields.", status=431, code="too_many_fields"
    )


def target_too_long() -> MalformedHttpError:
    """The refusal of a target over its limit."""
    return MalformedHttpError(
        f"The request's target is longer than {TARGET_BYTES_MAX} bytes.", status=414, code="target_too_long"
    )


def parse_request_head(raw: bytes) -> RequestHead:
    """Reads a whole request head, empty line included. Raises MalformedHttpError with the status that fits."""
    head = RequestHead()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        return _without_upgrade(parser, raw, head.fields.get(b"upgrade", b""))
    except httptools.HttpParserError as error:
        raise MalformedHttpError(f"The request's head is not valid HTTP/1.1: {error}.") from None
    head.method = parser.get_method()
    _check(head, raw)
    head.remember(raw)
    return head


def _without_upgrade(parser: httptools.HttpRequestParser, raw: bytes, upgrade: bytes) -> RequestHead:
    """Reads the head again as if no upgrade had been asked for: llhttp would take its body for a new request."""
    if parser.get_method() == b"CONNECT":
        raise MalformedHttpError("CONNECT is not served here.", status=405, code="method_not_allowed")
    lines = [line for line in raw.split(b"\r\n") if not line.lower().startswith(_UPGRADE_FIELDS)]
    head = RequestHead()
    head.upgrade = upgrade
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(b"\r\n".join(lines))
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise MalformedHttpError(f"The request's head is not valid HTTP/1.1: {error}.") from None
    head.method = parser.get_method()
    _check(head, raw)
    return head


def _check(head: RequestHead, raw: bytes) -> None:
    """What llhttp lets pass and we do not. Raises MalformedHttpError."""
    line_end = raw.find(b"\r\n")
    version = raw[line_end - 9 : line_end]  # from the line itself: llhttp takes RTSP/1.1 and ICE/1.1 as well
    if version == b" HTTP/1.0":
        head.minor = 0
    elif version != b" HTTP/1.1":
        raise MalformedHttpError("Only HTTP/1.1 and HTTP/1.0 are spoken here.", status=505, code="http_version")
    if head.complete != 1:
        raise MalformedHttpError("The request's head does not end where its empty line is.")
    if len(head.target) > TARGET_BYTES_MAX:
        raise target_too_long()
    if line_end != len(head.method) + len(head.target) + 10:
        raise MalformedHttpError("The request line is not three words with one space between them.")
    if raw.count(b"\r\n") - 2 > FIELDS_MAX:
        raise _too_many_fields()
    for name in head.repeated:
        if name in _SINGLE:
            raise MalformedHttpError(f"The field {name.decode()} stands more than once.", code="repeated_field")
    if b" \r\n" in raw or b"\t\r\n" in raw:  # llhttp leaves white space behind a value in it
        head.fields.update({name: value.rstrip(b" \t") for name, value in head.fields.items()})
    _check_target(head)
    _set_body(head)
    _set_connection(head)


def _check_target(head: RequestHead) -> None:
    host = head.fields.get(b"host")
    if host is None and head.minor == 1:
        raise MalformedHttpError("The field Host is missing.")
    if host and not _is_host(host):
        raise MalformedHttpError("The field Host is not a host name with an optional port.")
    target = head.target
    if target[:1] == b"/":
        if b"#" in target:
            raise MalformedHttpError("The request's target must not have a fragment.")
    elif target[:7].lower() == b"http://" or target[:8].lower() == b"https://":
        # Absolute form: its authority wins over Host, and neither is ever dialled.
        authority, slash, path = target.split(b"://", 1)[1].partition(b"/")
        if not _is_host(authority) or b"#" in target:
            raise MalformedHttpError("The request's target is not a valid absolute URL.")
        head.target = slash + path if slash else b"/"
    elif target != b"*" or head.method != b"OPTIONS":
        raise MalformedHttpError("The request's target is neither a path nor an absolute URL.")


@lru_cache(maxsize=1024)
def _is_host(value: bytes) -> bool:
    return len(value) <= 261 and _HOST.fullmatch(value) is not None


def _set_body(head: RequestHead) -> None:
    fields = head.fields
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if head.minor == 0:
            raise MalformedHttpError("HTTP/1.0 has no Transfer-Encoding.")
        if b"content-length" in fields:
            raise MalformedHttpError("Content-Length and Transfer-Encoding exclude each other.")
        if coding.lower() != b"chunked":
            raise MalformedHttpError(
                "The only Transfer-Encoding served here is chunked.", status=501, code="transfer_coding"
            )
        head.chunked = True
        return
    length = fields.get(b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > LENGTH_DIGITS_MAX:
            raise MalformedHttpError("Content-Length is not a number of bytes.")
        head.body_length = int(length)


def _set_connection(head: RequestHead) -> None:
    connection = head.fields.get(b"connection")
    if connection is None:
        head.keep_alive = head.minor == 1
    else:
        tokens = {token.strip() for token in connection.lower().split(b",")}
        head.keep_alive = b"close" not in tokens and (head.minor == 1 or b"keep-alive" in tokens)
    expect = head.fields.get(b"expect")
    if expect is not None and head.minor == 1:
        if expect.lower() != b"100-continue":
            raise MalformedHttpError("The only expectation met here is 100-continue.", status=417, code="expectation")
        head.expects_continue = True
