"""The last finished requests, kept for whoever asks what just happened.

Every request is added, so adding is an append to a ring and nothing else: whatever a reader wants is worked out when
one asks. One thread writes and reads.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

from router.model.outcome import RequestRecord

KEPT: Final = 2_000
"""Records, of about a kilobyte each."""


class Recent:
    """A ring of records. `add` takes one more: once a request, on the hot path."""

    __slots__ = ("_ring", "add")

    def __init__(self, kept: int = KEPT) -> None:
        self._ring: Final[deque[RequestRecord]] = deque(maxlen=kept)
        # The ring's own method: a function around it would cost twice as much as it does.
        self.add: Final[Callable[[RequestRecord], None]] = self._ring.append

    def __len__(self) -> int:
        return len(self._ring)

    def newest(self, count: int, wanted: Callable[[RequestRecord], bool] = bool) -> list[RequestRecord]:
        """The last ones to end, the newest first, as far as `wanted` says yes to them: to all, if it is not given."""
        return list(islice(filter(wanted, reversed(self._ring)), count))

    def find(self, request_id: str) -> RequestRecord | None:
        """By the router's own id, else the newest that its client gave this id."""
        theirs: RequestRecord | None = None
        for record in reversed(self._ring):
            if record.id == request_id:
                return record
            if theirs is None and record.client_request_id == request_id:
                theirs = record
        return theirs
