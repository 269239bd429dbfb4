"""The health of one deployment: its breaker, its ejections, its credential and its slow start, in one place.

Attempts that fail open the breaker at once; the sweep (`outliers`) ejects what is worse than its peers. Whatever the
cause, the way back is one: nobody for a while, then one request at a time, then a growing share of the traffic.
Throttling is not ill health, and what a client does wrong says nothing.
"""

import enum
import math
import random
from collections.abc import Callable
from math import inf
from typing import Final

from router.health.breaker import Breaker, Event, Phase, ejection_time_s, open_time_s
from router.health.pace import Pace
from router.health.settings import HealthSettings
from router.health.verdict import State, Verdict
from router.health.window import Window
from router.health.word import Word

RAMP_MIN: Final = 0.1
RAMP_AGGRESSION: Final = 1.0  # Envoy's slow start: 1 is linear, more is faster at first
CALM_S: Final = 10.0  # each so long in health takes one from what past failures add to the next time out
PROBES_BAD_MAX: Final = 3  # active ones in a row, without traffic, and the deployment counts as unreachable


class Cause(enum.Enum):
    """Why a deployment is out."""

    FAILING = enum.auto()  # its attempts failed
    SLOW = enum.auto()  # the sweep: slower than its peers
    UNSUCCESSFUL = enum.auto()  # the sweep: fails more often than its peers
    CREDENTIAL = enum.auto()  # the endpoint refused ours
    UNREACHABLE = enum.auto()  # active probes failed while there was no traffic


EJECTIONS: Final = {"slow": Cause.SLOW, "success_rate": Cause.UNSUCCESSFUL}
COMPARED: Final = frozenset(cause.name for cause in EJECTIONS.values())  # with its peers, of whom some must stay


