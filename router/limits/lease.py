"""A part of a limit that several share: units that a superior hands out in slices, so that taking one stays local.

The superior is the supervisor to a worker, and Redis to a router. What a holder has not spent it tells with each ask,
and the superior keeps `left + all that is held <= burst`. From that follows, whatever the holders do and however late
messages come: in any window of T seconds all of them together spend at most `burst + rate * T`.
"""

from math import floor, inf
from typing import Final

import msgspec

ASK: Final = -1.0
"""What a lease answers that has too little and does not know of its superior: ask, and take again."""

TICK_S: Final = 0.1  # between two looks at all leases
IDLE_S: Final = 1.0  # after which units that nobody needed go back, and after a tick where others are short of them
ASK_AGAIN_S: Final = (0.002, 0.1)  # at least, lest a fast rate be asked for unit by unit; and at most: others give back


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """What a holder says of one limit.

    `held`: what lies unspent with it, and with those below it, once `returned` has left. `returned`: unused or, less
    than 0, used beyond what was granted. Of places `held` is all that it has, taken or free, and says everything:
    `returned` is 0. `least`: with less than this the first who waits is not helped; 0: nobody waits.
    """

    limit: str
    wanted: float
    returned: float
    held: float
    least: float = 0.0


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """The answer to an ask. `wait_s`: until there may be more, where it is less than was wanted; `inf`: never.

    `ASK`: the superior has too little of a lease of its own. It may ask, and answer the same again, with 0 returned.

    `left`, `reset_s`: at the superior, after this.
    """

    limit: str
    units: float
    wait_s: float = 0.0
    left: float = 0.0
    reset_s: float = 0.0


def slice_of(burst: float, holders: int) -> int:
    """What each holder may keep in stock. 0: it asks for one at a time.

    Half of the burst at most lies with holders who may not need it; the rest is there for whoever does.
    """
    return floor(burst / (2 * holders))


