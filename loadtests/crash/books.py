"""What the ledger has after a run, read without the router: the store by SQL, the segments by their frames."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from router.accounting.entries import frames, walk
from router.base.segments import segments_in


@dataclass(frozen=True, slots=True)
class Books:
    """`stored`: of the database; `segments`: how often each id stands in the segments that are left."""

    stored: frozenset[str]
    counted: int  # requests, by the sums of the hours
    segments: Mapping[str, int]
    gaps: int  # places where a writer's sequence does not go on

    def missing(self, answered: Iterable[str]) -> list[str]:
        return sorted(set(answered) - self.stored - self.segments.keys())

    @property
    def doubled(self) -> int:
        """Requests that count twice, or stand twice in segments that are not stored yet."""
        return abs(self.counted - len(self.stored)) + sum(count - 1 for count in self.segments.values())


def read_books(folder: Path) -> Books:
    ids: Counter[str] = Counter()
    gaps = 0
    for writer in sorted(path for path in folder.iterdir() if path.is_dir()):
        last = 0
        for _, path in segments_in(writer):
            data = path.read_bytes()
            ids.update(record.id for _, records in walk(data) for record in records)
            for frame in frames(data):
                gaps += bool(last) and frame.sequence != last + 1
                last = frame.sequence
    stored, counted = _read_store(folder / "ledger.db")
    return Books(stored, counted, ids, gaps)


def _read_store(path: Path) -> tuple[frozenset[str], int]:
    if not path.exists():
        return frozenset(), 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        stored = frozenset(row[0] for row in database.execute("SELECT id FROM requests"))
        ((counted,),) = database.execute("SELECT coalesce(sum(requests), 0) FROM usage_hours")
    return stored, counted
