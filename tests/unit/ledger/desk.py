"""What a ledger's writer has around it in a test: a loop's inbox, a log of events, and its folder."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from router.accounting.entries import frames, walk
from router.base.segments import segments_in
from router.ledger.settings import LedgerSettings
from router.ledger.writer import LedgerWriter
from router.model.outcome import AttemptRecord, RequestRecord, Usage

SEGMENT = 64 << 10


def record(number: int, **changes: Any) -> RequestRecord:
    attempt = AttemptRecord("azure-1/ptu", "azure", "served", 200, usage=Usage(100, 20), cost_nano_usd=number)
    fields = {"id": f"r{number}", "at": 10.0 + number, "outcome": "ok", "status": 200, "total_ms": 1.0}
    return RequestRecord(**{**fields, "key": "acme", "attempts": (attempt,), "cost_nano_usd": number, **changes})


class Desk:
    """What a writer has around it: a loop's inbox, and a log of events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[tuple[str, dict[str, object]]] = []
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._open: list[LedgerWriter] = []

    def call_soon_threadsafe(self, call: Callable[..., object], *args: object) -> None:
        self._calls.append((call, args))

    def turn(self) -> None:
        while self._calls:
            call, args = self._calls.popleft()
            call(*args)

    def until(self, condition: Callable[[], object], within_s: float = 10.0) -> None:
        end = time.monotonic() + within_s
        while self.turn() or not condition():
            assert time.monotonic() < end
            time.sleep(0.001)

    def event(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))

    def writer(self, name: str = "0", **changes: Any) -> LedgerWriter:
        options = {"segment_bytes": SEGMENT, "keep_bytes": 64 * SEGMENT, **changes}
        settings = LedgerSettings(str(self.folder), **options)
        made = LedgerWriter(settings, self, writer=name, event=self.event)  # type: ignore[arg-type]
        self._open.append(made)
        return made

    def close(self) -> None:
        for each in self._open:
            each.close()

    def ids(self, name: str = "0") -> list[str]:
        return [
            each.id
            for _, path in segments_in(self.folder / name)
            for _, records in walk(path.read_bytes())
            for each in records
        ]

    def sequences(self, name: str = "0") -> list[int]:
        return [each.sequence for _, path in segments_in(self.folder / name) for each in frames(path.read_bytes())]


def ends_of(path: Path) -> list[int]:
    """Where the last frame of a segment ends, if it has any."""
    return [each.end for each in frames(path.read_bytes())][-1:]


def write(ledger: LedgerWriter, numbers: range, a_turn: int = 1) -> None:
    for number in numbers:
        ledger.add(record(number))
        if number % a_turn == 0:
            ledger.commit()
    ledger.commit()


def names(numbers: range) -> list[str]:
    return [f"r{number}" for number in numbers]
