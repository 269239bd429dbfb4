"""Azure's requests a minute, which it checks in slices of a second and of ten."""

from math import ceil, inf
from typing import Final, NamedTuple

# A little more than the slices: two sends may arrive nearer to each other than they left.
SECOND_S: Final = 1.005
TEN_S: Final = 10.01
SHARE_MIN: Final = 0.1
SHARE_AFTER_REFUSAL: Final = 0.93
SHARE_STEP: Final = 0.02  # given back every ten quiet seconds
PROBE_EVERY_S: Final = 5.0  # at first; twice as long after each that was refused
PROBE_EVERY_S_MAX: Final = 600.0
PROBES_TO_TRUST: Final = 4  # a send too many goes unnoticed where it falls into their next slice
VERDICT_S: Final = 2.0  # a refusal so soon after a probe is the probe's
LONG_AGO: Final = -1e9
SLOTS_AT_FIRST: Final = 1024  # a quota of millions a minute is mostly written so as never to be reached


class SlicesBelief(NamedTuple):
    """What is held of the slices at one moment. `sent`: by the second in which it was, the latest first."""

    rpm: int
    share: float
    blocked_s: float
    sent: tuple[int, ...]


class RequestSlices:
    """When the last sends were, in a ring that grows to as many as ten seconds have held, or may hold.

    Their slices begin when they like, so ours slide: where no ten seconds hold more than a slice, no slice does. The
    one-second slice is held from the start, and tried carefully, since some deployments have none.
    """

    __slots__ = (
        "_blocked_until",
        "_configured",
        "_hard_at",
        "_head",
        "_in_second",
        "_in_ten",
        "_past_second",
        "_past_ten",
        "_probe_at",
        "_probe_every_s",
        "_probed_at",
        "_probes",
        "_refused_at",
        "_review_at",
        "_ring",
        "_slots",
        "count",
        "free_at",
        "rpm",
        "share",
    )

    def __init__(self, rpm: int, now: float) -> None:
        self._configured = rpm
        self.rpm = rpm  # in force
        self.share = 1.0  # of it that is ours
        self.count = 0  # sends of our own, ever
        self._slots = max(1, rpm // 6)
        self._ring = [LONG_AGO] * min(self._slots, SLOTS_AT_FIRST)  # never forgets one of the last ten seconds
        self._head = 0  # where the next send is written: on the oldest
        self._in_ten = self._in_second = 1
        self._past_ten = self._past_second = 1  # likewise, as far as the ring goes back
        self.free_at = self._hard_at = self._blocked_until = self._probed_at = self._refused_at = LONG_AGO
        self._probes = 0  # since the last that was refused
        self._probe_every_s = PROBE_EVERY_S
        self._probe_at = now + PROBE_EVERY_S
        self._review_at = now + 10.0
        self._resize()

    def wait_s(self, now: float) -> float:
        """Seconds until one more passes; 0.0 at once from `free_at` on, and before it now and then for a probe."""
        if now >= self.free_at or (now >= self._probe_at and now >= self._hard_at):
            return 0.0
        return self.free_at - now

    def sent(self, now: float) -> None:
        if self._probe_at <= now < self.free_at:
            self._probed(now)
        self.count += 1
        ring, head = self._ring, self._head
        ring[head] = now
        head += 1
        self._head = head = head if head < len(ring) else 0
        if now - ring[head] < TEN_S and len(ring) < self._slots:
            self._grow()
        # The next passes as soon as the oldest that a slice may hold is out of it.
        hard_at = ring[head - self._past_ten] + TEN_S
        if hard_at < self._blocked_until:
            hard_at = self._blocked_until
        free_at = ring[head - self._past_second] + SECOND_S
        if free_at < hard_at:
            free_at = hard_at
        self._hard_at, self.free_at = hard_at, free_at
        if now >= self._review_at:
            self._review(now)

    def sent_elsewhere(self, count: int, now: float) -> None:
        """Another process of ours sent so many a moment ago. Its probes are its own, and so is what they teach."""
        ring, head = self._ring, self._head
        for _ in range(min(count, self._slots) - 1):
            ring[head] = now
            self._head = head = head + 1 if head + 1 < len(ring) else 0
            if now - ring[head] < TEN_S and len(ring) < self._slots:
                self._grow()
        probe_at, self._probe_at = self._probe_at, inf
        self.sent(now)
        self._probe_at = probe_at
        self.count -= 1

    def belief(self, now: float) -> SlicesBelief:
        sent = [0] * ceil(TEN_S)
        for at in self._ring:
            if now - at < TEN_S:
                sent[max(0, int(now - at))] += 1
        return SlicesBelief(self.rpm, self.share, max(0.0, self._blocked_until - now), tuple(sent))

    def believe(self, belief: SlicesBelief, now: float) -> None:
        """Begins with what another process of ours has learned; for one that has sent nothing yet."""
        self.limit(belief.rpm)
        self.share = belief.share
        self._resize()
        for age_s, count in reversed(tuple(enumerate(belief.sent))):
            if count:
                self.sent_elsewhere(count, now - age_s)
        if belief.blocked_s > 0.0:
            self.block(belief.blocked_s, now)

    def left(self, now: float) -> int:
        """How many more the ten-second slice holds."""
        return max(0, self._in_ten - sum(now - at < TEN_S for at in self._ring))

    def filled(self, now: float) -> float:
        """How full the fuller slice is, in tenths; 1.0 at its limit."""
        ring, head = self._ring, self._head
        for tenths in range(10, 0, -1):
            second, ten = max(1, self._in_second * tenths // 10), max(1, self._in_ten * tenths // 10)
            second, ten = min(second, len(ring)), min(ten, len(ring))
            if ring[head - second] + SECOND_S > now or ring[head - ten] + TEN_S > now:
                return tenths / 10
        return 0.0

    def block(self, wait_s: float, now: float) -> None:
        """Nothing passes for so long: they say that the slice is used up."""
        self._blocked_until = max(self._blocked_until, now + min(wait_s, TEN_S))
        self._hard_at = max(self._hard_at, self._blocked_until)
        self.free_at = max(self.free_at, self._blocked_until)

    def limit(self, rpm: int) -> None:
        """Another limit may be in force; a higher one than the configured is not used."""
        rpm = min(rpm, self._configured)
        if rpm != self.rpm:
            self.rpm = rpm
            self._resize()

    def refused(self, wait_s: float | None, now: float) -> None:
        """A 429 for requests, which we thought would pass."""
        self.block(1.0 if wait_s is None else wait_s, now)
        if now < self._refused_at + 1.0:
            return  # of the same slice
        self._refused_at = now
        if now < self._probed_at + VERDICT_S or self._probes:
            self._probe_every_s = min(2 * self._probe_every_s, PROBE_EVERY_S_MAX)
            self._probe_at = now + self._probe_every_s
        else:
            self.share = max(SHARE_MIN, self.share * SHARE_AFTER_REFUSAL)
        self._probes = 0
        self._resize()

    def _probed(self, now: float) -> None:
        """A send beyond the second's slice goes out. After some that nobody minded the slice is taken for wider."""
        self._probed_at = now
        self._probe_at = now + self._probe_every_s
        self._probes += 1
        if self._probes > PROBES_TO_TRUST:
            self._probes = 0
            self._in_second = min(self._in_ten, self._in_second + max(1, self._in_second // 2))
            self._aim()

    def _review(self, now: float) -> None:
        self._review_at = now + 10.0
        if self.share < 1.0 and now > self._refused_at + 10.0:
            self.share = min(1.0, self.share + SHARE_STEP)
            widened = self._in_second
            self._resize()
            self._in_second = max(self._in_second, min(widened, self._in_ten))
            self._aim()

    def _resize(self) -> None:
        self._in_ten = max(1, int(self.rpm * self.share) // 6)
        self._in_second = max(1, int(self.rpm * self.share) // 60)
        self._aim()

    def _grow(self) -> None:
        """Makes room before the next send would overwrite one that still counts; the new places are the oldest."""
        self._ring[self._head : self._head] = [LONG_AGO] * min(len(self._ring), self._slots - len(self._ring))
        self._aim()

    def _aim(self) -> None:
        """Where a ring does not go back so far, its oldest is older than ten seconds, so a slice has room."""
        self._past_ten = min(self._in_ten, len(self._ring))
        self._past_second = min(self._in_second, len(self._ring))
