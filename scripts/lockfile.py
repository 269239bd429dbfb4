"""What a lock file holds: each package with its version and the hashes of its files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

_PIN: Final = re.compile(
    r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)(?P<rest>.*(?:\n[ \t]+.*)*)", re.MULTILINE
)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package. `hashes`: SHA-256, of each file that may be installed."""

    name: str
    version: str
    hashes: tuple[str, ...]


def read_lock(file: Path) -> Iterator[Pin]:
    """Raises ValueError for a package without a hash: pip would refuse it, and so does this."""
    for found in _PIN.finditer(file.read_text(encoding="utf-8")):
        pin = Pin(found["name"], found["version"], tuple(_HASH.findall(found["rest"])))
        if not pin.hashes:
            raise ValueError(f"{file.name}: {pin.name} has no hash")
        yield pin
