"""Percent-encoding of request targets."""

from urllib.parse import quote


def encode_path(path: str) -> bytes:
    """Encodes a configured path: what is encoded already stays, slashes stay."""
    return quote(path, safe="/%:@!$&'()*+,;=-._~").encode()


def encode_segment(text: str) -> bytes:
    """Encodes free text as one path segment or one query value."""
    return quote(text, safe="").encode()
