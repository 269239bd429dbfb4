"""Chunked framing as we write it."""

from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(payload: bytes) -> bytes:
    """Frames payload (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)
