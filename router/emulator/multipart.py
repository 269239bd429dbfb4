"""Reads multipart/form-data, strictly: what is not exactly well formed is refused."""

import re
from typing import Final

_BOUNDARY: Final = re.compile(r'multipart/form-data\s*;.*?\bboundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(rb'(?:^|;)\s*name="([^"]*)"')
_FILENAME: Final = re.compile(rb'(?:^|;)\s*filename="([^"]*)"')


class MultipartError(ValueError):
    """The body is not the multipart that its content type says."""


def parse_multipart(content_type: str, body: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """Returns the text fields and the files by name; a name that comes twice keeps its last value.

    Raises MultipartError.
    """
    match = _BOUNDARY.match(content_type)
    if match is None:
        raise MultipartError("the content type names no boundary")
    delimiter = b"\r\n--" + (match[1] or match[2]).encode()
    pieces = (b"\r\n" + body).split(delimiter)
    if len(pieces) < 2 or pieces[0] not in (b"", b"\r\n") or pieces[-1].rstrip(b"\r\n") != b"--":
        raise MultipartError("the parts do not begin and end with the boundary")
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for piece in pieces[1:-1]:
        head, blank, content = piece.partition(b"\r\n\r\n")
        if not blank or not head.startswith(b"\r\n"):
            raise MultipartError("a part has no head")
        disposition = _disposition(head)
        name = _NAME.search(disposition)
        if name is None:
            raise MultipartError("a part has no name")
        if _FILENAME.search(disposition):
            files[name[1].decode()] = content
        else:
            fields[name[1].decode()] = content.decode()
    return fields, files


def _disposition(head: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            return value.strip().removeprefix(b"form-data")
    raise MultipartError("a part has no content-disposition")
