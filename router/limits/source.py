"""Something that is used up: a rate, a number of places, money. One protocol, whoever holds it.

Units are what is counted: requests, tokens, places, nano-dollars. `now`: monotonic seconds.
"""

from typing import Final, Protocol

SLACK: Final = 1e-6
"""Units by which a rounded sum may fall short of whole ones; it stays owed, so that nothing adds up."""

WAIT_MIN_S: Final = 1e-6
"""No wait is so short that a clock which has run for ten years would not see it pass (2**-24 s)."""


class Source(Protocol):
    """What a request takes from, and gives back to. At one holder's place it may be a lease of another's."""

    def take(self, units: float, now: float) -> float:
        """0.0: taken, whole. Else nothing is: in so many seconds it may be. `inf`: never, `lease.ASK`: ask above."""

    def draw(self, units: float, now: float) -> float:
        """Takes as much as there is, at most `units`; returns how much."""

    def put(self, units: float, now: float) -> None:
        """Gives back what was not used. Less than 0: more was used than taken, a debt that goes first."""

    def lend(self, outstanding: float, now: float) -> None:
        """So much of what was drawn lies unspent at others: together with what is left it is never above the burst."""

    def left(self, now: float) -> float:
        """What could be drawn; less than 0 while there is a debt."""

    def reset_s(self, now: float) -> float:
        """Until it is full again, if nobody takes more; 0.0 where it is, or where time does not fill it."""

    def forfeit(self, units: float, now: float) -> None:
        """A holder is gone that had so much, some of it spent perhaps and not told yet."""
