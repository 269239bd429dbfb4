"""What of a new configuration a running router cannot take over."""

import re
from pathlib import Path
from typing import Final

from router.config.faults import Fault
from router.config.snapshot import Snapshot

_OF_THE_PROCESS: Final = ("listen", "admin", "workers", "access_log", "admin_token", "cors_origins")


def unchangeable(file: Path, old: Snapshot, new: Snapshot) -> tuple[Fault, ...]:
    """What needs a restart, as faults of the new file."""
    changed = [f"server.{name}" for name in _OF_THE_PROCESS if getattr(old.server, name) != getattr(new.server, name)]
    if old.decision_log != new.decision_log:
        changed.append("decision_log")
    if old.redis != new.redis:
        changed.append("redis")
    if old.ledger != new.ledger:
        changed.append("ledger")
    if _exporter(old) != _exporter(new):
        changed.append("tracing")
    lines = new.source.text.splitlines()
    text = "cannot change in a reload; restart the router for it"
    return tuple(Fault(str(file), _line_of(path, lines), path, text) for path in changed)


def _exporter(snapshot: Snapshot) -> object:
    """What of tracing is set up once; what is sampled may change."""
    tracing = snapshot.tracing
    if tracing is None:
        return None
    return tracing.endpoint, tracing.headers, tracing.ca_file, tracing.service_name


def _line_of(path: str, lines: list[str]) -> int:
    """The line of a key that no other section has; that of its section, or 1, where it is left out."""
    for key in reversed(path.split(".")):
        for number, line in enumerate(lines, 1):
            if re.search(rf"""(?:^|[\s{{,"']){key}["']?\s*:""", line):
                return number
    return 1
