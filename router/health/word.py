"""What one process says to others of a deployment's health: it is out, or it is back.

The last word counts. Time is one for all processes of a machine, so whoever has heard the same words, in whichever
order, holds the same of a deployment. What time alone brings about (a probe, the end of a ramp) needs no word.
"""

import msgspec


class Word(msgspec.Struct, frozen=True, array_like=True):
    """`at`, `until`: monotonic seconds. `cause`: a name of `health.Cause`.

    `openings`, `ejections`: how often it was out for which its health has not made good yet.
    """

    at: float
    out: bool
    cause: str
    reason: str
    until: float
    openings: int
    ejections: int

    def outweighs(self, other: "Word | None") -> bool:
        """Later is stronger; of one moment, what is the safer."""
        return other is None or (self.at, self.out, self.until) > (other.at, other.out, other.until)
