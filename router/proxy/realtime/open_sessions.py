"""The sessions that are open in this process, and what has passed through all that ever were."""

from typing import Protocol

from router.telemetry import names
from router.telemetry.reading import Labels, Number, Numbers


class OpenSession(Protocol):
    """One that is to hear of changes."""

    def recheck(self) -> None:
        """The configuration has changed: what it was allowed may not be allowed any more."""
        ...


class OpenSessions:
    """Counts are by operation; messages and bytes by direction too, as clients see it: `in` is what they sent."""

    def __init__(self) -> None:
        self._open: dict[OpenSession, str] = {}  # with their operations
        self._ended: dict[Labels, Number] = {}  # by operation and by how
        self._messages: dict[Labels, Number] = {}
        self._bytes: dict[Labels, Number] = {}

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, session: OpenSession, operation: str) -> None:
        self._open[session] = operation

    def ended(self, session: OpenSession, how: str) -> None:
        ended = self._open.pop(session), how
        self._ended[ended] = self._ended.get(ended, 0) + 1

    def passed(self, operation: str, direction: str, size: int) -> None:
        """One message."""
        what = operation, direction
        self._messages[what] = self._messages.get(what, 0) + 1
        self._bytes[what] = self._bytes.get(what, 0) + size

    def recheck(self) -> None:
        for session in tuple(self._open):
            session.recheck()

    def numbers(self) -> Numbers:
        open_ones: dict[Labels, Number] = {}
        for operation in self._open.values():
            open_ones[operation,] = open_ones.get((operation,), 0) + 1
        return {
            names.SESSIONS_OPEN.name: open_ones,
            names.SESSIONS_ENDED.name: dict(self._ended),
            names.SESSION_MESSAGES.name: dict(self._messages),
            names.SESSION_BYTES.name: dict(self._bytes),
        }
