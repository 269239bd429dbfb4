"""Azure's tokens a minute: a counter that starts again each minute, at a moment and by an estimate that are theirs.

What we believe of it is a level (how much of the minute is used), moved by our own charges and by a steady drain of
others on the same quota, and corrected by what each answer says is left.
"""

from collections import deque
from typing import Final, NamedTuple

from router.limits.drift import Drift
from router.limits.rate_headers import ROUNDING_S

MINUTE_S: Final = 60.0
MARGIN_MIN: Final = 0.02  # of the limit stays unused: sends on their way, others' bursts
MARGIN_MAX: Final = 0.08
MARGIN_STEP: Final = 0.03  # more after a 429 in spite of what answers said was left
MARGIN_KEPT: Final = 0.9  # of what is above the least, each quiet minute
DEADBAND: Final = 0.01  # of the limit: what a lag that is known to a second only may explain
JUMP: Final = 0.25  # of the limit, within an answer's time: their counter started again, or the answer is from before
JUMPS: Final = 3  # answers that say so are believed
LATE_S: Final = 10.0  # after a minute's begin there are such answers
MARK_S: Final = 0.25  # how finely it is remembered what was charged when
MARKS: Final = 256  # a minute of them, and a little
LAG_S_MAX: Final = 20.0  # older figures are not compared
PHASE_MOVED_S: Final = 5.0  # a 429 that puts the minute's end so far away from ours is believed
SATURATED: Final = 0.97  # of the limit: who is refused there is not seen to drain
TOO_MUCH: Final = 0.05  # of the limit: we think so much more used than told. Less may be an answer's own way to us
SETTLE: Final = 0.2  # share of the rest that is taken back by each answer
PHASE_KNOWN_S: Final = 2.0  # of a beginning minute in which a 429 says that ours begins too early
SHARE_MIN: Final = 0.05
SHARE_MAX: Final = 2.0
SHARE_AFTER_REFUSAL: Final = 0.97  # of the share at which it came
HOLD_MINUTES: Final = 5  # of peace after a refusal, before more is tried; twice as long where it comes again
HOLD_MINUTES_MAX: Final = 20
SAME: Final = 0.1  # two ceilings so near to each other are one
STEP_FIRST: Final = 0.02  # more of the limit each minute, doubled while nothing happens
STEP_MAX: Final = 0.2
FORGET: Final = 0.1  # of what was learned and not needed, each minute


class MinuteBelief(NamedTuple):
    """What is held of a minute at one moment. Times are monotonic seconds."""

    limit: int
    share: float
    start: float
    reset_at: float
    phase_known: bool
    level: float


