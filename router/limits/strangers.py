"""How often a source may show a wrong credential: what is beyond that is not looked into.

It counts failures only. Whoever shows the right credential is nobody's business here, so a client is not kept out by
others behind the same address; whether to hear a source at all that has failed too often is for the caller to say.
"""

from typing import Final

from router.base.addresses import source_of
from router.limits.bucket import Bucket

SOURCES_MAX: Final = 4096


class Strangers:
    """Failures by source. The table is bounded: where it is full, the source that failed longest ago is forgotten."""

    __slots__ = ("_burst", "_per_s", "_sources", "_sources_max", "unheard")

    def __init__(self, burst: int, per_s: float, sources_max: int = SOURCES_MAX) -> None:
        """A source may fail `burst` times at once, and `per_s` times a second for ever."""
        self._burst, self._per_s, self._sources_max = burst, per_s, sources_max
        self._sources: dict[str, Bucket] = {}  # in the order of their last failures
        self.unheard = 0  # since the start

    def failed(self, address: str, now: float) -> float:
        """Counts one failure. Returns 0.0, or the seconds until the next one is within bounds; this one was not."""
        source = source_of(address)
        bucket = self._sources.pop(source, None) or Bucket(self._per_s, self._burst)
        self._sources[source] = bucket
        if len(self._sources) > self._sources_max:
            del self._sources[next(iter(self._sources))]
        wait_s = bucket.take(1, now)
        self.unheard += wait_s > 0.0
        return wait_s

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until the source may try again; 0.0: now. Nothing is counted, unless it has to wait."""
        bucket = self._sources.get(source_of(address))
        if bucket is None:
            return 0.0
        wait_s = bucket.take(1, now)
        if wait_s > 0.0:
            self.unheard += 1
        else:
            bucket.put(1, now)
        return wait_s

    def __len__(self) -> int:
        return len(self._sources)
