"""Counts offers, and what became of them, by whatever the reader asks for."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from router.accounting.chain import Record
from router.model.decision import ACCEPTED, REFUSALS, Decision, Leave, Offer

_Part = Callable[[Leave | Decision, Offer], str]


def _hour(record: Leave | Decision, _: Offer) -> str:
    return datetime.fromtimestamp(record.at // 3600 * 3600, UTC).strftime("%Y-%m-%dT%H:00Z")


PARTS: Final[Mapping[str, _Part]] = MappingProxyType(
    {
        "cloud": lambda _, offer: offer.cloud,
        "deployment": lambda _, offer: offer.deployment,
        "workload": lambda record, _: record.workload,
        "model": lambda record, _: record.model,
        "hour": _hour,
    }
)
"""What rows can be made by."""


class Row:
    """What was offered to one cloud, in one hour, ..., and what became of it."""

    __slots__ = ("offers", "outcomes", "requests")

    def __init__(self) -> None:
        self.requests = 0  # that were offered at least once
        self.offers = 0
        self.outcomes: Counter[str] = Counter()

    @property
    def accepted(self) -> int:
        return self.outcomes[ACCEPTED]

    @property
    def refused(self) -> int:
        return sum(self.outcomes[reason] for reason in REFUSALS)


class RefusalReport:
    """Rows by `parts` (of `PARTS`), of the requests that arrived at `since` (wall seconds) or later."""

    def __init__(self, parts: Sequence[str], since: float) -> None:
        self.parts = tuple(parts)
        self._of = tuple(PARTS[part] for part in parts)
        self._since = since
        self._rows: dict[tuple[str, ...], Row] = {}
        self._left: dict[str, Leave] = {}

    def read(self, record: Record) -> None:
        """Takes the next record of one writer."""
        if type(record) is Decision:
            self._left.pop(record.request, None)
            self._count(record)
        elif type(record) is Leave:
            self._left[record.request] = record  # its offers stand in the decision again, if there is one

    def rows(self) -> list[tuple[tuple[str, ...], Row]]:
        """The rows in order, requests that have not ended included."""
        for leave in self._left.values():
            self._count(leave)
        self._left.clear()
        return sorted(self._rows.items())

    def _count(self, record: Leave | Decision) -> None:
        if record.at < self._since:
            return
        seen = set()
        for offer in record.offers:
            key = tuple(part(record, offer) for part in self._of)
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = Row()
            row.offers += 1
            row.outcomes[offer.outcome] += 1
            if key not in seen:
                seen.add(key)
                row.requests += 1
