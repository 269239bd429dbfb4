"""Who may use how much of a quota's minute that is too short for all who ask.

Their counter starts anew each minute, so without this the minute is whoever's asks first: a key that offers many times
its share has used it up in seconds, and for the rest of it the others are turned away. Kept only while somebody is.

The minute is divided as max-min fairness has it, by weight: who was turned away in this minute or the last one gets
what is left when those are content who use less than that. Nothing is handed out beforehand: whoever is beyond its
part may have all that the others are not expected to want in the rest of the minute.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Final, TypeAlias

from router.limits.token_minute import MINUTE_S
from router.model.policy import Priority

LOOK_EVERY_S: Final = 0.25  # parts are reckoned again
HEADROOM: Final = 1.25  # times what a content key used in the last minute is expected of this one
SLACK: Final = (
    0.02  # of the minute is for nobody beyond its part: what is left is a belief, and others would pay for it
)
FLOOR: Final = 0.05  # of the minute is kept for each priority, as far as it wants that

News: TypeAlias = tuple[str, float, int, float, bool]
"""Of one key: its name, weight, priority, the tokens it used, and whether it was turned away."""


class Use:
    """What one key does in this minute and did in the last."""

    __slots__ = ("before", "level", "missed", "missed_before", "part", "priority", "told", "used", "weight")

    def __init__(self, weight: float, priority: int, level: float) -> None:
        self.weight = weight
        self.priority = priority
        self.level = level  # so many tokens it may use whatever the others want
        self.part = 0.0  # so many it is expected to want, and may
        self.used = self.before = 0.0
        self.missed = self.missed_before = False  # it was turned away
        self.told = 0.0, False  # of what it used and missed, what other processes know

    @property
    def wanted(self) -> float:
        """Tokens of the whole minute."""
        if self.missed or self.missed_before:
            return inf
        return max(self.used, self.before * HEADROOM)


class MinuteShares:
    """One quota's, by key. Tokens are our own estimates; `left` of the minute likewise."""

    __slots__ = ("_ends_at", "_kept", "_levels", "_look_at", "idle", "uses")

    def __init__(self, ends_at: float) -> None:
        """`ends_at`: of the running minute, in monotonic seconds."""
        self.uses: dict[str, Use] = {}
        self._ends_at = ends_at
        self._look_at = 0.0
        self._kept = 0.0  # of what is left, all parts that are still wanted
        self._levels = dict.fromkeys(Priority, 0.0)  # for a weight of 1, where somebody of this priority is turned away
        self.idle = False  # nobody was turned away in this minute and the last: there is nothing to divide

    def wait_s(
        self, name: str, weight: float, priority: int, tokens: float, left: float, ends_at: float, now: float
    ) -> float:
        """0.0 where a request may have so much of what is left, else seconds until the minute is over."""
        if now >= self._look_at:
            self._look(left, ends_at, now)
        use = self._use(name, weight, priority)
        # The request that crosses its level passes, else one that is larger than a level never would.
        if use.used < use.level or left - tokens >= self._kept - self._wanted_still(use, now):
            return 0.0
        return max(ends_at - now, 0.001)

    def charge(self, name: str, weight: float, priority: int, tokens: float) -> None:
        """A request begins; less than 0: it was never sent."""
        self._use(name, weight, priority).used += tokens

    def missed(self, name: str, weight: float, priority: int) -> None:
        """A request was turned away: this key wants more than it gets."""
        use = self._use(name, weight, priority)
        if not use.missed:
            use.missed = True
            self.idle = False

    def news(self) -> list[News]:
        """What others have not been told."""
        found = []
        for name, use in self.uses.items():
            if (use.used, use.missed) != use.told:
                found.append((name, use.weight, use.priority, use.used - use.told[0], use.missed))
                use.told = use.used, use.missed
        return found

    def learn(self, news: Iterable[News], ends_at: float, now: float) -> None:
        """What was charged and missed at another process a moment ago."""
        self._pass_time(ends_at, now)
        for name, weight, priority, tokens, missed in news:
            use = self._use(name, weight, priority)
            use.used += tokens
            use.missed = use.missed or missed
            use.told = use.told[0] + tokens, use.missed

    def _use(self, name: str, weight: float, priority: int) -> Use:
        use = self.uses.get(name)
        if use is None:
            use = self.uses[name] = Use(weight, priority, self._levels[Priority(priority)] * weight)
        use.weight, use.priority = weight, priority
        return use

    def _look(self, left: float, ends_at: float, now: float) -> None:
        self._look_at = now + LOOK_EVERY_S
        self._pass_time(ends_at, now)
        self._divide(left, now)

    def _pass_time(self, ends_at: float, now: float) -> None:
        """Where a minute is over; who neither used nor missed anything in the last one is forgotten."""
        over_s, self._ends_at = now - self._ends_at, ends_at
        if over_s < 0.0 and ends_at < now - over_s + MINUTE_S / 2:
            return  # it is the same one, whose end may be better known by now
        if over_s >= MINUTE_S:
            self.uses.clear()  # nobody asked for a whole minute
        self.uses = {name: use for name, use in self.uses.items() if use.used or use.missed or use.missed_before}
        for use in self.uses.values():
            use.before, use.used, use.told = use.used, 0.0, (0.0, False)
            use.missed, use.missed_before = False, use.missed
        self.idle = not any(use.missed_before for use in self.uses.values())

    def _divide(self, left: float, now: float) -> None:
        """Water-filling, the highest priority first, but for the floors of the lower ones."""
        by_priority: Mapping[int, list[Use]] = {priority: [] for priority in Priority}
        rest = left
        for use in self.uses.values():
            by_priority[use.priority].append(use)
            rest += use.used
        slack = SLACK * rest
        floors = {
            priority: min(FLOOR * rest, sum(use.wanted for use in uses)) for priority, uses in by_priority.items()
        }
        for priority in reversed(Priority):
            kept = sum(floors[lower] for lower in range(priority))
            given, self._levels[priority] = _fill(by_priority[priority], max(0.0, rest - kept))
            rest -= given
        self._kept = slack + sum(self._wanted_still(use, now) for use in self.uses.values())

    def _wanted_still(self, use: Use, now: float) -> float:
        """Of its part: what it is taken to use evenly over the minute, so that what it leaves does not go to waste."""
        share_left = (self._ends_at - now) / MINUTE_S
        return max(0.0, min(use.part - use.used, use.part * share_left))


def _fill(uses: list[Use], tokens: float) -> tuple[float, float]:
    """Divides so many tokens by weight among those who want them.

    Returns how many are given, and how many one of weight 1 may have where somebody gets less than it wants, else 0.
    """
    given, level, weights = 0.0, inf, sum(use.weight for use in uses)
    for use in sorted(uses, key=lambda use: use.wanted / use.weight):
        level = (tokens - given) / weights
        use.part = min(use.wanted, level * use.weight)
        given += use.part
        weights -= use.weight
    short = any(use.part < use.wanted for use in uses)
    for use in uses:
        use.level = level * use.weight if short else use.part
    return given, level if short else 0.0
