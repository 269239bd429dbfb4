"""Where the top-level keys of a JSON object stand, exactly: the slow way, for bodies where the fast way is no proof."""

import re
from typing import Final

import msgspec

# Strings in one step, whatever they hold; possessive, so that no text makes the match go back.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],]', re.DOTALL)
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_decode_key: Final = msgspec.json.Decoder(str).decode


def top_level_values(body: bytes | bytearray) -> dict[str, list[tuple[int, int]]]:
    """Returns the byte span of each top-level value by its decoded key; a repeated key has several.

    `body`: a JSON object that a decoder has accepted.
    """
    spans: dict[str, list[tuple[int, int]]] = {}
    depth = 0
    key: str | None = None
    start = 0
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first == 0x22:  # a string: a key where one is due, else (part of) a value
            if depth == 1 and key is None:
                key = _decode_key(token[0])
                colon = body.index(b":", token.end())
                space = _SPACE.match(body, colon + 1)
                start = space.end() if space is not None else colon + 1
        elif first in b"{[":
            depth += 1
        else:
            if depth == 1 and key is not None:
                spans.setdefault(key, []).append((start, _trimmed(body, start, token.start())))
                key = None
            if first in b"}]":
                depth -= 1
    return spans


def _trimmed(body: bytes | bytearray, start: int, end: int) -> int:
    while end > start and body[end - 1] in b" \t\r\n":
        end -= 1
    return end
