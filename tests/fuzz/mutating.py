"""Inputs of a fuzzer: what is known to be interesting, changed in a few places, and cut into reads."""

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parents[1] / "corpus"
SEED_BYTES_MAX: Final = 4096
_TOKENS: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"\x0b",
        b"\x7f",
        b"\xa0",
        b"\xff",
        b"0",
        b"-",
        b"+",
    ),
    *(
        b"\r\n\r\n",
        b"\n\n",
        b"\r\n ",
        b"0\r\n\r\n",
        b"0\r\n",
        b"5\r\nhello\r\n",
        b"ffffffffffffffff\r\n",
        b"00",
        b"0x5",
    ),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"content-length:\t7 \r\n", b"Content-Length: 5, 5\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding: x, chunked\r\n"),
    *(b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n"),
    *(b"Host: b\r\n", b"Trailer: Host\r\n", b"X: y\r\n", b" HTTP/1.0", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"GET "),
    *(b"GET /in HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    *(b'"model":"b"', b'"', b"\\", b"\\u006d", b"{", b"}", b"[", b"]", b"data: ", b"[DONE]"),
)


def corpus(side: str) -> list[bytes]:
    """What broke once on one side of the wire."""
    cases = (json.loads(file.read_text()) for file in sorted(CORPUS.glob("*.json")))
    return ["".join(case["reads"]).encode("latin-1") for case in cases if case["side"] == side]


class Mutator:
    """Draws inputs from seeds. The same random source, the same inputs."""

    def __init__(self, seeds: Sequence[bytes], rng: random.Random) -> None:
        self._seeds = [seed for seed in seeds if len(seed) <= SEED_BYTES_MAX]
        self._rng = rng

    def draw(self) -> bytes:
        rng = self._rng
        data = rng.choice(self._seeds)
        if rng.random() < 0.3:
            data += rng.choice(self._seeds)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
            data = self._changed(data)
        return data

    def reads(self, data: bytes) -> list[bytes]:
        """The same bytes in one read, byte by byte, or cut in some places."""
        rng, size = self._rng, len(data)
        kind = rng.random()
        if kind < 0.4 or size < 2:
            return [data] if data else []
        if kind < 0.5 and size < 1024:
            return [data[at : at + 1] for at in range(size)]
        edges = [0, *sorted({rng.randrange(1, size) for _ in range(rng.randrange(1, 6))}), size]
        return [data[begin:end] for begin, end in pairwise(edges)]

    def _changed(self, data: bytes) -> bytes:
        rng = self._rng
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice((0, 1, 1, 2, 4, 16, 64)))
        kind = rng.randrange(6)
        if kind == 0:
            return data[:at] + data[end:]
        if kind == 1:
            return data[:at] + bytes((rng.randrange(256),)) + data[end:]
        if kind == 2:
            return data[:at] + rng.choice(_TOKENS) + data[at:]
        if kind == 3:
            return data[:at] + rng.choice(_TOKENS) + data[end:]
        if kind == 4:
            return data[:end] + data[at:]  # a piece twice
        other = rng.choice(self._seeds)
        begin = rng.randint(0, len(other))
        return data[:at] + other[begin : begin + rng.choice((8, 64, 512))] + data[end:]
