"""Azure's requests a minute, which it checks in slices of a second and of ten."""

from typing import Final

SECOND_S: Final = 1.02  # and a little: two sends a second apart may arrive nearer to each other
TEN_S: Final = 10.05
SHARE_MIN: Final = 0.1
SHARE_AFTER_REFUSAL: Final = 0.93
SHARE_STEP: Final = 0.02  # given back every ten quiet seconds
PROBE_EVERY_S: Final = 5.0  # at first; twice as long after each that was refused
PROBE_EVERY_S_MAX: Final = 600.0
PROBES_TO_TRUST: Final = 4  # a send too many goes unnoticed where it falls into their next slice


class RequestSlices:
    """When the last sends were, in a ring of as many as ten seconds may hold.

    Their slices begin when they like, so ours slide: where no ten seconds hold more than a slice, no slice does. The
    one-second slice is held from the start, and tried carefully, since some deployments have none.
    """

    __slots__ = (
        "_blocked_until",
        "_head",
        "_in_second",
        "_in_ten",
        "_probe_at",
        "_probe_every_s",
        "_probes",
        "_refused_at",
        "_review_at",
        "_ring",
        "rpm",
        "share",
    )

    def __init__(self, rpm: int, now: float) -> None:
        self.rpm = rpm  # in force
        self.share = 1.0  # of it that is ours
        self._ring = [-60.0] * max(1, rpm // 6)
        self._head = 0  # where the next send is written
        self._in_ten = len(self._ring)
        self._in_second = max(1, rpm // 60)
        self._blocked_until = self._refused_at = now - 60.0
        self._probes = 0
        self._probe_every_s = PROBE_EVERY_S
        self._probe_at = now + PROBE_EVERY_S
        self._review_at = now + 10.0

    def wait_s(self, now: float) -> float:
        ring, head = self._ring, self._head
        second_s = ring[head - self._in_second] + SECOND_S - now
        ten_s = ring[head - self._in_ten] + TEN_S - now
        if second_s <= 0.0 >= ten_s and now >= self._blocked_until:
            return 0.0
        if ten_s <= 0.0 and now >= self._blocked_until and now >= self._probe_at:
            return 0.0
        return max(second_s, ten_s, self._blocked_until - now)

    def sent(self, now: float) -> None:
        ring, head = self._ring, self._head
        if ring[head - self._in_second] + SECOND_S > now >= self._probe_at:
            self._probed(now)
        ring[head] = now
        head += 1
        self._head = head if head < len(ring) else 0
        if now >= self._review_at:
            self._review(now)

    @property
    def left(self) -> int:
        """How many of the ten-second slice are not used, as of the last send."""
        newest = self._ring[self._head - 1]
        return self._in_ten - sum(newest - at < TEN_S for at in self._ring[-self._in_ten :])

    def filled(self, now: float) -> float:
        """How full the fuller slice is: 1.0 at its limit; in tenths."""
        ring, head = self._ring, self._head
        for tenths in range(10, 0, -1):
            second, ten = max(1, self._in_second * tenths // 10), max(1, self._in_ten * tenths // 10)
            if ring[head - second] + SECOND_S > now or ring[head - ten] + TEN_S > now:
                return tenths / 10
        return 0.0

    def block(self, wait_s: float, now: float) -> None:
        """Nothing passes for so long: they say that the slice is used up."""
        self._blocked_until = max(self._blocked_until, now + min(wait_s, TEN_S))

    def lower(self, rpm: int) -> None:
        """Another limit is in force than the one configured; never a higher one than the ring was made for."""
        self.rpm = min(rpm, 6 * len(self._ring))
        self._resize()

    def refused(self, wait_s: float | None, now: float) -> None:
        """A 429 for requests, which we thought would pass."""
        self.block(1.0 if wait_s is None else wait_s, now)
        if now < self._refused_at + 1.0:
            return  # of the same slice
        self._refused_at = now
        if self._probes or now < self._probe_at - self._probe_every_s + 2.0:
            self._probes = 0
            self._probe_every_s = min(2 * self._probe_every_s, PROBE_EVERY_S_MAX)
            self._probe_at = now + self._probe_every_s
        else:
            self.share = max(SHARE_MIN, self.share * SHARE_AFTER_REFUSAL)
        self._resize()

    def _probed(self, now: float) -> None:
        """A send beyond the second's slice goes out. After some that nobody minded the slice is taken for wider."""
        self._probe_at = now + self._probe_every_s
        self._probes += 1
        if self._probes > PROBES_TO_TRUST:
            self._probes = 0
            self._in_second = min(self._in_ten, self._in_second + max(1, self._in_second // 2))

    def _review(self, now: float) -> None:
        self._review_at = now + 10.0
        if self.share < 1.0 and now > self._refused_at + 10.0:
            self.share = min(1.0, self.share + SHARE_STEP)
            self._in_ten = max(1, int(self.rpm * self.share) // 6)

    def _resize(self) -> None:
        self._in_ten = min(len(self._ring), max(1, int(self.rpm * self.share) // 6))
        self._in_second = max(1, int(self.rpm * self.share) // 60)
