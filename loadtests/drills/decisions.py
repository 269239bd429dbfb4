"""The decision log as a stranger reads it: by the form of its lines alone, with none of the router's code."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Departure:
    """A record that permits one request a send away from its holder. `offers`: deployment, cloud, outcome of each."""

    request: str
    sequence: int
    rule: str
    offers: tuple[tuple[str, str, str], ...]
    to: str
    to_cloud: str


def records(folder: Path) -> Iterator[tuple[int, list[Any]]]:
    """Every record with its sequence. A line is `<sequence> <JSON array> <hash>`; the rest of a segment is zero."""
    for file in sorted(folder.rglob("*.seg")):
        for line in file.read_bytes().rstrip(b"\0").splitlines():
            sequence, _, rest = line.partition(b" ")
            yield int(sequence), orjson.loads(rest.rpartition(b" ")[0])


def departures(folder: Path) -> dict[str, Departure]:
    """The first departure of each request, by the request's id."""
    found: dict[str, Departure] = {}
    for sequence, record in records(folder):
        if record[0] == "leave":
            _, request, _at, _key, _workload, _model, _operation, rule, _version, offers, to, to_cloud = record
            found.setdefault(request, Departure(request, sequence, rule, tuple(map(tuple, offers)), to, to_cloud))
    return found


def decisions(folder: Path) -> dict[str, list[Any]]:
    """The final record of each request, as its array, by the request's id."""
    return {record[1]: record for _, record in records(folder) if record[0] == "request"}
