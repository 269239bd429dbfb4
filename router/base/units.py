"""Sizes as people write them."""

import re
from typing import Final

_SIZE: Final = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?")
_FACTOR: Final = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_bytes(text: str | int) -> int:
    """Turns `64MiB`, `512 KiB` or a plain number into bytes. Raises ValueError with what is allowed."""
    if isinstance(text, int):
        if isinstance(text, bool) or text < 0:
            raise ValueError(f"{text!r} is not a size: write bytes, or a number with KiB, MiB or GiB")
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size: write bytes, or a number with KiB, MiB or GiB")
    return int(match[1]) * _FACTOR[match[2]]