class TokenMinute:
    """One quota's. Tokens are charged by our estimate and counted in theirs, as far as `factor` is known."""

    __slots__ = (
        "_at",
        "_calm_minutes",
        "_cap",
        "_ceiling",
        "_headers_seen",
        "_hold_minutes",
        "_jumps",
        "_latest_s",
        "_level",
        "_limited",
        "_margin",
        "_mark_at",
        "_marks",
        "_phase_known",
        "_refused",
        "_reset_at",
        "_start",
        "_step",
        "charged",
        "drift",
        "limit",
        "share",
        "tpm",
    )

    def __init__(self, tpm: int, now: float) -> None:
        self.tpm = tpm  # configured
        self.limit = tpm  # in force
        self.share = 1.0  # of the limit that can be used, learned where no headers tell
        self.charged = 0.0  # by our own estimate, ever
        self._marks: deque[tuple[float, float]] = deque(maxlen=MARKS)
        self._mark_at = now
        self.drift = Drift(tpm / MINUTE_S)
        self._margin = MARGIN_MIN
        self._cap = tpm * (1.0 - MARGIN_MIN)
        self._start, self._reset_at = now, now + MINUTE_S
        self._phase_known = False
        self._level, self._at = 0.0, now
        self._latest_s = MINUTE_S  # how much later than ours a minute may end, by the answers of this one
        self._headers_seen = self._limited = self._refused = False
        self._jumps = 0
        self._calm_minutes = self._hold_minutes = HOLD_MINUTES
        self._ceiling = 0.0  # share at which the last refusal came
        self._step = STEP_FIRST

    def wait_s(self, tokens: int, now: float) -> float:
        if now >= self._reset_at:
            self._roll(now)
        drift = self.drift
        level = self._level + (now - self._at) * drift.drain
        # More than a whole minute's is offered to an empty one: nobody but they can say whether it passes.
        if level + tokens * drift.factor <= self._cap or level <= 0.0:
            return 0.0
        self._limited = True
        return self._reset_at - now

    def ends_at(self, now: float) -> float:
        if now >= self._reset_at:
            self._roll(now)
        return self._reset_at

    def charge(self, tokens: int, now: float) -> None:
        if now >= self._reset_at:
            self._roll(now)
        if now >= self._mark_at:
            self._marks.append((now, self.charged))
            self._mark_at = now + MARK_S
        self.charged += tokens
        self._level += tokens * self.drift.factor

    def refund(self, tokens: int, now: float) -> None:
        """Takes back what they did not count, of a charge a moment ago."""
        if now >= self._reset_at:
            self._roll(now)
        self.charged -= tokens
        self._level = max(0.0, self._level - tokens * self.drift.factor)

    def left(self, now: float) -> float:
        if now >= self._reset_at:
            self._roll(now)
        return max(0.0, self._cap - self._level - (now - self._at) * self.drift.drain)

    def belief(self, now: float) -> MinuteBelief:
        if now >= self._reset_at:
            self._roll(now)
        level = self._level + (now - self._at) * self.drift.drain
        return MinuteBelief(self.limit, self.share, self._start, self._reset_at, self._phase_known, level)

    def believe(self, belief: MinuteBelief, now: float) -> None:
        """Begins with what another process of ours has learned; for one that knows nothing yet."""
        self.limit = min(belief.limit, self.tpm)
        self._scale(belief.share, self._margin)
        self._phase_known = belief.phase_known
        self._begin(belief.start, belief.reset_at)
        self._level, self._at = max(self._level, belief.level), now

    def filled(self, now: float) -> float:
        """Share of what may be used that is used."""
        return 1.0 - self.left(now) / self._cap if self._cap > 0.0 else 1.0

    def told(self, limit: int | None, remaining: int | None, reset_s: float | None, now: float) -> None:
        """An answer says what was left when its figures were made, and maybe how long before their reset that was.

        `remaining`: None for a refusal, which says when and not how much: `refused` asks what we thought before it.
        """
        if now >= self._reset_at:
            self._roll(now)
        # A higher limit than the configured one is not used: the rest may be meant for others.
        in_force = min(limit or self.tpm, self.tpm)
        if in_force != self.limit:
            self.limit = in_force
            self._scale(self.share, self._margin)
        lag_s = self._lag(reset_s, now)
        if remaining is None:
            return
        self._headers_seen = True
        used = float(max((limit or self.tpm) - remaining, 0))
        if lag_s is None:
            self._told_sometime(used, now)
        elif -PHASE_KNOWN_S <= lag_s < LAG_S_MAX:  # else it is from the minute before, or too old to be compared
            self._told_then(used, max(0.0, lag_s - ROUNDING_S / 2), now)

    def _told_then(self, used: float, lag_s: float, now: float) -> None:
        """`lag_s` ago they had counted `used`. More is believed at once, less by and by."""
        drift = self.drift
        charged = self._charged_by(now - lag_s)
        level = self._level + (now - self._at) * drift.drain
        error = used + (self.charged - charged) * drift.factor + lag_s * drift.drain - level
        slack, too_much = DEADBAND * self.limit, TOO_MUCH * self.limit
        if error > slack:
            self._level, self._at = level + error - slack, now
        elif error < -too_much:
            self._level, self._at = level + SETTLE * (error + too_much), now
        if used < SATURATED * self.limit:
            drift.add(used, charged, now - lag_s)

    def _told_sometime(self, used: float, now: float) -> None:
        """They had counted `used` some time before now, so that less than we think says little."""
        jump = used - self._level - (now - self._at) * self.drift.drain
        if jump > JUMP * self.limit:
            self._jumps += 1
            if now < self._start + LATE_S or self._jumps < JUMPS:
                return
        self._jumps = 0
        if jump < -JUMP * self.limit:
            if not self._phase_known:
                self._begin(now, now + MINUTE_S)
            self._level, self._at = used, now
        elif jump > 0.0:
            self._level, self._at = self._level + jump, now
        if not self._limited:  # once we stop, a lag and a drain look the same
            self.drift.add(used, self.charged, now)

    def refused(self, wait_s: float | None, now: float) -> None:
        """A 429 for tokens, which we thought would pass."""
        if now >= self._reset_at:
            self._roll(now)
        early = now - self._start < PHASE_KNOWN_S and self._phase_known
        if wait_s is not None and 0.0 < wait_s < MINUTE_S:
            self._ends_at(now + wait_s)
        elif not self._phase_known:
            self._level = max(self._level, self._charged_since(now - MINUTE_S))
        filled = self.filled(now)
        if filled < 1.0 and not early:
            self._refused = True
            self._calm_minutes, self._step = 0, STEP_FIRST
            if self._headers_seen and filled > 1.0 - MARGIN_MAX:
                self._scale(self.share, min(self._margin + MARGIN_STEP, MARGIN_MAX))
            else:
                self._found_ceiling(self.share * filled)
        self._level, self._at = max(self._level, float(self.limit), self._cap), now

    def _ends_at(self, reset_at: float) -> None:
        """A 429 says when the minute ends. Where we thought it quite another one, the level is counted anew."""
        moved = not self._phase_known or abs(reset_at - self._reset_at) > PHASE_MOVED_S
        self._phase_known = True
        if not moved:
            self._begin(self._start, reset_at)
            return
        self._begin(reset_at - MINUTE_S, reset_at)
        self._level, self._at = self._charged_since(self._start), self._start

    def _lag(self, reset_s: float | None, now: float) -> float | None:
        """How long ago the answer's figures were made, by when they say that the minute ends; None: not known."""
        if reset_s is None or reset_s > MINUTE_S + 1.0:
            return None
        if not self._phase_known:
            self._phase_known = True
            self._begin(now + reset_s - MINUTE_S, now + reset_s)
            return 0.0
        lag_s = now + reset_s - self._reset_at
        later_s = (lag_s + MINUTE_S / 2) % MINUTE_S - MINUTE_S / 2  # of the nearest minute's end
        self._latest_s = min(self._latest_s, later_s)
        return lag_s

    def _charged_by(self, moment: float) -> float:
        """What we had charged by then, to a quarter of a second."""
        charged = self.charged
        for at, before in reversed(self._marks):
            if at <= moment:
                break
            charged = before
        return charged

    def _charged_since(self, moment: float) -> float:
        """In their tokens."""
        return (self.charged - self._charged_by(moment)) * self.drift.factor

    def _roll(self, now: float) -> None:
        """A minute is over, or several."""
        minutes = int((now - self._reset_at) // MINUTE_S)
        reset_at = self._reset_at + MINUTE_S * minutes
        if self._latest_s < MINUTE_S:
            # No answer of the last minute was as early as we thought, or one was earlier than any before.
            reset_at += self._latest_s
        self._learn(minutes + 1)
        self._begin(reset_at, reset_at + MINUTE_S)
        self._level = 0.0
        self._latest_s = MINUTE_S
        self._headers_seen = self._limited = self._refused = False
        if now >= self._reset_at:
            self._roll(now)

    def _begin(self, start: float, reset_at: float) -> None:
        self._start, self._reset_at, self._at = start, reset_at, max(start, self._at)
        self.drift.restart()

    def _learn(self, minutes: int) -> None:
        """What the minute that ends teaches about how much of the limit can be used."""
        if self._refused:
            return
        margin = MARGIN_MIN + (self._margin - MARGIN_MIN) * MARGIN_KEPT
        if self._headers_seen:
            self._scale(1.0, margin)
            return
        self.drift.fade(1.0 - (1.0 - FORGET) ** minutes)
        self._calm_minutes += minutes
        if not self._limited:
            self._scale(self.share + (1.0 - self.share) * FORGET, margin)
        elif self._calm_minutes > self._hold_minutes:
            self._scale(self.share * (1.0 + self._step), margin)
            self._step = min(2 * self._step, STEP_MAX)

    def _found_ceiling(self, share: float) -> None:
        """Without headers a refusal is all that tells. The nearer to the last one, the longer it is not tried again."""
        same = abs(share - self._ceiling) < SAME * self._ceiling
        self._hold_minutes = min(2 * self._hold_minutes, HOLD_MINUTES_MAX) if same else HOLD_MINUTES
        self._ceiling = share
        self._scale(share * SHARE_AFTER_REFUSAL, self._margin)

    def _scale(self, share: float, margin: float) -> None:
        self.share = min(max(share, SHARE_MIN), SHARE_MAX)
        self._margin = margin
        self._cap = self.limit * self.share * (1.0 - margin)
