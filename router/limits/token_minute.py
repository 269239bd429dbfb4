"""Azure's tokens a minute: a counter that starts again each minute, at a moment and by an estimate that are theirs.

What we believe of it is a level (how much of the minute is used), moved by our own charges and by a steady drain of
others on the same quota, and corrected by what each answer says is left.
"""

from typing import Final

MINUTE_S: Final = 60.0
MARGIN: Final = 0.02  # of the limit stays unused: sends on their way, others' bursts
DEADBAND: Final = 0.01  # of the limit: what a lag that is known to a second only may explain
FALL_MAX: Final = 0.25  # of the limit: the counter has started again; sends on their way are never so many
SETTLE: Final = 0.2  # share of an overestimate that is taken back by each answer
PHASE_KNOWN_S: Final = 2.0  # of a beginning minute in which a 429 says that ours begins too early
SHARE_MIN: Final = 0.05
SHARE_MAX: Final = 2.0
SHARE_AFTER_REFUSAL: Final = 0.97  # of the share at which it came
HOLD_MINUTES: Final = 5  # of peace after a refusal, before more is tried
STEP_FIRST: Final = 0.02  # more of the limit each minute, doubled while nothing happens
STEP_MAX: Final = 0.1
FORGET: Final = 0.1  # of what was learned and not needed, each minute


class TokenMinute:
    """One quota's. Tokens are charged by our estimate and counted in theirs, as far as `factor` is known."""

    __slots__ = (
        "_at",
        "_calm_minutes",
        "_cap",
        "_headers_seen",
        "_latest_s",
        "_level",
        "_limited",
        "_phase_known",
        "_refused",
        "_reset_at",
        "_spans",
        "_start",
        "_step",
        "charged",
        "limit",
        "share",
        "tpm",
    )

    def __init__(self, tpm: int, now: float) -> None:
        self.tpm = tpm  # configured
        self.limit = tpm  # in force
        self.share = 1.0  # of the limit that can be used, learned where no headers tell
        self.charged = 0.0  # by our own estimate, ever
        self._spans = Spans(tpm / MINUTE_S)
        self._cap = tpm * (1.0 - MARGIN)
        self._start, self._reset_at = now, now + MINUTE_S
        self._phase_known = False
        self._level, self._at = 0.0, now
        self._latest_s = MINUTE_S  # how much later than ours a minute may end, by the answers of this one
        self._headers_seen = self._limited = self._refused = False
        self._calm_minutes = HOLD_MINUTES
        self._step = STEP_FIRST

    @property
    def factor(self) -> float:
        """What they count for one token of our estimate."""
        return self._spans.factor

    @property
    def drain(self) -> float:
        """What others use, in tokens a second."""
        return self._spans.drain

    def wait_s(self, tokens: int, now: float) -> float:
        if now >= self._reset_at:
            self._roll(now)
        spans = self._spans
        if self._level + tokens * spans.factor + (now - self._at) * spans.drain <= self._cap:
            return 0.0
        if self._level <= 0.0:
            return 0.0  # more than a whole minute's: nobody but they can say whether it passes
        self._limited = True
        return self._reset_at - now

    def charge(self, tokens: int, now: float) -> None:
        if now >= self._reset_at:
            self._roll(now)
        self.charged += tokens
        self._level += tokens * self._spans.factor

    def left(self, now: float) -> float:
        if now >= self._reset_at:
            self._roll(now)
        return max(0.0, self._cap - self._level - (now - self._at) * self._spans.drain)

    def filled(self, now: float) -> float:
        """Share of what may be used that is used."""
        return 1.0 - self.left(now) / self._cap if self._cap > 0.0 else 1.0

    def told(self, limit: int | None, remaining: int, reset_s: float | None, now: float) -> None:
        """An answer says what is left. It may be older than some of our charges, by as much as `lag_s` below."""
        if now >= self._reset_at:
            self._roll(now)
        # A higher limit than the configured one is not used: the rest may be meant for others.
        in_force = min(limit, self.tpm) if limit else self.tpm
        if in_force != self.limit:
            self._limit(in_force)
        used = max(0.0, float((limit or self.tpm) - remaining))
        if limit and limit > self.tpm:
            used -= limit - self.tpm
        lag_s = self._lag(reset_s, now)
        if lag_s is not None and lag_s < -PHASE_KNOWN_S:
            return  # from the minute before
        level = self._level + (now - self._at) * self._spans.drain
        if used < level - FALL_MAX * self.limit and lag_s is None:
            self._begin(now, now + MINUTE_S)
            self._level = used
        else:
            self._correct(level, used, lag_s, now)
        self._headers_seen = True
        self._spans.add(used, self.charged, now)

    def refused(self, wait_s: float | None, now: float) -> None:
        """A 429 for tokens, which we thought would pass."""
        if now >= self._reset_at:
            self._roll(now)
        filled = self.filled(now)
        early = now - self._start < PHASE_KNOWN_S and self._phase_known
        if wait_s is not None and 0.0 < wait_s < MINUTE_S:
            self._begin(self._start, now + wait_s)
            self._phase_known = True
        if filled < 1.0 and not early:
            self._refused = True
            self._calm_minutes, self._step = 0, STEP_FIRST
            self._share(self.share * filled * SHARE_AFTER_REFUSAL)
        self._level, self._at = max(self._level, float(self.limit), self._cap), now

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

    def _correct(self, level: float, used: float, lag_s: float | None, now: float) -> None:
        """Believes more at once, and less slowly, and only where it is known what cannot be in the answer yet."""
        spans = self._spans
        unseen = max(0.0, lag_s) * (spans.rate * spans.factor + spans.drain) if lag_s is not None else 0.0
        error = used + unseen - level
        slack = DEADBAND * self.limit
        if error > slack:
            self._level, self._at = level + error - slack, now
        elif error < -slack and lag_s is not None:
            self._level, self._at = level + SETTLE * (error + slack), now

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
        self._spans.restart()

    def _learn(self, minutes: int) -> None:
        """What the minute that ends teaches about the share."""
        if self._headers_seen:
            if not self._refused:
                self._share(1.0)
            return
        self._spans.forget(FORGET)
        if self._refused:
            return
        self._calm_minutes += minutes
        if not self._limited:
            self._share(self.share + (1.0 - self.share) * FORGET)
        elif self._calm_minutes > HOLD_MINUTES:
            self._share(self.share * (1.0 + self._step))
            self._step = min(2 * self._step, STEP_MAX)

    def _share(self, share: float) -> None:
        self.share = min(max(share, SHARE_MIN), SHARE_MAX)
        self._limit(self.limit)

    def _limit(self, limit: int) -> None:
        self.limit = limit
        self._cap = limit * self.share * (1.0 - MARGIN)


