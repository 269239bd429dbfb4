"""How far their count of tokens runs away from ours, and why: a different estimate, or somebody else on the quota."""

from typing import Final

SPAN_S: Final = 5.0  # the shortest that is compared: when their figures were made is known to a second only
KEEP: Final = 0.85  # of what earlier spans said: two minutes leave a fiftieth
TRUST: Final = 2.0  # in our own estimate, in spans: noise in the moments would else pass for a drain
PULL: Final = 0.05  # towards nobody else, in spans
FACTOR_MIN: Final = 0.5
FACTOR_MAX: Final = 2.0


class Drift:
    """Least squares of `their rate = factor * our rate + drain` over spans, with forgetting and a pull towards (1, 0).

    While our own rate hardly changes the two cannot be told apart. They need not be: any split predicts the same.
    """

    __slots__ = (
        "_at",
        "_charged",
        "_n",
        "_ours",
        "_ours_ours",
        "_ours_used",
        "_unit",
        "_used",
        "_used_sum",
        "drain",
        "factor",
    )

    def __init__(self, unit: float) -> None:
        """`unit`: tokens a second at the limit, in which the sums are kept."""
        self._unit = unit
        self._n = self._ours = self._ours_ours = self._used_sum = self._ours_used = 0.0
        self._at: float | None = None  # when the span that runs began
        self._used = self._charged = 0.0  # what they and we had counted then
        self.factor = 1.0  # tokens that they count for one of ours
        self.drain = 0.0  # tokens a second

    def restart(self) -> None:
        """Their counter starts again: no span reaches over that."""
        self._at = None

    def add(self, used: float, charged: float, at: float) -> None:
        """At one moment, they had counted `used` this minute, and we had charged `charged`, since whenever."""
        if self._at is None:
            self._at, self._used, self._charged = at, used, charged
            return
        span_s = at - self._at
        if span_s < SPAN_S:
            return
        scale = 1.0 / (span_s * self._unit)
        theirs, ours = (used - self._used) * scale, (charged - self._charged) * scale
        self._at, self._used, self._charged = at, used, charged
        if theirs < 0.0:
            return  # it started again unseen
        self._n = KEEP * self._n + 1.0
        self._ours = KEEP * self._ours + ours
        self._ours_ours = KEEP * self._ours_ours + ours * ours
        self._used_sum = KEEP * self._used_sum + theirs
        self._ours_used = KEEP * self._ours_used + ours * theirs
        self._solve()

    def fade(self, share: float) -> None:
        """Nothing was told for a while: what is believed fades, and what it rests on is forgotten."""
        self.factor += (1.0 - self.factor) * share
        self.drain -= self.drain * share
        self._n = self._ours = self._ours_ours = self._used_sum = self._ours_used = 0.0

    def _solve(self) -> None:
        n, ours_ours, ours_used = self._n + PULL, self._ours_ours + TRUST, self._ours_used + TRUST
        # By Cauchy and Schwarz the determinant is positive, whatever was seen.
        factor = (ours_used * n - self._ours * self._used_sum) / (ours_ours * n - self._ours * self._ours)
        factor = min(max(factor, FACTOR_MIN), FACTOR_MAX)
        drain = (self._used_sum - factor * self._ours) / n
        if drain < 0.0:  # nobody gives tokens back: then it is the estimate alone
            factor, drain = min(max((self._ours_used + PULL) / (self._ours_ours + PULL), FACTOR_MIN), FACTOR_MAX), 0.0
        self.factor, self.drain = factor, drain * self._unit
