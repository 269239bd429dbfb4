"""What one request, one chunk and one open stream cost: read from the results that are committed, never typed in."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

RESULTS: Final = Path(__file__).parents[1] / "results"
_MODES: Final = ("json-1k", "tls-json-1k", "stream-paced", "stream-50", "streams-5000")


@dataclass(frozen=True, slots=True)
class Costs:
    """Of the router, on the machine that the results were measured on."""

    request_us: float  # CPU of a 1 KB request
    tls_request_us: float  # the same with TLS to the upstream
    cold_chunk_us: float  # CPU of a relayed chunk that comes alone: 200 streams on a core
    warm_chunk_us: float  # of one that comes with others
    stream_kib: float  # memory of an open stream
    stored_per_s: float  # requests that the bookkeeper puts into the slower of the two stores
    files: tuple[str, ...]  # where that stands


def measured(folder: Path = RESULTS, only: Iterable[str] = ()) -> Costs:
    """From the newest file of each mode, or of those named. Raises LookupError where one is missing."""
    named = set(only)
    found: dict[str, tuple[str, Any]] = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stem[-17:]):  # the second that each name ends in
        if named and path.name not in named:
            continue
        document = orjson.loads(path.read_bytes())
        for mode in document.get("modes", ()):
            if "router" in mode["median"]:
                found[mode["name"]] = path.name, mode["median"]["router"]["median"]
        for database in document.get("databases", ()):
            found[f"ledger {database['database']}"] = path.name, database["again"]["requests_per_s"]
    stores = [key for key in found if key.startswith("ledger ")]
    if missing := [mode for mode in _MODES if mode not in found] or ([] if stores else ["ledger"]):
        raise LookupError(f"{folder} has no result of {', '.join(missing)}")
    files = tuple(sorted({found[mode][0] for mode in (*_MODES, *stores)}))
    request, tls_request, cold, warm, stream = (float(found[mode][1]) for mode in _MODES)
    return Costs(request, tls_request, cold, warm, stream, min(float(found[key][1]) for key in stores), files)
