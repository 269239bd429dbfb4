"""The text fields of a multipart form: where they stand, without decoding the files beside them.

What two readers could take for two forms is refused: the deployment must see the fields that were routed by.
"""

import re
from typing import Final

from router.base.errors import InvalidRequestError

PARTS_MAX: Final = 1000
_PART_HEAD_BYTES_MAX: Final = 8 << 10
_HEADS_BYTES_MAX: Final = 256 << 10  # of all parts: some 30 ms at the most
_BOUNDARY_BYTES_MAX: Final = 70
_EPILOGUE_BYTES_MAX: Final = 8
# Parameters of a header's value, one after the other, so that nothing inside quotes is taken for one.
_PARAMETER: Final = re.compile(rb';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')
_DISPOSITION: Final = re.compile(rb"[ \t]*[^\s;=\"]+[ \t]*(?:" + _PARAMETER.pattern + rb"[ \t]*)*+")
_NO_LETTER: Final = re.compile(rb"[^a-z]")
_PLAIN_ENCODINGS: Final = (b"7bit", b"8bit", b"binary")
_ESCAPE: Final = re.compile(rb"\\(.)")


def boundary_of(content_type: bytes) -> bytes:
    """Returns the form's boundary. Raises InvalidRequestError where the type is no form, or names none or several."""
    kind = content_type.partition(b";")[0].strip().lower()
    boundaries = _values(content_type, b"boundary")
    if kind != b"multipart/form-data" or len(boundaries) != 1 or not 0 < len(boundaries[0]) <= _BOUNDARY_BYTES_MAX:
        raise InvalidRequestError(
            "This operation takes a multipart/form-data body with a boundary.", code="invalid_content_type"
        )
    return boundaries[0]


def text_fields(body: bytes | bytearray, boundary: bytes, names: frozenset[bytes]) -> dict[bytes, tuple[int, int]]:
    """Returns the byte spans of the wanted fields' values.

    Raises InvalidRequestError for a body that is not such a form, and where a wanted field stands twice.
    """
    delimiter = b"--" + boundary
    if not body.startswith(delimiter):
        raise _bad_form("The body does not begin with the boundary of its content type.")
    spans: dict[bytes, tuple[int, int]] = {}
    start = len(delimiter)
    separator = b"\r\n" + delimiter
    parts = heads = 0
    while body[start : start + 2] == b"\r\n":
        parts += 1
        if parts > PARTS_MAX:
            raise _bad_form(f"The form has more than {PARTS_MAX} parts.")
        # The blank line may follow the boundary at once, in a part without fields.
        head_end = body.find(b"\r\n\r\n", start)
        end = body.find(separator, max(head_end + 2, start))
        if head_end < 0 or end < 0 or head_end - start > _PART_HEAD_BYTES_MAX:
            raise _bad_form("A part of the form is cut off or has no head.")
        heads += head_end - start
        if heads > _HEADS_BYTES_MAX:
            raise _bad_form("The heads of the form's parts are too long.")
        name = _part_name(bytes(body[start + 2 : head_end]))
        if name not in names and _NO_LETTER.sub(b"", name.lower()) in names:
            raise _bad_form("The name of a part could be read as that of a field which the router reads.")
        if name in names:
            if name in spans:
                raise InvalidRequestError(
                    f"The field `{name.decode()}` stands more than once.", code="duplicate_key", param=name.decode()
                )
            spans[name] = (head_end + 4, max(end, head_end + 4))
        start = end + len(separator)
    rest = bytes(body[start : start + 2 + _EPILOGUE_BYTES_MAX + 1])
    if rest[:2] != b"--" or len(rest) > 2 + _EPILOGUE_BYTES_MAX or rest[2:].strip(b"\r\n"):
        raise _bad_form("The form does not end with its closing boundary.")
    if body.count(delimiter) != parts + 1:  # some readers end a line with LF alone
        raise _bad_form("The form's boundary stands where no part begins.")
    return spans


def _part_name(head: bytes) -> bytes:
    found: list[bytes] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") or b"\n" in line or b"\r" in line:
            raise _bad_form("A line of a part's head is folded, or does not end with CR LF.")
        field, _, value = line.partition(b":")
        field = field.strip().lower()
        if field == b"content-transfer-encoding" and value.strip().lower() not in _PLAIN_ENCODINGS:
            raise _bad_form("A part of the form is encoded.")
        if field == b"content-disposition":
            if _DISPOSITION.fullmatch(value) is None or b"=?" in value:
                raise _bad_form("A part's Content-Disposition cannot be read in one way only.")
            found += _values(value, b"name")
            if _values(value, b"name*"):
                raise _bad_form("The name of a part is encoded.")
    if len(found) > 1:
        raise _bad_form("A part of the form has more than one name.")
    return found[0] if found else b""


def _values(text: bytes, name: bytes) -> list[bytes]:
    return [
        _ESCAPE.sub(rb"\1", quoted) or bare for key, quoted, bare in _PARAMETER.findall(text) if key.lower() == name
    ]


def _bad_form(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="invalid_form")
