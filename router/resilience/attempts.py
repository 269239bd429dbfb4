"""What one request may still try."""

from typing import Final

from router.base.errors import Retry

SENDS_MAX: Final = 3
FAILED_CONNECTS_MAX: Final = 2


class AttemptBudget:
    """At most three sends and two failed connects, each to another deployment, and one free resend of a stale one."""

    __slots__ = ("failed_connects", "sends", "single_send", "stale_resent")

    def __init__(self, *, single_send: bool) -> None:
        self.sends = 0
        self.failed_connects = 0
        self.stale_resent = False
        self.single_send = single_send  # an explicit `store: true` leaves something behind: never sent twice

    @property
    def allows_another(self) -> bool:
        """One more send may follow the one that runs, if that fails."""
        return self.sends + 1 < SENDS_MAX and not self.single_send

    def allows_resend(self) -> bool:
        """A reused connection died without one answer byte: once more on a fresh one, and free."""
        if self.stale_resent or self.single_send:
            return False
        self.stale_resent = True
        return True

    def failed(self, retry: Retry) -> bool:
        """Counts an attempt that failed; returns whether another deployment may be tried."""
        if retry is Retry.NEVER:
            return False
        if retry is Retry.SAFE:
            self.failed_connects += 1
            return self.failed_connects <= FAILED_CONNECTS_MAX
        self.sends += 1
        return self.sends < SENDS_MAX and not self.single_send
