"""The text fields of a multipart form: where they stand, without decoding the files beside them."""

import re
from typing import Final

from router.base.errors import InvalidRequestError

_BOUNDARY: Final = re.compile(rb'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(rb'(?:^|[;\s])name="([^"]*)"', re.IGNORECASE)
_PART_HEAD_BYTES_MAX: Final = 8 << 10


def boundary_of(content_type: bytes) -> bytes:
    """Returns the form's boundary. Raises InvalidRequestError where the type is no form or names none."""
    kind = content_type.split(b";", 1)[0].strip().lower()
    found = _BOUNDARY.search(content_type)
    if kind != b"multipart/form-data" or found is None:
        raise InvalidRequestError(
            "This operation takes a multipart/form-data body with a boundary.", code="invalid_content_type"
        )
    return found[1] or found[2]


def text_fields(body: bytes | bytearray, boundary: bytes, names: frozenset[bytes]) -> dict[bytes, tuple[int, int]]:
    """Returns the byte spans of the wanted fields' values.

    Raises InvalidRequestError for a body that is not such a form, and where a wanted field stands twice.
    """
    delimiter = b"--" + boundary
    if not body.startswith(delimiter):
        raise InvalidRequestError("The body does not begin with the boundary of its content type.")
    spans: dict[bytes, tuple[int, int]] = {}
    start = len(delimiter)
    separator = b"\r\n" + delimiter
    while body[start : start + 2] == b"\r\n":
        # The blank line may follow the boundary at once, in a part without fields.
        head_end = body.find(b"\r\n\r\n", start)
        end = body.find(separator, max(head_end + 2, start))
        if head_end < 0 or end < 0 or head_end - start > _PART_HEAD_BYTES_MAX:
            raise InvalidRequestError("A part of the form is cut off or has no head.")
        name = _part_name(bytes(body[start + 2 : head_end]))
        if name in names:
            if name in spans:
                raise InvalidRequestError(
                    f"The field `{name.decode()}` stands more than once.", code="duplicate_key", param=name.decode()
                )
            spans[name] = (head_end + 4, max(end, head_end + 4))
        start = end + len(separator)
    if body[start : start + 2] != b"--":
        raise InvalidRequestError("The form does not end with its closing boundary.")
    return spans


def _part_name(head: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        field, _, value = line.partition(b":")
        if field.strip().lower() == b"content-disposition":
            found = _NAME.search(value)
            return found[1] if found is not None else b""
    return b""