class Lease:
    """One holder's part of one limit. A `Source`, also for holders below it.

    It is silent while nothing happens: whoever owns it calls `ask` when `take` says so, and each tick until it is
    `idle`. With each `grant` all who wait take again, and those for whom it was not enough are told so or ask again.
    """

    __slots__ = (
        "_ask_at",
        "_back",
        "_borrows",
        "_first",
        "_held",
        "_known",
        "_least",
        "_lent",
        "_look_at",
        "_low",
        "_refused",
        "_sent",
        "_short",
        "_stock",
        "_told_at",
        "_told_left",
        "_told_reset_s",
        "_until",
        "_wanted",
        "_wants",
        "full",
        "largest",
        "limit",
        "rate_per_s",
        "slice_units",
    )

    def __init__(
        self,
        limit: str,
        slice_units: float,
        *,
        rate_per_s: float = 0.0,
        full: float = inf,
        largest: float = inf,
        borrows: bool = False,
    ) -> None:
        """`rate_per_s`, `full`: of the whole limit, to tell what is left of it. `largest`: more than this never passes.

        `borrows`: what is taken comes back (places), so that all that was granted counts as held.
        """
        self.limit, self.slice_units = limit, slice_units
        self.rate_per_s, self.full, self.largest = rate_per_s, full, largest
        self._borrows = borrows
        self._held = 0.0  # may be spent here; less than 0: a debt
        self._known = 0.0  # what the superior thinks is held, here and below: more must never be
        self._lent = 0.0  # of that, below
        self._back = 0.0  # waits to go back
        self._stock = self._low = 0.0  # what was held after the last grant or look, and the least since
        self._look_at = 0.0
        self._wants = self._first = 0.0  # what those who wait take together, and the first of them
        self._sent = False  # an ask is under way,
        self._wanted = self._least = 0.0  # for so much
        self._short = False  # there was less than that, or hardly more: no stock is kept
        self._refused = 0.0  # so much was not there at all,
        self._ask_at = self._until = 0.0  # may be asked for again, and should be there
        self._told_left, self._told_reset_s, self._told_at = full, 0.0, 0.0

    @property
    def idle(self) -> bool:
        """Nothing is held, wanted or to be told."""
        return not (self._held or self._known or self._back or self._wants or self._sent)

    def take(self, units: float, now: float) -> float:
        held = self._held - units
        if held < 0.0:
            return self._miss(units, now)
        self._held = held
        if held < self._low:
            self._low = held
        return 0.0

    def draw(self, units: float, now: float) -> float:  # noqa: ARG002 - as for every source
        drawn = min(units, max(0.0, self._held))
        self._held -= drawn
        self._low = min(self._low, self._held)
        return drawn

    def put(self, units: float, now: float) -> None:  # noqa: ARG002
        held = self._held + units
        room = self._known - self._lent
        if held > room:  # it was told as spent: it can be spent again once the superior knows
            self._back += held - room
            held = room
        self._held = held
        if held < self._low:
            self._low = held

    def lend(self, outstanding: float, now: float) -> None:  # noqa: ARG002
        self._lent = outstanding
        if self._borrows:  # as with `Slots`: what those below have is what is taken
            self._held = self._known - outstanding

    def forfeit(self, units: float, now: float) -> None:
        if not self._borrows and not self.rate_per_s:
            self.put(units, now)

    def surrender(self) -> None:
        """All that is held unspent goes back with the next ask: under other figures it may be more than there is."""
        if self._held > 0.0:
            self._back += self._held
            self._held = self._low = 0.0

    def recall(self) -> None:
        """Another holder is short: what nobody waits for here goes back with the next ask, and no stock is kept."""
        self._short, self._look_at, self._low = True, 0.0, max(0.0, self._held)

    def left(self, now: float) -> float:
        """Of the whole limit, as far as it is known: what the superior told, and what time has added since."""
        return min(self.full, self._told_left + (now - self._told_at) * self.rate_per_s + self._held)

    def reset_s(self, now: float) -> float:
        if self.rate_per_s:
            return max(0.0, self.full - self.left(now)) / self.rate_per_s
        return max(0.0, self._told_reset_s - (now - self._told_at))

    def ask(self, now: float) -> Ask | None:
        """What the superior should hear now, if anything. One at a time: the next comes after `grant`."""
        if self._sent:
            return None
        returned = self._spare(now)
        wanted, least = self._need(now)
        held = self._held + self._lent
        if self._borrows:
            held, returned = self._known - returned, 0.0
        if not self._wants and not wanted and not returned and held == self._known:
            return None
        self._known, self._sent, self._wanted, self._least = held, True, wanted, least
        return Ask(self.limit, wanted, returned, held, least)

    def grant(self, grant: Grant, now: float) -> None:
        """Takes in what the superior answered."""
        self._sent, self._wants = False, 0.0
        self._known += grant.units
        self._held += grant.units
        self._told_left, self._told_reset_s, self._told_at = grant.left, grant.reset_s, now
        if not self._wanted:
            return
        self._stock = self._low = self._held
        # Where less than a slice is left, the next stock would be taken from those who need it at once.
        self._short = grant.units < self._wanted or grant.left < self.slice_units
        self._look_at = now + self._patience_s()
        if self._least and not grant.units:  # only who asked for a request was given what others could spare
            shortest_s, longest_s = ASK_AGAIN_S
            self._refused = max(1.0, self._least)
            self._ask_at = now + min(max(grant.wait_s, shortest_s), longest_s)
            self._until = max(now + grant.wait_s, self._ask_at)

    def unanswered(self) -> None:
        """The superior cannot be reached, or its answer is lost: the next ask tells what is true by then."""
        self._sent, self._wants = False, 0.0

    def _miss(self, units: float, now: float) -> float:
        """There is too little here: is it known that there is too little above as well?"""
        if units > self.largest:
            return inf
        lacks = units - self._held
        if now < self._ask_at and lacks >= self._refused:
            more_s = (lacks - self._refused) / self.rate_per_s if self.rate_per_s else 0.0
            return self._until - now + more_s
        if not self._wants:
            self._first = units
        self._wants += units
        return ASK

    def _need(self, now: float) -> tuple[float, float]:
        """What to ask for, and what the first of those who wait cannot do without."""
        held, most = self._held, self.slice_units
        if self._wants:
            first = self._first
            most = max(most, first)
            wanted = min(self._wants, most) if self._short else most
            return max(0.0, wanted - held), max(0.0, first - held)
        runs_low = held < most / 2 and held < self._stock
        return (most - held, 0.0) if runs_low and not self._short and now >= self._ask_at else (0.0, 0.0)

    def _spare(self, now: float) -> float:
        """Takes off what goes back: refunds, a debt, what is above the slice, and what nobody needed for a while."""
        spare, self._back = self._back, 0.0
        if self._held < 0.0:
            debt, self._held = self._held, 0.0
            return spare + debt
        if self._wants:
            return spare
        idle = 0.0
        if now >= self._told_at + TICK_S:  # not while those for whom it came may still be on their way
            idle = max(idle, self._held - self.slice_units)
        if now >= self._look_at:
            idle = max(idle, self._low)
            self._look_at = now + self._patience_s()
            self._low = self._held - idle
        if idle:
            self._held -= idle
            self._low = min(self._low, self._held)
            self._stock = self._held
        return spare + idle

    def _patience_s(self) -> float:
        return TICK_S if self._short or self._borrows else IDLE_S
