"""Where the top-level keys of a JSON object stand, exactly: the slow way, for bodies where the fast way is no proof."""

import re
from typing import Final

import msgspec

from router.base.errors import InvalidRequestError

TOKENS_MAX: Final = 1 << 16  # some 30 ms: no client may hold the loop for longer with a body made for it
# Strings, and arrays of nothing but numbers, in one step; possessive, so that no text makes the match go back.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|\[[^][{}"]*+\]|[][{},]', re.DOTALL)
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_decode_key: Final = msgspec.json.Decoder(str).decode


def top_level_values(body: bytes | bytearray) -> dict[str, list[tuple[int, int]]]:
    """Returns the byte span of each top-level value by its decoded key; a repeated key has several.

    `body`: a JSON object that a decoder has accepted. Raises InvalidRequestError for a key that is not UTF-8 (the
    decoder leaves out what it does not want), and for a body of more than `TOKENS_MAX` tokens.
    """
    spans: dict[str, list[tuple[int, int]]] = {}
    depth = 0
    key: str | None = None
    start = 0
    for count, token in enumerate(_TOKEN.finditer(body)):
        if count > TOKENS_MAX:
            raise _too_complex()
        first = body[token.start()]
        if first == 0x22:  # a string: a key where one is due, else (part of) a value
            if depth == 1 and key is None:
                key = _text(token[0])
                colon = body.index(b":", token.end())
                space = _SPACE.match(body, colon + 1)
                start = space.end() if space is not None else colon + 1
        elif first in b"{[":
            depth += token.end() - token.start() == 1  # else it is an array that ends in the same step
        else:
            if depth == 1 and key is not None:
                spans.setdefault(key, []).append((start, _trimmed(body, start, token.start())))
                key = None
            if first in b"}]":
                depth -= 1
    return spans


def _text(key: bytes) -> str:
    try:
        return _decode_key(key)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequestError("The body is not valid JSON: a key is not UTF-8.", code="invalid_json") from None


def _too_complex() -> InvalidRequestError:
    return InvalidRequestError(
        "The body is too complex to be read exactly. Name `model` once and without escapes, and no other field of "
        "that name inside it.",
        code="body_too_complex",
    )


def _trimmed(body: bytes | bytearray, start: int, end: int) -> int:
    while end > start and body[end - 1] in b" \t\r\n":
        end -= 1
    return end