class Health:
    """One deployment's. All times are monotonic seconds.

    `clear`, for the hot path: nothing need be asked, no ramp runs. `fresh` is called when it goes on probation: what
    was measured of it before says nothing any more (an average that remembers the slow answers would eject it again).
    """

    __slots__ = (
        "_calm_since",
        "_cause",
        "_ejections",
        "_failures",
        "_fresh",
        "_openings",
        "_probe_may_shorten",
        "_probed_ok",
        "_probes_bad",
        "_reason",
        "_rng",
        "breaker",
        "clear",
        "last_traffic_at",
        "pace",
        "settings",
        "trial_ended",
        "window",
        "word",
    )

    def __init__(self, settings: HealthSettings, rng: random.Random, fresh: Callable[[], object] | None = None) -> None:
        self.settings = settings  # may be replaced by those of a new configuration
        self.clear = True
        self.last_traffic_at = -inf  # of the last finished attempt that said something
        self.window = Window()
        self.pace = Pace()
        self.trial_ended = False  # a probe of a slow one ended well: whether in time is for the sweep to say
        self.breaker = Breaker()
        self.word: Word | None = None  # the last that was said of it, here or elsewhere
        self._rng, self._fresh = rng, fresh
        self._cause = Cause.FAILING
        self._reason = ""
        self._failures = 0  # in a row
        self._openings = self._ejections = 0  # not yet made good by health
        self._calm_since = 0.0
        self._probes_bad = 0  # in a row
        self._probed_ok = False
        self._probe_may_shorten = False

    # The life of an attempt.

    def refusal(self, now: float) -> str:
        """Why no attempt may begin here, or nothing where one may: `unhealthy`, `slow`."""
        if self.clear:
            return ""
        phase = self._advanced(now)
        if phase is Phase.OPEN or (phase is Phase.PROBING and self.breaker.probe_out):
            return "slow" if self._cause is Cause.SLOW else "unhealthy"
        return ""

    def begin(self, now: float) -> int:
        """Returns the permit with which the attempt's outcome is told: exactly once, by one of the next three."""
        if self.clear:
            return self.breaker.epoch
        self._advanced(now)
        return self.breaker.begin()

    def succeeded(self, permit: int, now: float) -> None:
        """The answer ended well."""
        if permit != self.breaker.epoch:
            return
        self.last_traffic_at = now
        self._failures = 0
        self.window.ok += 1
        if not self.clear and self.breaker.phase is Phase.PROBING:
            self.breaker.give_back(permit)
            self.trial_ended = True
            if self._cause is not Cause.SLOW:
                self.recover(now)

    def failed(self, permit: int, reason: str, now: float) -> str:
        """The deployment failed. Returns `opened` or `reopened` where that changed its state, else nothing."""
        if permit != self.breaker.epoch:
            return ""  # begun before the last transition: an old verdict must not decide a probe
        self.last_traffic_at = now
        self._failures += 1
        self._reason = reason
        self.window.bad += 1
        self._calm_since = now
        was = self.breaker.phase
        if was is not Phase.PROBING and self._failures < self.settings.consecutive_failures:
            return ""
        # Real traffic has tried again, and in vain: probes have no say until one of them has failed, too.
        self._probe_may_shorten = was is not Phase.PROBING
        self._open(Cause.FAILING, reason, now)
        return "reopened" if was is Phase.PROBING else "opened"

    def ignored(self, permit: int, now: float) -> None:  # noqa: ARG002  one signature for all outcomes
        """It ended without a word about the deployment: a client's error, a disconnect, throttling."""
        self.breaker.give_back(permit)

    def ramp(self, now: float) -> float:
        """The share of its full capacity that it should get, in (0, 1]; 1.0 where no slow start runs."""
        if self.clear or self._advanced(now) is not Phase.RECOVERING:
            return 1.0
        done = (now - self.breaker.since) / self.settings.slow_start_s
        return max(RAMP_MIN, min(1.0, math.pow(done, 1 / RAMP_AGGRESSION)))

    # What others say about it.

    def eject(self, reason: str, now: float) -> None:
        """By the sweep: `slow` or `success_rate`."""
        settings = self.settings
        if settings.ejection_s * self._ejections < settings.ejection_s_max:  # more would only have to be made good
            self._ejections += 1
        out_s = ejection_time_s(settings.ejection_s, settings.ejection_s_max, self._ejections, self._rng)
        self._trip(EJECTIONS[reason], reason, now, now + out_s)

    def recover(self, now: float) -> None:
        """Its probe went well: slow start."""
        self._back(Event.PASSED, now)

    def release(self, now: float) -> None:
        """By the sweep: it is needed, since too many of its peers are out."""
        self._back(Event.RELEASED, now)

    def condemn(self, reason: str, now: float, seconds: float) -> None:
        """Its endpoint refused our credential: out for so long, whatever the traffic says that still runs."""
        self._trip(Cause.CREDENTIAL, reason, now, now + seconds)

    def pardon(self) -> None:
        """Ends what `condemn` began: the next request finds out."""
        if self._cause is Cause.CREDENTIAL and self.breaker.phase is Phase.OPEN:
            self.breaker.until = -inf

    def hear(self, word: Word, now: float) -> bool:
        """Takes over another process's word, unless a stronger one is known. True: what may be asked has changed."""
        if not word.outweighs(self.word):
            return False
        self.word = word
        self._openings, self._ejections = max(self._openings, word.openings), max(self._ejections, word.ejections)
        if word.out:
            self._go_out(Cause[word.cause], word.reason, word.at, word.until)
            return True
        phase = self._advanced(now)
        if phase is Phase.OPEN or phase is Phase.PROBING:
            self._come_back(Event.RELEASED, word.at)
        elif phase is Phase.CLOSED and now - word.at < self.settings.slow_start_s:  # it was not here while it was out
            self._go_out(Cause[word.cause], word.reason, word.at, word.at)
            self._come_back(Event.RELEASED, word.at)
        else:
            return False
        return True

    def probed(self, ok: bool | None, now: float) -> None:
        """Takes an active probe's word; None: it could not tell. Real traffic has the last one."""
        if ok is None:
            return
        self._probed_ok = ok
        if not ok:
            self._probe_failed(now)
            return
        self._probes_bad = 0
        if self.breaker.phase is not Phase.OPEN:
            return
        if self._cause is Cause.UNREACHABLE:  # what probes alone have closed, they alone may open
            self._cool(now)
            self.recover(now)
        elif self._cause is Cause.FAILING and self._probe_may_shorten:
            self._cool(now)

    def tick(self, now: float) -> None:
        """Lets time pass where no request does. Called by the sweep."""
        self.window.roll(now)
        if not self.clear:
            self._advanced(now)
        elif now - self._calm_since >= CALM_S:
            self._calm_since = now
            self._openings = max(0, self._openings - 1)
            self._ejections = max(0, self._ejections - 1)

    # What it is.

    @property
    def out(self) -> bool:
        """Takes no traffic, or one probe at a time."""
        return self.breaker.phase is Phase.OPEN or self.breaker.phase is Phase.PROBING

    @property
    def ejected(self) -> bool:
        """Out because of the sweep, which may take that back."""
        return self.out and (self._cause is Cause.SLOW or self._cause is Cause.UNSUCCESSFUL)

    @property
    def on_trial(self) -> bool:
        """It was slow: the sweep has to say whether its probe was in time."""
        return self.breaker.phase is Phase.PROBING and self._cause is Cause.SLOW

    @property
    def until(self) -> float:
        """When it may be probed, if it is out."""
        return self.breaker.until

    def phase(self, now: float) -> Phase:
        """Its breaker's."""
        return Phase.CLOSED if self.clear else self._advanced(now)

    @property
    def since(self) -> float:
        """When its phase began."""
        return self.breaker.since

    def verdict(self, now: float) -> Verdict:
        """What its own signals come to; `verdict.merged` adds what the owner knows."""
        breaker = self.breaker
        if breaker.phase is Phase.OPEN and now < breaker.until:
            return Verdict(State.EJECTED, self._reason, breaker.until)
        if breaker.phase is Phase.OPEN or breaker.phase is Phase.PROBING:
            return Verdict(State.PROBING, self._reason)
        if breaker.phase is Phase.RECOVERING:
            return Verdict(State.DEGRADED, "slow_start", breaker.since + self.settings.slow_start_s)
        if self._failures:
            return Verdict(State.DEGRADED, self._reason)
        if self.last_traffic_at == -inf and not self._probed_ok:
            return Verdict(State.UNKNOWN, "no_traffic")
        return Verdict(State.UP)

    # Transitions.

    def _advanced(self, now: float) -> Phase:
        """The phase, after what time alone brings about."""
        breaker = self.breaker
        if breaker.phase is Phase.OPEN and now >= breaker.until:
            self._cool(now)
        elif breaker.phase is Phase.RECOVERING and now - breaker.since >= self.settings.slow_start_s:
            breaker.fire(Event.RAMPED, now)
            self.clear = True
            self._calm_since = now
        return breaker.phase

    def _open(self, cause: Cause, reason: str, now: float) -> None:
        settings = self.settings
        if settings.open_s * 2.0 ** (self._openings - 1) < settings.open_s_max:
            self._openings += 1
        open_s = open_time_s(settings.open_s, settings.open_s_max, self._openings, self._rng)
        self._trip(cause, reason, now, now + open_s)

    def _trip(self, cause: Cause, reason: str, now: float, until: float) -> None:
        if self.breaker.phase is Phase.OPEN:
            until = max(until, self.breaker.until)
        self._go_out(cause, reason, now, until)
        self._say(now, until, out=True)

    def _go_out(self, cause: Cause, reason: str, at: float, until: float) -> None:
        self.breaker.fire(Event.TRIPPED, at, until)
        self.clear = False
        self._cause, self._reason = cause, reason

    def _cool(self, now: float) -> None:
        self.breaker.fire(Event.COOLED, now)
        self.trial_ended = False
        if self._fresh is not None:
            self._fresh()

    def _back(self, event: Event, now: float) -> None:
        self._come_back(event, now)
        self._say(now, now, out=False)

    def _come_back(self, event: Event, at: float) -> None:
        self.breaker.fire(event, at)
        self._failures = 0
        self.window.clear(at)
        self.pace.forget()

    def _say(self, now: float, until: float, *, out: bool) -> None:
        self.word = Word(now, out, self._cause.name, self._reason, until, self._openings, self._ejections)

    def _probe_failed(self, now: float) -> None:
        self._probe_may_shorten = True
        quiet = now - self.last_traffic_at >= self.settings.probe_every_s
        self._probes_bad = self._probes_bad + 1 if quiet else 0
        if self._probes_bad >= PROBES_BAD_MAX and not self.out:
            self._probes_bad = 0
            self._open(Cause.UNREACHABLE, "unreachable", now)
