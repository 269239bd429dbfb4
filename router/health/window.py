"""Counts of the last ten to twenty seconds, for a success rate."""

from typing import Final

WINDOW_S: Final = 10.0


class Window:
    """Two buckets: one fills while the other still counts. What fills them is two plain additions."""

    __slots__ = ("_bad_before", "_ok_before", "_since", "bad", "ok")

    def __init__(self) -> None:
        self._since = 0.0
        self.clear(0.0)

    def clear(self, now: float) -> None:
        self.ok = self.bad = self._ok_before = self._bad_before = 0
        self._since = now

    def roll(self, now: float) -> None:
        """Begins a new bucket where the current one is full. Called by the sweep, not by requests."""
        if now - self._since >= 2 * WINDOW_S:
            self.clear(now)
        elif now - self._since >= WINDOW_S:
            self._ok_before, self._bad_before, self.ok, self.bad = self.ok, self.bad, 0, 0
            self._since = now

    @property
    def served(self) -> int:
        """The successes."""
        return self.ok + self._ok_before

    @property
    def requests(self) -> int:
        return self.ok + self.bad + self._ok_before + self._bad_before

    @property
    def rate(self) -> float:
        """The share of successes; 1.0 where there was nothing."""
        requests = self.requests
        return self.served / requests if requests else 1.0
