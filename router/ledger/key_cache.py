"""What was last known of the store's keys, in a file beside the segments, for a start while the store is away.

It holds digests and no secret. Whoever can write it can make keys, so it is its owner's alone.
"""

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from router.model.keys import StoredKey

NAME: Final = "keys.json"


def read_cache(folder: str) -> list[StoredKey] | None:
    """None: nothing is known. Raises OSError, and ValueError for what nobody of ours has written."""
    try:
        text = (Path(folder) / NAME).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(text, type=list[StoredKey])


def write_cache(folder: str, keys: Sequence[StoredKey]) -> None:
    """Whole or not at all, whatever happens meanwhile. Raises OSError."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    handle, written = tempfile.mkstemp(dir=place, prefix=f".{NAME}-")  # which nobody else may read
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(keys))
            file.flush()
            os.fsync(handle)
        Path(written).replace(place / NAME)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(written).unlink()
        raise
