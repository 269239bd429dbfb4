"""Which headers pass, up and down. Everything that is not named here stays on its side.

`x-request-id` and `x-ratelimit-*` are always the router's own, so they are not here.
"""

from collections.abc import Mapping
from typing import Final

UP: Final = frozenset({b"content-type", b"accept", b"traceparent", b"tracestate", b"openai-beta"})
DOWN: Final = (b"content-type", b"content-disposition", b"openai-processing-ms")
DOWN_REVEALED: Final = (b"apim-request-id", b"x-ms-region")
LIMITS: Final = tuple(
    b"x-ratelimit-%b-%b" % (what, of) for what in (b"limit", b"remaining", b"reset") for of in (b"requests", b"tokens")
)
RETRY: Final = (b"retry-after", b"retry-after-ms", b"x-should-retry")

# (name upstream, ready beginning of the line down)
_DOWN: Final = tuple((name, name + b": ") for name in DOWN)
_REVEALED: Final = (
    *_DOWN,
    *((name, name + b": ") for name in DOWN_REVEALED),
    *((name, name.replace(b"x-", b"x-upstream-", 1) + b": ") for name in LIMITS),
)
_RETRY: Final = tuple((name, name + b": ") for name in RETRY)


def answer_headers(headers: Mapping[bytes, bytes], reveal: bool) -> bytes:
    """Returns the lines that an answer passes on, each with its CRLF. `headers`: names in lower case."""
    if reveal:
        return _lines(headers, _REVEALED)
    if b"content-disposition" in headers or b"openai-processing-ms" in headers or b"content-type" not in headers:
        return _lines(headers, _DOWN)
    return b"content-type: %b\r\n" % headers[b"content-type"]  # all that most have


def retry_headers(headers: Mapping[bytes, bytes]) -> bytes:
    """Returns the lines about waiting that an error answer passes on; the router's own errors say their own."""
    return _lines(headers, _RETRY)


def _lines(headers: Mapping[bytes, bytes], passing: tuple[tuple[bytes, bytes], ...]) -> bytes:
    lines = b""
    for name, begin in passing:
        value = headers.get(name)
        if value is not None:
            lines += begin + value + b"\r\n"
    return lines