SPAN_S: Final = 2.0
KEEP: Final = 0.9  # of the sums, each span: a memory of ten spans
PULL: Final = 0.2  # towards a true estimate and nobody else, in spans
FACTOR_MIN: Final = 0.5
FACTOR_MAX: Final = 2.0


class Spans:
    """What they counted against what we charged, span by span: how far our estimate is off, and who else is there.

    Least squares of `used = factor * charged + drain * time` with forgetting, drawn towards 1 and 0 where the spans do
    not tell the two apart. A lag that all answers share drops out, since only differences count.
    """

    __slots__ = ("_at", "_cc", "_charged", "_ct", "_cu", "_rate", "_tt", "_tu", "_used", "drain", "factor", "rate")

    def __init__(self, rate: float) -> None:
        self._rate = max(rate, 1.0)  # tokens a second at the limit: the unit in which all sums are kept
        self._cc = self._ct = self._tt = self._cu = self._tu = 0.0
        self._at: float | None = None
        self._used = self._charged = 0.0
        self.factor, self.drain = 1.0, 0.0
        self.rate = 0.0  # of our charges in the last span, tokens a second

    def restart(self) -> None:
        """The counter starts again: no span reaches over that."""
        self._at = None

    def add(self, used: float, charged: float, now: float) -> None:
        at = self._at
        if at is None:
            self._at, self._used, self._charged = now, used, charged
            return
        if now - at < SPAN_S:
            return
        time, counted = now - at, (used - self._used) / self._rate
        ours = (charged - self._charged) / self._rate
        self._at, self._used, self._charged = now, used, charged
        self.rate = ours * self._rate / time
        if counted < 0.0:
            return  # it started again unseen
        scale = SPAN_S / time / SPAN_S  # a long span says as much as a short one
        time, counted, ours = time * scale, counted * scale, ours * scale
        self._cc = KEEP * self._cc + ours * ours
        self._ct = KEEP * self._ct + ours * time
        self._tt = KEEP * self._tt + time * time
        self._cu = KEEP * self._cu + ours * counted
        self._tu = KEEP * self._tu + time * counted
        self._solve()

    def forget(self, share: float) -> None:
        """Nothing was seen for a minute: what is believed fades, and with it what it rests on."""
        self.factor += (1.0 - self.factor) * share
        self.drain -= self.drain * share
        self._cc = self._ct = self._tt = self._cu = self._tu = 0.0

    def _solve(self) -> None:
        cc, tt, cu = self._cc + PULL, self._tt + PULL, self._cu + PULL
        factor = (cu * tt - self._ct * self._tu) / (cc * tt - self._ct * self._ct)
        self.factor = factor = min(max(factor, FACTOR_MIN), FACTOR_MAX)
        self.drain = max(0.0, (self._tu - factor * self._ct) / tt) * self._rate
